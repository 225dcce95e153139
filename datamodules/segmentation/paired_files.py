"""Pictures with a mask each, decoded to one square size: checks, conversions and resizing that all sets share.

Conversions of pictures: an alpha channel is laid over black, colours become grey (ITU-R BT.601) or grey becomes RGB as
the set wants it, and 16-bit grey levels are divided by 257.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from datamodules.files.integrity import DatasetCorruptError
from datamodules.shapes import Float, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IGNORE = 255
"""Label of pixels that count nowhere."""
THUMBNAIL = 64
"""Height and width of what near-duplicates are found by."""
_DRAFT = 512  # JPEG pictures at least twice as large are decoded at a reduced size


class PairFiles(NamedTuple):
    """Where one example comes from."""

    name: str
    """Name of the example, unique in its set."""
    image: Path
    masks: tuple[Path, ...]
    """Files whose union is the mask; exactly one where there are several classes."""


class Pair(NamedTuple):
    """One example, decoded."""

    image: UInt8[np.ndarray, "channels size size"]
    mask: UInt8[np.ndarray, "size size"]
    thumbnail: Float[np.ndarray, " pixels"]
    """Grey levels of the whole picture at 64x64, as stored, whatever ``size`` is."""
    stored: tuple[int, int]
    """Width and height of the file."""
    foreground: float
    """Share of the file's pixels that belong to some class but the background."""


def read_pairs(files: Sequence[PairFiles], size: int, channels: int, labels: int = 2) -> list[Pair]:
    """Decode examples, several at a time.

    Pictures are squeezed to a square (bilinear, antialiased; the aspect is not kept), masks by ``resize_mask``.

    Args:
        files: What to read.
        size: Height and width of the result in pixels.
        channels: 1 for grey, 3 for RGB.
        labels: Number of classes. The values, or palette indices, of a mask are the labels, and 255 is "ignore". With
            2 classes a mask without a 1 in it is one of black and white instead: foreground is what is above 127.

    Raises:
        DatasetCorruptError: If a file is unreadable, or a mask does not belong to its picture; it names the file.
    """
    with ThreadPoolExecutor() as pool:  # Pillow and NumPy work without holding the interpreter's lock
        return list(pool.map(lambda pair: _read_pair(pair, size, channels, labels), files))


def stacked(pairs: Sequence[Pair]) -> tuple[UInt8[torch.Tensor, "..."], UInt8[torch.Tensor, "..."]]:
    """Images (examples, channels, size, size) and masks (examples, size, size) of decoded examples."""
    images, masks = (np.stack([pair[part] for pair in pairs]) for part in (0, 1))
    return torch.from_numpy(images), torch.from_numpy(masks)


def thumbnails(pairs: Sequence[Pair]) -> Float[torch.Tensor, "examples pixels"]:
    """What ``grouping.similar_groups`` takes."""
    return torch.from_numpy(np.stack([pair.thumbnail for pair in pairs]))


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


def check_labels(path: Path, values: np.ndarray, labels: int) -> None:
    """Refuse a mask with a value that is neither a label below ``labels`` nor 255.

    Raises:
        DatasetCorruptError: It names the file and the value.
    """
    if odd := sorted({*_present(values).tolist()} - {*range(labels), IGNORE}):
        raise DatasetCorruptError(f"{path} has the label {odd[0]}; labels are 0 to {labels - 1}, and 255 to ignore")


def squeezed(picture: "Picture", size: int) -> UInt8[np.ndarray, "channels size size"]:
    """The picture as a square (bilinear, antialiased; the aspect is not kept)."""
    pixels = np.asarray(picture.resize((size, size), _filter("BILINEAR")))
    return np.ascontiguousarray(pixels.reshape(size, size, -1).transpose(2, 0, 1))


def _read_pair(files: PairFiles, size: int, channels: int, labels: int) -> Pair:
    picture, stored = read_picture(files.image, size, channels)
    mask = np.zeros((stored[1], stored[0]), np.uint8)
    for path in files.masks:
        found = _read_mask(path, labels)
        check_mask_size(files.image, stored, path, found.shape[::-1])
        mask = np.maximum(mask, found)
    thumbnail = picture.convert("L").resize((THUMBNAIL, THUMBNAIL), _filter("BILINEAR"))
    return Pair(
        squeezed(picture, size),
        resize_mask(mask, size),
        np.asarray(thumbnail, np.float32).reshape(-1),
        stored,
        float(np.mean((mask > 0) & (mask != IGNORE))),
    )


def read_picture(path: Path, size: int, channels: int) -> "tuple[Picture, tuple[int, int]]":
    """An 8-bit picture, and the width and height of its file, which may be larger than the picture.

    Args:
        path: The file.
        size: Side that is wanted; a large JPEG is decoded at a reduced size, not below twice as much.
        channels: 1 for grey, 3 for RGB.

    Raises:
        DatasetCorruptError: If it is no readable picture; it names the file.
    """
    from PIL import Image  # comes with torchvision, whose own decoders are deprecated

    mode = "RGB" if channels == 3 else "L"
    try:
        with Image.open(path) as opened:
            stored = opened.size
            opened.draft(mode, (max(2 * size, _DRAFT),) * 2)  # does nothing to other formats than JPEG
            if opened.mode.startswith(("I", "F")):
                return _from_16_bit(path, np.asarray(opened)).convert(mode), stored
            if opened.has_transparency_data:
                coloured = opened.convert("RGBA")
                black = Image.new("RGBA", coloured.size, "black")
                return Image.alpha_composite(black, coloured).convert(mode), stored
            return opened.convert(mode), stored
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's for a broken file
        raise DatasetCorruptError(f"{path} is no readable picture: {error}") from error


def _from_16_bit(path: Path, levels: np.ndarray) -> "Picture":
    from PIL import Image

    if levels.dtype.kind == "f" or levels.min() < 0 or levels.max() > 65_535:
        raise DatasetCorruptError(f"{path} holds {levels.dtype} numbers instead of 8 or 16 bits; convert it first")
    if 0 < levels.max() < 4096:
        raise DatasetCorruptError(
            f"{path} is a 16-bit picture whose largest level is {levels.max()} of 65,535, which would be black here; "
            "stretch its levels to the full range first"
        )
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8))


def _read_mask(path: Path, labels: int) -> UInt8[np.ndarray, "height width"]:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            # the indices of a palette are what was meant, its colours are for the eye
            plain = opened.mode in ("1", "L", "P") or opened.mode.startswith("I")
            values = np.asarray(opened if plain else opened.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetCorruptError(f"{path} is no readable mask: {error}") from error
    present = {*_present(values).tolist()}
    if labels > 2 or present <= {0, 1} or (1 in present and present <= {0, 1, IGNORE}):
        check_labels(path, values, labels)
        return values.astype(np.uint8)
    if max(present) <= 127:
        raise DatasetCorruptError(f"{path} has values up to {max(present)}; a mask holds 0 and 1, or 0 and 255")
    return (values > 127).astype(np.uint8)


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


def _filter(name: str) -> Any:
    from PIL import Image

    return Image.Resampling[name]
