"""Reads and measures a user's folder and writes ``DATA.yaml``, unless this has been done."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from datamodules.files.integrity import DatasetCorruptError, fingerprint, write_atomically
from datamodules.own.description import OwnData, load_own
from datamodules.own.folders import classes, find
from datamodules.own.medical import is_medical, window_of
from datamodules.own.pairs import Asked, Row
from datamodules.own.read import arrays, ends_of, read_own
from datamodules.pictures import opened
from datamodules.shapes import Pixels

_HEAD = """\
# Written by scaledrop for {folder}: content, statistics of the training split, and the split of each file. # Later
# commands take it in place of the folder: --images {file}. Editing it changes the data.
"""
_SIZES = (32, 64, 128)
_LOOKED_AT = 50
"""Pictures whose size is looked at."""


def described(asked: Asked, file: Path, name: str, say: Callable[[str], None]) -> OwnData:
    """The description of a folder: that of ``file``, if it is of the same files read in the same way, else a new one.

    Args:
        asked: The folder, and how it is to be read.
        file: Where the description is, or will be; nothing in it is ever overwritten.
        name: What the data is called.
        say: Told what is left out, and what was written.

    Raises:
        DatasetNotFoundError: There is nothing to read.
        DatasetCorruptError: A file, or the whole, cannot be trained on.
        ValueError: ``file`` is of something else, or a setting is none.
    """
    parts = find(asked, say)
    draft = _draft(asked, file.parent, name, parts)
    if file.exists():
        own = load_own(file)
        _require_same(draft, own, file, asked)
        return own
    read = read_own(draft, file.parent)
    if all(torch.equal(read.images[:, 0], read.images[:, other]) for other in (1, 2)):
        draft, read = replace(draft, channels=1), read._replace(images=read.images[:, :1].contiguous())
    mean, std = _moments(read.images[: ends_of(draft, read)[0]])
    own = replace(draft, mean=mean, std=std, fingerprint=fingerprint(*arrays(draft, read).tensors))
    write_atomically(file, (_HEAD.format(folder=asked.images, file=file.name) + own.to_yaml()).encode())
    counts = ", ".join(f"{len(rows):,} {part}" for part, rows in own.parts.items())
    what = f"{len(own.class_names)} classes, {counts} files, {own.size} x {own.size} pixels, {own.channels} channel(s)"
    say(f"written: {file} ({what}); later commands take it in place of the folder: --images {file}")
    return own


def _draft(asked: Asked, place: Path, name: str, parts: dict[str, list[Row]]) -> OwnData:
    """The description before anything is decoded."""
    names, window = classes(parts, asked), None if asked.window is None else window_of(asked.window)
    if len(names) < 2:
        raise DatasetCorruptError(
            f"{asked.images} has one class, {names[0]!r}: at least two are needed. Put the images of each class into "
            f"a folder with its name"
        )
    images, masks = _from(place, asked.images), _from(place, asked.masks) if asked.masks else None
    size = asked.size or _size(asked, [row.image for rows in parts.values() for row in rows])
    return OwnData(name, images, masks, names, 3, size, asked.square, window, (0.0,) * 3, (1.0,) * 3, "", parts)


def _from(place: Path, folder: Path) -> str:
    """A folder as seen from another: below it, or from the root of the machine."""
    folder, place = folder.resolve(), place.resolve()
    return (folder.relative_to(place) if folder.is_relative_to(place) else folder).as_posix()


def _size(asked: Asked, names: list[str]) -> int:
    """The least size that is not below the longer side of half the pictures, up to 64 without masks."""
    largest = _SIZES[-1] if asked.masks else _SIZES[-2]
    some = [asked.images / name for name in names[:: -(-len(names) // _LOOKED_AT)]]
    sides = []
    for path in some:
        if is_medical(path):
            return largest
        with suppress(DatasetCorruptError), opened(path) as picture:  # said when all are read
            sides.append(max(picture.size))
    return next((size for size in _SIZES if sides and median(sides) <= size < largest), largest)


def _moments(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel on the scale 0 to 1, from counts of the 256 levels."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        parts = (torch.bincount(part.flatten(), minlength=256) for part in channel.split(256))
        share = torch.stack(list(parts)).sum(0) / channel.numel()
        middle = (share * levels).sum()
        spread = (share * (levels - middle) ** 2).sum().sqrt()
        mean.append(round(middle.item(), 4))
        std.append(round(max(spread.item(), 1 / 255), 4))
    return tuple(mean), tuple(std)


def _require_same(draft: OwnData, own: OwnData, file: Path, asked: Asked) -> None:
    """Refuse a file that is of other pictures, or of the same read in another way."""
    same = {"images": "the folder", "masks": "the masks", "class_names": "the classes", "square": "--square"}
    same |= {"window": "--window", "parts": "the files or their parts"} | ({"size": "--size"} if asked.size else {})
    differ = [said for field, said in same.items() if getattr(draft, field) != getattr(own, field)]
    if differ:
        raise ValueError(
            f"{file} exists already, with other settings: {', '.join(differ)}. To use it: --images {file}. To read "
            f"the folder again: delete {file}, or write another: --data-file {draft.name}.yaml"
        )
