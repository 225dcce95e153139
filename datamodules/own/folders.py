"""Content of a user's folder: images in one folder per class, or images and masks; their groups and splits."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.grouping import group_positions
from datamodules.own.medical import WITH_MEDICAL, is_dicom, is_medical, series_of
from datamodules.own.pairs import Asked, Row, paired, regex_of, stem
from datamodules.pictures import find_pictures, leftovers
from datamodules.shapes import Int

PARTS = ("train", "val", "test")
_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_TEST, _VAL = 0.2, 0.1
"""Shares of all groups."""
_SEED = 0
_MASK = re.compile(r"(.+)[ ._-](?:mask|seg|segmentation|roi)(?:[ ._-]?\d+)?", re.IGNORECASE)
"""How a mask is called that lies beside its picture."""


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
    rows = paired(asked, images, masks) if asked.masks else [Row(name, (), "", "") for name in images]
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
                f"({of[0].image}, ...) in {len({row.group for row in of})} group(s), none for "
                f"{' and '.join(lacking)}: at least three groups are needed. Add "
                f"some{', or move the folder away' if name else ''}"
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
                    f"{row.group!r} is in two splits: {image} for {other}, {row.image} for {part}. Move all of it to "
                    f"one"
                )


def _files(asked: Asked, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Names of pictures and of masks."""

    def below(folder: Path) -> list[str]:
        if not folder.is_dir():
            raise DatasetNotFoundError(f"there is no folder {folder}")
        paths, left = find_pictures(folder, also=is_medical)
        if left:
            say(leftovers(folder, left, WITH_MEDICAL))
        return [path.relative_to(folder).as_posix() for path in paths]

    images, masks = below(asked.images), below(asked.masks) if asked.masks else []
    if asked.masks and asked.masks.resolve() == asked.images.resolve():
        if asked.mask_names is None:
            raise ValueError(
                f"{asked.images} holds images and masks: give the pattern of the masks' names, e.g. --mask-names "
                f"'(.+)_mask.*'"
            )
        masks = [name for name in masks if regex_of("--mask-names", asked.mask_names).fullmatch(stem(name))]
        images = sorted({*images} - {*masks})
    elif not asked.masks:
        images = _without_masks(asked, images)
    elif asked.masks.resolve().is_relative_to(asked.images.resolve()):
        inside = asked.masks.resolve().relative_to(asked.images.resolve()).as_posix()
        images = [name for name in images if not name.startswith(f"{inside}/")]
    if not images:
        raise DatasetNotFoundError(f"there are no images in {asked.images} ({WITH_MEDICAL})")
    return images, masks


def _without_masks(asked: Asked, images: list[str]) -> list[str]:
    """Pictures of classes, less what ``mask_names`` fits; without it a mask beside its picture is refused."""
    if asked.mask_names is not None:
        masks = regex_of("--mask-names", asked.mask_names)
        return [name for name in images if not masks.fullmatch(stem(name))]
    stems = {stem(name): name for name in images}
    found = [(name, of) for name in images if (cut := _MASK.fullmatch(stem(name))) and (of := stems.get(cut[1]))]
    if found:
        raise DatasetCorruptError(
            f"{asked.images}/{found[0][0]} seems to be the mask of {found[0][1]}"
            f"{f', and {len(found) - 1:,} others' if len(found) > 1 else ''}: as pictures of a class they "
            "would give it away. To leave them out: --mask-names '(.+)_mask.*'; to train on them: --masks DIR as well"
        )
    return images


def _owner(asked: Asked) -> Callable[[str], str]:
    """Whose a picture is."""
    if asked.groups is None:
        return lambda name: (series_of(path) if is_dicom(path := asked.images / name) else "") or name
    regex = regex_of("--groups", asked.groups)

    def owner(name: str) -> str:
        if (match := regex.search(name)) and match[1]:
            return match[1]
        raise DatasetCorruptError(f"--groups {asked.groups!r} matches nothing in {asked.images}/{name}")

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
            f"{asked.images}/{row.image} is not in the folder of a class: put the images of each class into a folder "
            f"with its name, or give the masks' folder with --masks DIR"
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
