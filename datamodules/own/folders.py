"""What is in a folder of one's own: pictures in a folder a class, or pictures and their masks; whose; in which part."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.grouping import group_positions
from datamodules.own.medical import is_dicom, is_medical, series_of
from datamodules.pictures import Square, find_pictures
from datamodules.shapes import Int

PARTS = ("train", "val", "test")
_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_TEST, _VAL = 0.2, 0.1
"""Shares of all groups."""
_SEED = 0
_READ = "PNG, JPEG, BMP, WebP, DICOM, NIfTI"


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
    the name of the picture"""
    groups: str | None = None
    """regular expression that is found in the name of a picture; its first group says whose it is"""
    mask_classes: str | None = None
    """names of the values 0, 1, ... of masks, with commas between; by default background and foreground"""
    size: int | None = None
    """side of the squares in pixels; by default 32, 64 or (with masks) 128, what is nearest above the pictures'"""
    square: Square = "pad"
    window: str | None = None
    """of DICOM and NIfTI"""


def find(asked: Asked, say: Callable[[str], None]) -> dict[str, list[Row]]:
    """The rows of each part.

    Args:
        asked: What to read.
        say: Told what is left out.

    Raises:
        DatasetNotFoundError: There is nothing to read.
        DatasetCorruptError: What is there does not go together; it names files and says what to do.
        ValueError: A pattern is none.
    """
    images, masks = _files(asked, say)
    rows = _paired(asked, images, masks) if asked.masks else [Row(name, (), "", "") for name in images]
    parts = _given_parts(rows) or {"": rows}
    owner = _owner(asked)
    parts = {part: [_owned(row, bool(part), asked, owner) for row in found] for part, found in parts.items()}
    require_apart(parts)
    parts = _divided(parts)
    for name in sorted({row.label for found in parts.values() for row in found}):
        lacking = [part for part in PARTS if not any(row.label == name for row in parts[part])]
        if lacking:
            of = [row for found in parts.values() for row in found if row.label == name]
            raise DatasetCorruptError(
                f"{f'class {name!r}' if name else asked.images} has {len(of)} file{'s' * (len(of) != 1)} "
                f"({of[0].image}, ...) in {len({row.group for row in of})} group(s), none for {' and '.join(lacking)}: "
                f"three groups are the least. Add some{', or move the folder away' if name else ''}"
            )
    return parts


def classes(parts: dict[str, list[Row]], asked: Asked) -> tuple[str, ...]:
    """Names of the classes, in the order of their numbers."""
    if asked.masks:
        return tuple((asked.mask_classes or "background,foreground").split(","))
    return tuple(sorted({row.label for rows in parts.values() for row in rows}))


def require_apart(parts: dict[str, list[Row]]) -> None:
    """Refuse a group in two parts.

    Raises:
        DatasetCorruptError: It names the group and two of its files.
    """
    first: dict[str, tuple[str, str]] = {}
    for part, rows in parts.items():
        for row in rows:
            other, image = first.setdefault(row.group, (part, row.image))
            if other != part:
                raise DatasetCorruptError(
                    f"{row.group!r} is in two parts: {image} for {other}, {row.image} for {part}. Move all of it to one"
                )


