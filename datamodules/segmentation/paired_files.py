"""Pictures with a mask each, decoded to one square size: checks, conversions and resizing that all sets share.

Pictures are decoded by :func:`datamodules.pictures.read_picture`. What a mask shows is its labels: numbers, or the
indices of a palette of colours; of two classes a palette of greys, whatever its order, and grey levels are black and
white; where grey does not vary and alpha does, the mask is in the alpha channel.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from datamodules.files.integrity import DatasetCorruptError
from datamodules.files.source_folders import INDEX
from datamodules.pictures import Square, opened, over_black, read_picture, square_box, squared
from datamodules.shapes import Float, UInt8

IGNORE = 255
"""Label of pixels that count nowhere."""
THUMBNAIL = 64
"""Height and width of what near-duplicates are found by."""


class PairFiles(NamedTuple):
    """Where one example comes from."""

    name: str
    """Name of the example, unique in its set."""
    image: Path
    masks: tuple[Path, ...]
    """Files whose union is the mask; exactly one where there are several classes."""
    part: str = ""
    """The folder that it comes from, where a set has parts or classes."""


class Example(NamedTuple):
    """One example, decoded."""

    image: UInt8[np.ndarray, "channels size size"]
    mask: UInt8[np.ndarray, "size size"]
    thumbnail: Float[np.ndarray, " pixels"]
    """Grey levels of the whole picture at 64x64, as stored, whatever ``size`` is."""
    stored: tuple[int, int]
    """Width and height of the file."""
    foreground: float
    """Share of the file's pixels that belong to some class but the background."""


def read_pairs(
    files: Sequence[PairFiles], size: int, channels: int, labels: int = 2, square: Square = "squeeze"
) -> list[Example]:
    """Decode examples, several at a time.

    Pictures become squares by ``squared`` (bilinear, antialiased), masks by ``squared_mask``.

    Args:
        files: What to read.
        size: Height and width of the result in pixels.
        channels: 1 for grey, 3 for RGB.
        labels: Number of classes. The values, or palette indices, of a mask are the labels, and 255 is "ignore". With
            2 classes a mask without a 1 in it is one of black and white instead: foreground is what is above 127.
        square: How a picture becomes a square.

    Raises:
        DatasetCorruptError: If a file is unreadable, or a mask does not belong to its picture; it names the file.
    """
    with ThreadPoolExecutor() as pool:  # Pillow and NumPy work without holding the interpreter's lock
        return list(pool.map(lambda pair: read_pair(pair, size, channels, labels, square), files))


def stacked(pairs: Sequence[Example]) -> tuple[UInt8[torch.Tensor, "..."], UInt8[torch.Tensor, "..."]]:
    """Images (examples, channels, size, size) and masks (examples, size, size) of decoded examples."""
    images, masks = (torch.from_numpy(np.stack([pair[part] for pair in pairs])) for part in (0, 1))
    return images, masks


def resize_mask(mask: UInt8[np.ndarray, "height width"], size: int) -> UInt8[np.ndarray, "size size"]:
    """Reduce or enlarge a mask to a square: every pixel takes the label that covers most of its area.

    With two labels this is averaging over the area with a threshold of 0.5. A tie goes to the lower label. "Ignore"
    counts as a label.

    >>> resize_mask(np.array([[0, 1, 1], [0, 0, 1], [2, 2, 0]], np.uint8), 1).tolist()
    [[0]]
    """
    height, width = mask.shape
    values = _present(mask)
    if (height, width) == (size, size) or len(values) == 1:
        return mask if mask.shape == (size, size) else np.full((size, size), values[0])
    rows, columns = _area_weights(height, size), _area_weights(width, size)
    others = np.stack([rows @ (mask == value).astype(np.float32) @ columns.T for value in values[1:]])
    shares = np.concatenate([1 - others.sum(0, keepdims=True), others])
    tie = 1e-5 * np.arange(len(values), dtype=np.float32)[:, None, None]  # beyond rounding
    return values[(shares - tie).argmax(0)]


def check_mask_size(picture: Path, stored: tuple[int, ...], mask: Path, found: tuple[int, ...]) -> None:
    """Refuse a mask of another size than its picture.

    Raises:
        DatasetCorruptError: It names both files and sizes.
    """
    if stored != found:
        sizes = ["x".join(map(str, size)) for size in (found, stored)]
        raise DatasetCorruptError(f"{mask} is {sizes[0]}, but its image {picture} is {sizes[1]}")


def check_paired(images: Mapping[Any, Path], masks: Mapping[Any, Path], expected: str) -> None:
    """Refuse images without a mask, and masks without an image.

    Args:
        images: File of each image.
        masks: File of each mask, under the same key.
        expected: What a mask is called; ``{}`` stands for the image's name without its ending.

    Raises:
        DatasetCorruptError: It names the file that is alone.
    """
    if bare := sorted(images.keys() - masks.keys()):
        path = images[bare[0]]
        raise DatasetCorruptError(f"{path} has no mask; expected {expected.format(path.stem)}")
    if orphans := sorted(masks.keys() - images.keys()):
        raise DatasetCorruptError(f"{masks[orphans[0]]} belongs to no image")


