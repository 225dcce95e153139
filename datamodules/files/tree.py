"""Data sets that are published as an archive of many pictures: verified as a whole, then unpacked."""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datamodules.files.fileset import Download, how_to_get
from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError, md5_of_file
from datamodules.files.source_folders import Folders


@dataclass(frozen=True)
class Tree(Folders):
    """An archive of pictures, and the folder that it becomes; the folder's own files have no published md5s.

    The first of ``folders`` is the one that is unpacked to; the others are accepted in its place.
    """

    member: str
    """The same folder inside the archive."""
    download: Download
    """Where the archive is published; its path is its name under the root."""
    megabytes: int
    """Size of the download."""

    @property
    def downloads(self) -> tuple[Download, ...]:
        """The one archive."""
        return (self.download,)

    @property
    def archives(self) -> tuple[str, ...]:
        """The name of the archive."""
        return (self.download.path,)

    def remedy(self, root: Path) -> str:
        """How to get the data to ``root``, as lines of an error message."""
        return how_to_get(self.name, root, self.megabytes, "the published archive", " or ".join(self.folders))

    def install(self, origin: Path, root: Path) -> Path:
        """Verify the archive against its published md5 and unpack its pictures under ``root``.

        Returns:
            The folder, which appears whole or not at all.

        Raises:
            DatasetNotFoundError: If ``origin`` is not there or is a folder.
            DatasetCorruptError: If it is not the published archive.
        """
        target, place = root / self.folders[0], root / f".{self.name}.unpacking.{os.getpid()}"
        if origin.is_dir():
            raise DatasetNotFoundError(f"{origin} is a folder, whose pictures cannot be verified; link it to {target}")
        if not origin.exists():
            raise DatasetNotFoundError(f"there is no {origin}")
        found = md5_of_file(origin)
        if found != self.download.md5:
            raise DatasetCorruptError(
                f"{origin} is altered: md5 {found} instead of {self.download.md5}.\n"
                f"It was not imported.\n{self.remedy(root)}"
            )
        try:
            unpack(origin, self.member + "/", place)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                raise DatasetNotFoundError(f"{target} is there already; move it away to import {origin}")
            os.replace(place / self.member, target)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return target


def unpack(archive: Path, prefix: str, place: Path) -> None:
    """Unpack the members below ``prefix``; none can leave ``place``."""
    place.mkdir(parents=True)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(place, [name for name in packed.namelist() if name.startswith(prefix)])
    else:
        with tarfile.open(archive) as tar:
            members = (member for member in tar if member.name.startswith(prefix))
            if hasattr(tarfile, "data_filter"):
                tar.extractall(place, members, filter="data")
            else:
                _copy_plain(tar, members, place)


def _copy_plain(tar: tarfile.TarFile, members: Iterable[tarfile.TarInfo], place: Path) -> None:
    """Copy files and folders, for Python before 3.11.4 (Debian 12 has 3.11.2), whose tarfile has no filters.

    Raises:
        tarfile.TarError: naming the member that is something else, or would leave ``place``.
    """
    for member in members:
        target = place / member.name
        if not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name} is no file and no folder")
        if not target.resolve().is_relative_to(place.resolve()):
            raise tarfile.TarError(f"{member.name} would be outside {place}")
        (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        if content is not None:
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
