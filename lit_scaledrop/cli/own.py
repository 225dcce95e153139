"""``--images DIR``, and what goes with it: from a folder of images to the flags of its data module."""

import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from datamodules.own.describe import described
from datamodules.own.description import OwnData, load_own
from datamodules.own.pairs import SIDES, Asked
from datamodules.pictures import Square
from lit_scaledrop.cli.words import last_value, without
from lit_scaledrop.evaluation.evaluate import data_sets
from lit_scaledrop.evaluation.probes import PROBES
from lit_scaledrop.naming import lookup
from lit_scaledrop.results.text import plain

IMAGES, FILE = "--images", "--data-file"
HOW = ("--masks", "--mask-names", "--groups", "--mask-classes", "--size", "--square", "--window")
"""How a folder is read."""
OWN_FLAGS = (IMAGES, FILE, *HOW)


@dataclass(frozen=True)
class OwnChoice:
    """Which of one's own pictures a command line is about."""

    file: Path
    own: OwnData

    @property
    def data(self) -> list[str]:
        """Flags of the data module."""
        kind = "OwnImagesDataModule" if self.own.masks is None else "OwnMasksDataModule"
        return [f"--data=datamodules.{kind}", f"--data.root={self.file}", f"--data.digest={self.own.digest}"]


def take_own(words: Sequence[str]) -> tuple[list[str], OwnChoice | None]:
    """The words without what says which pictures, and these; a folder is read and described where it is not yet.

    Raises:
        ValueError: flags that do not go together.
        DatasetNotFoundError: there is nothing to read.
        DatasetCorruptError: the folder cannot be trained on.
    """
    given = {flag: value for flag in OWN_FLAGS if (value := last_value(words, flag)) is not None}
    rest = list(words)
    for flag in given:
        rest = without(rest, flag)
    if IMAGES not in given:
        if given:
            raise ValueError(f"{', '.join(given)}: of --images DIR, the folder of your images")
        return rest, None
    place = Path(given.pop(IMAGES)).expanduser()
    if place.suffix in (".yaml", ".yml"):
        if given:
            raise ValueError(f"{place} already says how its images are read: remove {', '.join(given)}")
        return rest, OwnChoice(place, load_own(place))
    if FILE not in given and Path.cwd().is_relative_to(place.resolve()):
        raise ValueError(
            f"DATA.yaml, runs and results would be among the images of {place}: change to another folder first, or "
            f"name another place for the description with --data-file"
        )
    file = Path(given.pop(FILE, "DATA.yaml"))
    return rest, OwnChoice(file, described(_asked(place, given), file, _name(place), _say))


def of_folder(flag: str, given: str, known: Iterable[str] = ()) -> str:
    """What to say where a folder stands in place of a name that is known; nothing where it is none.

    >>> of_folder("--data", "no/such/folder")
    ''
    """
    if given in known or not Path(given).is_dir():
        return ""
    return (
        f"{flag} is a name, and {given} a folder: --images {given} reads its images, one folder per class, or with "
        f"--masks DIR images and masks (docs/your-own-data.md)"
    )


def _asked(images: Path, given: dict[str, str]) -> Asked:
    how: dict[str, Any] = {flag[2:].replace("-", "_"): value for flag, value in given.items()}
    if "masks" in how:
        how["masks"] = Path(how["masks"]).expanduser()
    if "square" in how:
        lookup("--square", how["square"], get_args(Square))
    if "size" in how:
        if not how["size"].isdecimal() or int(how["size"]) not in SIDES:
            raise ValueError(
                f"--size is the side of the squares in pixels, from {SIDES[0]} to {SIDES[-1]}, not {how['size']!r}"
            )
        how["size"] = int(how["size"])
    return Asked(images, **how)


def _name(folder: Path) -> str:
    """What the data is called: as the folder, but not like anything that is known here."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-_.") or "images"
    known = {*data_sets(), *PROBES, "curves"}
    with suppress(ModuleNotFoundError):  # the core has no tables
        from lit_scaledrop.report.figures import FIGURES
        from lit_scaledrop.report.sweeps import SWEEPS
        from lit_scaledrop.report.tables import TABLES

        known |= {*TABLES, *FIGURES, *SWEEPS}
    return f"own-{name}" if name in known else name


def _say(message: str) -> None:
    print(f"scaledrop: {plain(message)}", file=sys.stderr, flush=True)
