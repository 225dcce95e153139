"""Where data sets lie that come as folders of pictures without published md5s, and the index that may describe them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.segmentation.paired_files import Pair, PairFiles

INDEX = "index.csv"
"""File that lists the examples of a pack, with sizes and mask fractions."""


@dataclass(frozen=True)
class SourceFolders:
    """The folders under the root in which a data set is looked for, in order."""

    name: str
    """The data set, as in the commands."""
    folders: tuple[str, ...]
    """Accepted folders; the first that is there is used."""
    page: str
    """Where the data set is published. Its terms have to be accepted there, so nothing here downloads it."""

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
        packed = [path.name for folder in self.folders for path in sorted(root.glob(f"{folder}.tar*"))]
        if packed:
            return f"To use the archive that is there: tar -xf {root / packed[0]} -C {root}"
        holds = " or ".join(f"{folder}/" for folder in self.folders)
        return f"To get it: {self.page}\nUnpack it, then set DATA=DIR, or root, to a folder that holds {holds}."


def read_index(folder: Path, columns: Sequence[str]) -> list[dict[str, str]] | None:
    """Rows of the folder's ``index.csv``, or None where there is none.

    Raises:
        DatasetCorruptError: If it lacks a column, or a row is incomplete.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows, start=2):
        if lacking := [column for column in columns if not row.get(column)]:
            raise DatasetCorruptError(f"{path}, line {number}, has no {lacking[0]!r}")
    return rows


def check_index(
    folder: Path,
    fractions: dict[str, float],
    files: Sequence[PairFiles],
    pairs: Sequence[Pair] | None = None,
) -> None:
    """Compare what was read with what ``index.csv`` says.

    Args:
        folder: Folder of the index.
        fractions: Share of the foreground by the name of the example, rounded to four decimals or more.
        files: What was read.
        pairs: The same, decoded; None compares only the names.

    Raises:
        DatasetCorruptError: If an example is missing or not listed, or a mask is not the one that was indexed.
    """
    names = {example.name for example in files}
    if absent := sorted(fractions.keys() - names):
        raise DatasetCorruptError(f"{folder / INDEX} lists {absent[0]!r}, which is not there; unpack the data again")
    if odd := [example for example in files if example.name not in fractions]:
        raise DatasetCorruptError(f"{folder / INDEX} does not list {odd[0].image}; unpack the data again")
    for example, pair in zip(files, pairs or [], strict=pairs is not None):
        if abs(pair.foreground - fractions[example.name]) > 1e-4:
            raise DatasetCorruptError(
                f"{example.masks[0]} is altered: {pair.foreground:.5f} of its pixels are foreground instead of "
                f"{fractions[example.name]:.5f}; unpack the data again"
            )