def _files(asked: Asked, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Names of pictures and of masks."""

    def below(folder: Path) -> list[str]:
        if not folder.is_dir():
            raise DatasetNotFoundError(f"there is no folder {folder}")
        paths, left = find_pictures(folder, also=is_medical)
        if left:
            say(f"left out of {folder}: {', '.join(f'{n:,} {kind}' for kind, n in left.items())} (read are {_READ})")
        return [path.relative_to(folder).as_posix() for path in paths]

    images, masks = below(asked.images), below(asked.masks) if asked.masks else []
    if asked.masks and asked.masks.resolve() == asked.images.resolve():
        if asked.mask_names is None:
            raise ValueError(
                f"{asked.images} holds pictures and masks: say how masks are called, e.g. --mask-names '(.+)_mask.*'"
            )
        masks = [name for name in masks if _regex("--mask-names", asked.mask_names).fullmatch(stem(name))]
        images = sorted({*images} - {*masks})
    elif asked.masks and asked.masks.resolve().is_relative_to(asked.images.resolve()):
        inside = asked.masks.resolve().relative_to(asked.images.resolve()).as_posix()
        images = [name for name in images if not name.startswith(f"{inside}/")]
    if not images:
        raise DatasetNotFoundError(f"there is no picture in {asked.images} ({_READ})")
    return images, masks


def stem(name: str) -> str:
    """The name without its ending.

    >>> stem("a/b.c.nii.gz"), stem("a.b/c")
    ('a/b.c', 'a.b/c')
    """
    return re.sub(r"(\.nii)?\.[^./]*$", "", name)


def _paired(asked: Asked, images: Sequence[str], masks: Sequence[str]) -> list[Row]:
    """Pictures with their masks; a mask has the name of its picture, alone or in front of, say, ``_mask``."""
    by_stem: dict[str, str] = {}
    for name in images:
        if (other := by_stem.setdefault(stem(name), name)) != name:
            raise DatasetCorruptError(f"{other} and {name} in {asked.images} have one name: a mask may be of either")
    found: dict[str, list[str]] = {name: [] for name in images}
    for mask in masks:
        if asked.mask_names is not None:
            match = _regex("--mask-names", asked.mask_names).fullmatch(stem(mask))
            key = match[1] if match else None
        else:
            key = _longest(stem(mask), by_stem)
        if key not in by_stem:
            says = "its name does not begin with that of one" if asked.mask_names is None else "by --mask-names"
            raise DatasetCorruptError(
                f"{asked.masks}/{mask} is the mask of no picture in {asked.images}: {says}, e.g. "
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


def _regex(flag: str, pattern: str) -> re.Pattern[str]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{flag} {pattern!r} is no regular expression: {error}") from error
    if not regex.groups:
        raise ValueError(f"{flag} {pattern!r} has no group: put what is meant between ( and )")
    return regex


def _owner(asked: Asked) -> Callable[[str], str]:
    """Whose a picture is."""
    if asked.groups is None:
        return lambda name: (series_of(path) if is_dicom(path := asked.images / name) else "") or name
    regex = _regex("--groups", asked.groups)

    def owner(name: str) -> str:
        if (match := regex.search(name)) and match[1]:
            return match[1]
        raise DatasetCorruptError(f"--groups {asked.groups!r} finds nothing in {asked.images}/{name}")

    return owner


def _given_parts(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Parts that folders at the top are called after; a lone validation part is for testing."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(_NAMES.get(row.image.partition("/")[0].lower(), ""), []).append(row)
    if "" in parts or "train" not in parts or len(parts) == 1:
        return {}
    if "test" not in parts:
        parts["test"] = parts.pop("val")
    return parts


def _owned(row: Row, has_part: bool, asked: Asked, owner: Callable[[str], str]) -> Row:
    """The row with its group and class."""
    folders = row.image.split("/")[has_part:-1]
    if not asked.masks and not folders:
        raise DatasetCorruptError(
            f"{asked.images}/{row.image} is in no folder of a class: put the pictures of each class into a folder of "
            "its name, or say where masks are with --masks DIR"
        )
    return row._replace(group=owner(row.image), label="" if asked.masks else folders[0])


def _divided(parts: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Parts with those that are lacking taken out of the others: a fifth for testing, a tenth for validation."""
    if "" in parts:
        rest, test = _taken(parts[""], _TEST)
        parts = {"train": rest, "test": test}
    if "val" not in parts:
        rest, val = _taken(parts["train"], _VAL / (1 - _TEST))
        parts |= {"train": rest, "val": val}
    return {part: parts[part] for part in PARTS}


def _taken(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Rows less a share of each class, one group at least, and that share."""
    groups, labels = (_numbers([row.group for row in rows]), _numbers([row.label for row in rows]))
    position = group_positions(groups, labels, _SEED)
    out = position < share
    for label in labels.unique():
        mine = labels == label
        if not (out & mine).any():
            out |= torch.isin(groups, groups[mine & (position == position[mine].min())])
    chosen = out.tolist()
    return [r for r, c in zip(rows, chosen, strict=True) if not c], [r for r, c in zip(rows, chosen, strict=True) if c]


def _numbers(names: Sequence[str]) -> Int[torch.Tensor, " names"]:
    """Each name's place among them in order."""
    place = {name: number for number, name in enumerate(sorted(set(names)))}
    return torch.tensor([place[name] for name in names])
