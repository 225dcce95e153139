"""Folders of pictures in any common format, decoded to tensors of one size, and images brought to another's form."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image  # comes with torchvision, whose own decoders are deprecated
from torch import Tensor
from torch.nn import functional

from datamodules.files.integrity import DatasetCorruptError
from datamodules.files.limits import too_large
from datamodules.shapes import Float, Images, Pixels, UInt8

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
"""What counts as a picture, in upper or lower case."""


@contextmanager
def opened(path: Path, kind: str = "picture") -> Iterator[Image.Image]:
    """A picture file, by Pillow.

    Raises:
        DatasetCorruptError: If it is unreadable, here or while the picture is decoded; it names the file.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DatasetCorruptError(f"{path} is no readable {kind}: it is no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Pillow's limit is half of its error's
            with Image.open(path) as picture:
                if problem := too_large("it", 4.0 * picture.width * picture.height):
                    raise DatasetCorruptError(f"{path} is no readable {kind}: {problem}")
                yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's for a broken file
        raise DatasetCorruptError(f"{path} is no readable {kind}: {error}") from error


def picture_paths(folder: Path) -> list[Path]:
    """All pictures below a folder, ordered by their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())


def read_pictures(paths: Sequence[Path], size: int = 32) -> UInt8[Tensor, "pictures 3 size size"]:
    """Decode pictures to RGB: the square in the middle, reduced or enlarged (bilinear, antialiased).

    Args:
        paths: The files.
        size: Height and width of the result in pixels.

    Raises:
        DatasetCorruptError: If a file is no readable picture; it names the file.
    """
    if not paths:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes without holding the interpreter's lock
        return torch.from_numpy(np.stack(list(pool.map(lambda path: _decode(path, size), paths))))


def _decode(path: Path, size: int) -> np.ndarray:
    with opened(path) as stored:
        picture = eight_bits(path, stored, "RGB")
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    if picture.size != (size, size):
        # resize's own box would let what lies outside of it in at the border
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture).transpose(2, 0, 1)


def eight_bits(path: Path, file: Image.Image, mode: str) -> Image.Image:
    """A picture of 8 bits in a mode: 16 bits by their upper half, what is transparent over black.

    Raises:
        DatasetCorruptError: Its numbers are no levels of a picture; it names the file.
    """
    if file.mode.startswith(("I", "F")):
        return _from_16_bit(path, np.asarray(file)).convert(mode)
    if file.has_transparency_data:
        coloured = file.convert("RGBA")
        black = Image.new("RGBA", coloured.size, "black")
        return Image.alpha_composite(black, coloured).convert(mode)
    return file.convert(mode)


def _from_16_bit(path: Path, levels: np.ndarray) -> Image.Image:
    if levels.dtype.kind == "f" or levels.min() < 0 or levels.max() > 65_535:
        raise DatasetCorruptError(f"{path} holds {levels.dtype} numbers instead of 8 or 16 bits; convert it first")
    if 0 < levels.max() < 4096:
        raise DatasetCorruptError(
            f"{path} is a 16-bit picture whose largest level is {levels.max()} of 65,535, which would be black here; "
            "stretch its levels to the full range first"
        )
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8))


def resized(images: Pixels, size: int) -> UInt8[Tensor, "batch channels size size"]:
    """Reduce or enlarge images to a square (bilinear, antialiased), in whole grey levels."""
    if images.shape[2:] == (size, size):
        return images
    floats = functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return floats.round().clamp(0, 255).to(torch.uint8)


def with_channels(images: UInt8[Tensor, "batch old height width"], channels: int) -> Pixels:
    """Grey from RGB (ITU-R BT.601 luma, rounded), or grey repeated to RGB."""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.repeat(1, channels, 1, 1)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (images * weights).sum(1, keepdim=True).round().to(torch.uint8).repeat(1, channels, 1, 1)


def standardized(
    images: Images, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch channels height width"]:
    """Map values from 0 to 255 to float32 with the mean and deviation of each channel, given on the scale 0 to 1, gone.

    >>> standardized(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), [0.5], [0.25]).flatten().tolist()
    [-2.0, 2.0]
    """
    result = images.to(torch.float32, copy=True)
    for channel, (middle, deviation) in enumerate(zip(mean, std, strict=True)):
        result[:, channel].sub_(255 * middle).div_(255 * deviation)  # scalars: no constant to move to the device
    return result
