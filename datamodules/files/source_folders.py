"""Data sets that are folders of pictures: where they may lie, and the index that may describe them."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError

INDEX = "index.csv"
"""File that lists the examples of a pack, with sizes and mask fractions."""


@dataclass(frozen=True)
class Folders:
    """The folders under the root in which a data set is looked for, in order."""

    name: str
    """The data set, as in the commands."""
    folders: tuple[str, ...]
    """Accepted folders; the first that is there is used."""

    def find(self, root: Path) -> Path:
        """The first accepted folder that is there; the root itself may be one.

        Raises:
            DatasetNotFoundError: If none is.
        """
        for folder in self.folders:
            if (root / folder).is_dir():
                return root / folder
            if root.name == folder and root.is_dir():
                return root
        raise DatasetNotFoundError(f"data set {self.name!r} not found under {root}.\n{self.remedy(root)}")

    def remedy(self, root: Path) -> str:
        """How to get the data to ``root``, as lines of an error message."""
        return f"Set DATA=DIR, or root, to a folder that holds {' or '.join(self.folders)}."


@dataclass(frozen=True)
class SourceFolders(Folders):
    """Folders of pictures without published md5s, whose terms have to be accepted: nothing here downloads them."""

    page: str
    """Where the data set is published."""

    def remedy(self, root: Path) -> str:
        """How to get the data to ``root``, as lines of an error message."""
        packed = [path.name for folder in self.folders for path in sorted(root.glob(f"{folder}.tar*"))]
        if packed:
            return f"To use the archive that is there: tar -xf {root / packed[0]} -C {root}"
        holds = " or ".join(f"{folder}/" for folder in self.folders)
        return f"To get it: {self.page}\nUnpack it, then set DATA=DIR, or root, to a folder that holds {holds}."


def read_index(folder: Path, columns: tuple[str, ...]) -> dict[str, dict[str, str]] | None:
    """Rows of the folder's ``index.csv`` by the name of the example, or None where there is none.

    Args:
        folder: Folder of the index.
        columns: Those that are needed. The ones before ``mask_fraction`` make the name, joined by slashes; the share
            of the foreground, rounded to four decimals or more, comes under ``foreground``.

    Raises:
        DatasetCorruptError: If it lacks a column, or a row is incomplete.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetCorruptError(f"{path} is not a UTF-8 table: {error}") from error
    fraction = next(number for number, column in enumerate(columns) if column.startswith("mask_fraction"))
    for number, row in enumerate(rows, start=2):
        if lacking := [column for column in columns if not row.get(column)]:
            raise DatasetCorruptError(f"{path}, line {number}, has no {lacking[0]!r}")
        if not re.fullmatch(r"[0-9.]+(e-?[0-9]+)?", share := row[columns[fraction]]):
            raise DatasetCorruptError(f"{path}, line {number}: {columns[fraction]} is a number, not {share!r}")
    return {
        "/".join(row[column] for column in columns[:fraction]): {**row, "foreground": row[columns[fraction]]}
        for row in rows
    }
