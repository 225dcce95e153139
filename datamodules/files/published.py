"""Data sets that are published as files with known md5s."""

from abc import abstractmethod
from typing import Any, ClassVar, get_args

from datamodules.base import ImageDataModule
from datamodules.files.fileset import Checksums, FileSet, Read
from datamodules.loading import ImageArrays


class PublishedDataModule(ImageDataModule):
    """An image data set whose files are verified every time before they are parsed.

    Args:
        checksums: ``official`` requires the published md5s. ``recorded`` requires those that the folder's own
            ``checksums.md5`` states, for miniature or altered data; ``source`` then says ``unofficial``.
        **kwargs: As in ``ImageDataModule``.

    Raises:
        ValueError: If an argument is out of range.
    """

    files: ClassVar[FileSet]

    def __init__(self, checksums: Checksums = "official", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if checksums not in get_args(Checksums):
            raise ValueError(f"checksums must be one of {', '.join(get_args(Checksums))}, not {checksums!r}")
        self.checksums: Checksums = checksums

    @abstractmethod
    def parse(self, read: Read) -> ImageArrays:
        """Make images and labels of the files; ``read(name)`` gives verified content."""

    def prepare_data(self) -> None:
        """Unpack an archive under the root; Lightning calls this in one process only."""
        self.files.reader(self.root, self.checksums)

    def load(self) -> ImageArrays:
        """Verify and parse the files."""
        return self.parse(self.files.reader(self.root, self.checksums))

    def _source(self, form: str) -> str:
        return form if self.checksums == "official" else f"{form} (unofficial)"