def check_index(
    folder: Path,
    rows: Mapping[str, Mapping[str, str]],
    files: Sequence[PairFiles],
    examples: Sequence[Example] | None = None,
) -> None:
    """Compare what was read with what ``index.csv`` says.

    Args:
        folder: Folder of the index.
        rows: Its rows by the name of the example, with the share of the ``foreground``.
        files: What was read.
        examples: The same, decoded; None compares only the names.

    Raises:
        DatasetCorruptError: If an example is missing or not listed, or a mask is not the one that was indexed.
    """
    if absent := sorted(rows.keys() - {example.name for example in files}):
        raise DatasetCorruptError(f"{folder / INDEX} lists {absent[0]!r}, which is not there; unpack the data again")
    if odd := [example for example in files if example.name not in rows]:
        raise DatasetCorruptError(f"{folder / INDEX} does not list {odd[0].image}; unpack the data again")
    for pair, example in zip(files, examples or [], strict=examples is not None):
        listed = float(rows[pair.name]["foreground"])
        if abs(example.foreground - listed) > 1e-4:
            raise DatasetCorruptError(
                f"{pair.masks[0]} is altered: {example.foreground:.5f} of its pixels are foreground instead of "
                f"{listed:.5f}; unpack the data again"
            )


def check_labels(path: Path, values: np.ndarray, labels: int) -> None:
    """Refuse a mask with a value that is neither a label below ``labels`` nor 255.

    Raises:
        DatasetCorruptError: It names the file and the value.
    """
    if odd := sorted({*_present(values).tolist()} - {*range(labels), IGNORE}):
        raise DatasetCorruptError(f"{path} has the label {odd[0]}; labels are 0 to {labels - 1}, and 255 to ignore")


def squared_mask(mask: UInt8[np.ndarray, "height width"], size: int, square: Square) -> UInt8[np.ndarray, "size size"]:
    """The mask of a picture that became a square; what was added around it is to be ignored.

    >>> squared_mask(np.array([[1, 1]], np.uint8), 2, "pad").tolist()
    [[255, 255], [1, 1]]
    """
    if square != "squeeze":
        height, width = mask.shape
        left, top, right, bottom = square_box(width, height, square)
        mask = mask[max(top, 0) : bottom, max(left, 0) : right]
        around = (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0))
        mask = np.pad(mask, around, constant_values=IGNORE)
    return resize_mask(mask, size)


def read_pair(files: PairFiles, size: int, channels: int, labels: int, square: Square) -> Example:
    """Decode one example; arguments and errors as :func:`read_pairs`."""
    picture, stored = read_picture(files.image, channels, size)
    mask = np.zeros((stored[1], stored[0]), np.uint8)
    for path in files.masks:
        found = read_mask(path, labels)
        check_mask_size(files.image, stored, path, found.shape[::-1])
        mask = np.maximum(mask, found)
    thumbnail = picture.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return Example(
        squared(picture, size, square),
        squared_mask(mask, size, square),
        np.asarray(thumbnail, np.float32).reshape(-1),
        stored,
        float(np.mean((mask > 0) & (mask != IGNORE))),
    )


def read_mask(path: Path, labels: int) -> UInt8[np.ndarray, "height width"]:
    """The labels of one mask; errors as :func:`read_pairs`."""
    with opened(path, "mask") as file:
        values = _shown(ImageOps.exif_transpose(file), labels)
    present = {*_present(values).tolist()}
    if labels > 2 or present <= {0, 1} or (1 in present and present <= {0, 1, IGNORE}):
        check_labels(path, values, labels)
        return values.astype(np.uint8)
    if max(present) <= 127:
        raise DatasetCorruptError(f"{path} has values up to {max(present)}; a mask holds 0 and 1, or 0 and 255")
    return (values > 127).astype(np.uint8)


def _shown(mask: Image.Image, labels: int) -> np.ndarray:
    """The numbers of a mask as they are meant."""
    if mask.mode == "P" and labels == 2 and not mask.has_transparency_data:
        palette = np.asarray(mask.getpalette(), np.uint8).reshape(-1, 3)[_present(np.asarray(mask))]
        if (palette == palette[:, :1]).all() and palette.max() > 1:  # greys: the order of a palette says nothing
            return np.asarray(mask.convert("L"))
    # else the indices of a palette are what was meant, its colours are for the eye
    if mask.mode in ("1", "L", "P") or mask.mode.startswith("I"):
        return np.asarray(mask)
    if mask.has_transparency_data:
        grey, alpha = (np.asarray(part) for part in mask.convert("LA").split())
        if grey.min() == grey.max() and alpha.min() < alpha.max():
            return alpha
    return np.asarray(over_black(mask).convert("L"))


def _present(values: np.ndarray) -> np.ndarray:
    """The values that occur, in order; several times as fast as ``np.unique`` for 8 bits."""
    if values.dtype != np.uint8:
        return np.unique(values)
    return np.flatnonzero(np.bincount(values.reshape(-1), minlength=256)).astype(np.uint8)


def _area_weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Share of each old pixel, along one axis, in the area of each new one; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    pixel = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (overlap.clip(min=0) * (new / old)).astype(np.float32)
