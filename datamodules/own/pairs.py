"""Options for reading a user's folder; assignment of masks to images by name."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from datamodules.files.integrity import DatasetCorruptError
from datamodules.pictures import Square

SIDES = range(8, 4097)
"""Sides that the squares may have, in pixels."""


class Row(NamedTuple):
    """A file, and what belongs to it; paths are below the folders, with slashes."""

    image: str
    masks: tuple[str, ...]
    """none where the folder says the class"""
    group: str
    """whose it is: what has one group is in one part"""
    label: str
    """name of the class; empty where there are masks"""


@dataclass(frozen=True)
class Asked:
    """A folder, and how it is to be read."""

    images: Path
    masks: Path | None = None
    mask_names: str | None = None
    """regular expression that the whole name of a mask fits, path below the folder without ending; its first group is
    the name of the picture; without masks, what is no picture of a class"""
    groups: str | None = None
    """regular expression that is found in the name of a picture; its first group says whose it is"""
    mask_classes: str | None = None
    """names of the values 0, 1, ... of masks, with commas between; by default background and foreground"""
    size: int | None = None
    """side of the squares in pixels; by default 32, 64 or (with masks) 128, what is nearest above the pictures'"""
    square: Square = "pad"
    window: str | None = None
    """of DICOM and NIfTI"""


def stem(name: str) -> str:
    """The name without its ending.

    >>> stem("a/b.c.nii.gz"), stem("a.b/c")
    ('a/b.c', 'a.b/c')
    """
    return re.sub(r"(\.nii)?\.[^./]*$", "", name)


def paired(asked: Asked, images: Sequence[str], masks: Sequence[str]) -> list[Row]:
    """Pictures with their masks; a mask has the name of its picture, alone or in front of, say, ``_mask``.

    Raises:
        DatasetCorruptError: One is alone; it names it and says what to do.
    """
    by_stem: dict[str, str] = {}
    for name in images:
        if (other := by_stem.setdefault(stem(name), name)) != name:
            raise DatasetCorruptError(f"{other} and {name} in {asked.images} have one name: a mask may be of either")
    found: dict[str, list[str]] = {name: [] for name in images}
    for mask in masks:
        if asked.mask_names is not None:
            match = regex_of("--mask-names", asked.mask_names).fullmatch(stem(mask))
            key = match[1] if match else None
        else:
            key = _longest(stem(mask), by_stem)
        if key not in by_stem:
            says = "its name does not begin with that of one" if asked.mask_names is None else "by --mask-names"
            raise DatasetCorruptError(
                f"{asked.masks}/{mask} is a mask without an image in {asked.images}: {says}, e.g. "
                f"{stem(images[0])!r}. Move it away, or say how masks are called: --mask-names '(.+)_mask'"
            )
        found[by_stem[key]].append(mask)
    if bare := [name for name, its in found.items() if not its]:
        raise DatasetCorruptError(
            f"{asked.images}/{bare[0]} has no mask in {asked.masks}"
            f"{f', nor have {len(bare) - 1:,} others' if len(bare) > 1 else ''}; expected {stem(bare[0])}.png or "
            f"{stem(bare[0])}_*.png. Move it away, or say how masks are called: --mask-names '(.+)_mask'"
        )
    return [Row(name, tuple(its), "", "") for name, its in found.items()]


def _longest(mask: str, stems: Iterable[str]) -> str | None:
    """The longest name of a picture that a mask's begins with, up to a letter or digit."""
    ends = (end for end in range(len(mask), 0, -1) if end == len(mask) or not mask[end].isalnum())
    return next((mask[:end] for end in ends if mask[:end] in stems), None)


def regex_of(flag: str, pattern: str) -> re.Pattern[str]:
    """A pattern of the command line, which has a group.

    Raises:
        ValueError: It is none.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{flag} {pattern!r} is not a regular expression: {error}") from error
    if not regex.groups:
        raise ValueError(f"{flag} {pattern!r} has no group: put the relevant part between ( and )")
    return regex
