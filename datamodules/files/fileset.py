"""The files of a published data set: where they may lie, and how they are verified before use."""

import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.files.integrity import (
    RECORD,
    Checksum,
    DatasetCorruptError,
    DatasetNotFoundError,
    parse_record,
    verify,
    write_atomically,
)
from datamodules.files.limits import largest

Checksums = Literal["official", "recorded"]
"""Whose md5s decide: the published ones, or those in the folder's own ``checksums.md5``."""

Read = Callable[[str], bytes]
"""From file name to content."""

_BROKEN = (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)


class Download(NamedTuple):
    """A file to fetch: its place under the root, its md5, and where it is published."""

    path: str
    md5: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class FileSet:
    """What a data set consists of on disk."""

    name: str
    """The data set, as in ``scaledrop data get NAME``."""
    folder: str
    """Folder under the root that holds the files."""
    files: Mapping[str, Checksum]
    """Checksum of each file's content (unpacked, where it may also lie there as ``.gz``)."""
    downloads: tuple[Download, ...]
    """Where the files, or an archive of them, are published."""
    megabytes: int
    """Size of the download."""
    archives: tuple[str, ...] = ()
    """Names of archives under the root that are unpacked on first use."""

    def remedy(self, root: Path) -> str:
        """How to get the data to ``root``, as lines of an error message."""
        holds = " and ".join(self.files) if self.folder == "." else f"{self.folder}/"
        return how_to_get(self.name, root, self.megabytes, "an archive or a folder that you have", holds)

    def is_meant(self, root: Path) -> bool:
        """Whether somebody meant the data to be under ``root``: its folder or an archive is there, whole or not."""
        return any((root / name).exists() for name in (self.folder, *self.archives))

    def missing(self, folder: Path) -> list[str]:
        """Names of the files that ``folder`` lacks."""
        return [name for name in self.files if _find(folder, name) is None]

    def reader(self, root: Path, checksums: Checksums = "official") -> Read:
        """Find the data under ``root`` and return a function from file name to verified content.

        A folder is read file by file. An archive is verified and unpacked beside itself; where that place
        cannot be written to, it is read into memory instead.

        Raises:
            DatasetNotFoundError: If the data set, or a file of it, is not there.
            DatasetCorruptError: From here for an archive, from the returned function for a file of a folder.
        """
        archives = [root] if root.is_file() else [root / name for name in self.archives if (root / name).is_file()]
        root = root.parent if root.is_file() else root
        folder, remedy = root / self.folder, self.remedy(root)
        missing = self.missing(folder)
        if missing and archives:
            contents = self._from_archive(archives[0], checksums, remedy)
            try:
                if not root.stat().st_mode & 0o222:  # marked read-only, which would not stop root
                    return contents.__getitem__
                _write(folder, contents)
            except OSError:
                return contents.__getitem__
        elif missing:
            whole = len(missing) == len(self.files)
            what = f"not found under {root}" if whole else f"is incomplete: no {folder / missing[0]}"
            raise DatasetNotFoundError(f"data set {self.name!r} {what}.\n{remedy}")
        return self._from_folder(folder, checksums, remedy)

    def install(self, origin: Path, root: Path) -> Path:
        """Verify an archive or a folder against the published md5s and put its files under ``root``.

        Args:
            origin: A tar archive (any compression), the folder with the files, or a folder above it.
            root: Where to put ``folder``.

        Returns:
            The folder.

        Raises:
            DatasetNotFoundError: If ``origin`` does not exist or lacks a file.
            DatasetCorruptError: If a file is not the published one.
        """
        remedy = f"It was not imported.\n{self.remedy(root)}"
        if not origin.exists():
            raise DatasetNotFoundError(f"there is no {origin}")
        if origin.is_file():
            contents = self._from_archive(origin, "official", remedy)
        else:
            folders = [origin, origin / self.folder, origin / Path(self.folder).name]
            folder = next((folder for folder in folders if not self.missing(folder)), None)
            if folder is None:
                wanted = ", ".join(self.files)
                raise DatasetNotFoundError(f"{origin} holds no complete {self.name}; wanted are {wanted}")
            read = self._from_folder(folder, "official", remedy)
            contents = {name: read(name) for name in self.files}
        _write(root / self.folder, contents)
        return root / self.folder

    def _from_folder(self, folder: Path, checksums: Checksums, remedy: str) -> Read:
        def read(name: str) -> bytes:
            path = _find(folder, name)
            if path is None:
                raise DatasetNotFoundError(f"{folder / name} is missing.\n{remedy}")
            if path.suffix != ".gz":
                return path.read_bytes()
            try:
                with gzip.open(path) as stream:
                    return stream.read(self._limit(name) + 1)
            except _BROKEN as error:
                raise DatasetCorruptError(f"{path} is truncated or altered ({error}).\n{remedy}") from error

        return self._verified(read, folder, checksums, remedy)

    def _from_archive(self, archive: Path, checksums: Checksums, remedy: str) -> dict[str, bytes]:
        """Read and verify the data set's files; other members, and paths in the archive, play no part."""
        raw: dict[str, bytes] = {}
        wanted = {*self.files, *([RECORD] if checksums == "recorded" else [])}
        try:
            with tarfile.open(archive) as tar:
                while len(raw) < len(wanted) and (member := tar.next()) is not None:
                    name = os.path.basename(member.name)
                    plain = name.removesuffix(".gz")
                    stream = tar.extractfile(member) if member.isfile() and plain in wanted else None
                    if stream is not None:
                        content = stream if plain == name else gzip.GzipFile(fileobj=stream)
                        raw[plain] = content.read(self._limit(plain) + 1)
        except _BROKEN as error:
            raise DatasetCorruptError(
                f"{archive} is truncated or no tar archive ({type(error).__name__}: {error}).\n{remedy}"
            ) from error
        if lacking := sorted(wanted - raw.keys()):
            raise DatasetNotFoundError(f"archive {archive} holds no {lacking[0]}.\n{remedy}")
        read = self._verified(raw.__getitem__, archive, checksums, remedy)
        return {name: read(name) for name in sorted(wanted)}

    def _verified(self, read: Read, where: Path, checksums: Checksums, remedy: str) -> Read:
        """Wrap ``read`` so that nothing unverified leaves it."""
        recorded = checksums == "recorded"
        expected = parse_record(read(RECORD)) if recorded else dict(self.files)

        def verified(name: str) -> bytes:
            content = read(name)
            if recorded and name == RECORD:
                return content
            if name not in expected:
                raise DatasetCorruptError(f"{where / RECORD} says nothing about {name}")
            verify(str(where / name), content, expected[name], remedy)
            return content

        return verified

    def _limit(self, name: str) -> int:
        size = self.files[name].size if name in self.files else None
        return largest() if size is None else size


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        write_atomically(folder / name, content)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def how_to_get(name: str, root: Path, megabytes: int, origin: str, holds: str) -> str:
    """Lines of an error message: the commands that get a data set, and the folder that would do."""
    command = f"scaledrop data get {name} --root {root}"
    return (
        "To get it:\n"
        f"  {command}    (downloads {megabytes} MB)\n"
        f"  {command} --from PATH    (imports {origin})\n"
        f"or set DATA=DIR, or root, to a folder that holds {holds}."
    )
