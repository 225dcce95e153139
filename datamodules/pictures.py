"""Folders of images in any common format, decoded to tensors of one size, and resizing of images.

One decoder for all doors, :func:`read_picture`, which gives what a viewer shows: turned as the camera says (EXIF), the
colours of a palette, CMYK as RGB, transparency laid over black, 16-bit grey levels divided by 257, of an animation the
first picture.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps  # comes with torchvision, whose own decoders are deprecated
from torch import Tensor
from torch.nn import functional

from datamodules.files.integrity import DatasetCorruptError
from datamodules.files.limits import too_large
from datamodules.shapes import Float, Images, Pixels, UInt8

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
"""What counts as a picture, in upper or lower case."""
FORMATS = "PNG, JPEG, BMP, WebP"
"""The same in words."""
Square = Literal["pad", "crop", "squeeze"]
"""How a picture becomes a square: black bars around it, its middle, or the aspect not kept."""
OUTPUTS = ("mask", "uncertainty", "overlay")
"""Pictures that a segmentation writes of each, ``NAME_mask.png`` and so on."""
_OF_SYSTEMS = {"Thumbs.db", "desktop.ini"}
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap width and height
_DRAFT = 512  # JPEG pictures at least twice as large are decoded at a reduced size
# Pillow warns at half the pixels that it refuses. Said once: filters are of the process, not of a thread that decodes
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextmanager
def opened(path: Path, kind: str = "picture") -> Iterator[Image.Image]:
    """A picture file, by Pillow.

    Raises:
        DatasetCorruptError: If it is unreadable, here or while the picture is decoded; it names the file.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DatasetCorruptError(f"{path} is no readable {kind}: it is no file")
    try:
        with Image.open(path) as picture:
            if problem := too_large("it", 4.0 * picture.width * picture.height):
                raise DatasetCorruptError(f"{path} is no readable {kind}: {problem}")
            yield picture
    except Image.DecompressionBombError as error:
        raise DatasetCorruptError(
            f"{path} is no {kind} that is read here: it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels. "
            "Reduce it first"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's for a broken file
        raise DatasetCorruptError(f"{path} is no readable {kind}: {error}") from error


def picture_paths(folder: Path) -> list[Path]:
    """All pictures below a folder, ordered by their paths, as :func:`find_pictures` finds them."""
    return find_pictures(folder)[0]


def find_pictures(
    folder: Path, written: Path | None = None, also: Callable[[Path], bool] = lambda _: False
) -> tuple[list[Path], dict[str, int]]:
    """All pictures below a folder, ordered by their paths, and how many files were left out, by what they are.

    Args:
        folder: Where to look.
        written: Folder of masks and overlays that were made of these pictures, which are none of them.
        also: Which files with other endings are wanted as well.

    Returns:
        The pictures; counts of hidden files (those of macOS among them), of earlier outputs, and of files with other
        endings, by the ending.
    """
    pictures, left = [], Counter[str]()
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.is_dir():
            continue
        if any(part.startswith(".") or part == "__MACOSX" for part in below.parts) or path.name in _OF_SYSTEMS:
            left["hidden"] += 1
        elif path.suffix.lower() not in SUFFIXES and not also(path):
            left[_ending(path)] += 1
        elif _is_output(path, folder, written):
            left["earlier outputs"] += 1
        else:
            pictures.append(path)
    return pictures, dict(left)


def leftovers(folder: Path, left: Mapping[str, int], formats: str) -> str:
    """What :func:`find_pictures` has left out of a folder, in words.

    >>> leftovers(Path("photos"), {"hidden": 2, ".txt": 1}, FORMATS)
    'left out of photos: 1 .txt, 2 hidden (read are PNG, JPEG, BMP, WebP)'
    """
    what = ", ".join(f"{number:,} {kind}" for kind, number in sorted(left.items()))
    return f"left out of {folder}: {what} (read are {formats})"


def _ending(path: Path) -> str:
    """What kind of file it is, by its name."""
    suffix = path.suffix.lower()
    return ("".join(path.suffixes[-2:]).lower() if suffix == ".gz" else suffix) or "without an ending"


def _is_output(path: Path, folder: Path, written: Path | None) -> bool:
    """Whether a file is one of the three outputs of a picture, or in a folder of outputs that is not the pictures'."""
    stem, _, what = path.stem.rpartition("_")
    if what in OUTPUTS and all(path.with_name(f"{stem}_{other}.png").is_file() for other in OUTPUTS):
        return True
    if written is None or folder.resolve() == written.resolve():
        return False
    return path.resolve().is_relative_to(written.resolve())


def read_pictures(
    paths: Sequence[Path], size: int = 32, square: Square = "crop"
) -> UInt8[Tensor, "pictures 3 size size"]:
    """Decode pictures to RGB squares, reduced or enlarged (bilinear, antialiased).

    Args:
        paths: The files.
        size: Height and width of the result in pixels.
        square: How a picture becomes a square.

    Raises:
        DatasetCorruptError: If a file is no readable picture; it names the file.
    """
    if not paths:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes without holding the interpreter's lock
        return torch.from_numpy(
            np.stack(list(pool.map(lambda path: squared(read_picture(path, 3)[0], size, square), paths)))
        )


def square_box(width: int, height: int, square: Square) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square in the middle of a picture, or of the one around it.

    >>> square_box(30, 20, "crop"), square_box(30, 20, "pad")
    ((5, 0, 25, 20), (0, -5, 30, 25))
    """
    side = min(width, height) if square == "crop" else max(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def squared(picture: Image.Image, size: int, square: Square) -> UInt8[np.ndarray, "channels size size"]:
    """The picture as a square of ``size`` pixels (bilinear, antialiased)."""
    if square != "squeeze":
        # resize's own box would let what lies outside of it in at the border
        picture = picture.crop(square_box(*picture.size, square))  # beyond the picture it is black
    pixels = np.array(picture.resize((size, size), Image.Resampling.BILINEAR))  # a copy, which may be written to
    return np.ascontiguousarray(pixels.reshape(size, size, -1).transpose(2, 0, 1))


def read_picture(path: Path, channels: int, size: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """An 8-bit picture as a viewer shows it, and its width and height in the file, which may be larger.

    Args:
        path: The file.
        channels: 1 for grey (ITU-R BT.601 luma of colours), 3 for RGB.
        size: Side that is wanted; a large JPEG is decoded at a reduced size, not below twice as much.

    Raises:
        DatasetCorruptError: If it is no readable picture; it names the file.
    """
    mode = "RGB" if channels == 3 else "L"
    with opened(path) as file:
        if (frames := getattr(file, "n_frames", 1)) > 1:
            warnings.warn(f"{path} has {frames} pictures, the first is taken", stacklevel=2)
        width, height = file.size
        if size is not None:
            file.draft(mode, (max(2 * size, _DRAFT),) * 2)  # does nothing to other formats than JPEG
        turned = file.getexif().get(_ORIENTATION, 1)
        shown = ImageOps.exif_transpose(file)
        stored = (height, width) if turned in _ON_ITS_SIDE else (width, height)
        if shown.mode.startswith(("I", "F")):
            return _from_16_bit(path, np.asarray(shown)).convert(mode), stored
        return over_black(shown).convert(mode), stored


def over_black(picture: Image.Image) -> Image.Image:
    """What is transparent laid over black: colours under it were never meant to be seen."""
    if not picture.has_transparency_data:
        return picture
    coloured = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", coloured.size, "black"), coloured).convert("RGB")


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
