"""JPEG compression and decompression of whole batches, without the file in between.

Entropy coding loses nothing, so that colour conversion, chroma subsampling, the cosine transform and its quantization
are all that a decoder's output depends on. The steps are those of the standard (ITU-T T.81, tables K.1 and K.2) and
of JFIF, with the choices of libjpeg, and so of Pillow: quality scaling, 4:2:0 chroma averaged over 2x2 pixels,
triangular upsampling.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.files.streams import Streams
from datamodules.shapes import Float

_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


def jpeg_compression(
    images: Float[Tensor, "batch channels height width"], _: Streams, quality: int
) -> Float[Tensor, "batch channels height width"]:
    """What a JPEG file of ``quality`` gives back; images on the scale 0 to 1, of one channel or three."""
    channels, height, width = images.shape[1:]
    block = 8 if channels == 1 else 16
    padding = (0, -width % block, 0, -height % block)
    levels = functional.pad((images * 255).round(), padding, mode="replicate")
    if channels == 1:
        decoded = _quantized(levels, quality, _LUMINANCE)
    else:
        luminance, chroma = _to_ycc(levels)
        chroma = _quantized(_halved(chroma), quality, _CHROMINANCE)[..., : -(-height // 2), : -(-width // 2)]
        luminance = _quantized(luminance, quality, _LUMINANCE)[..., :height, :width]
        decoded = _to_rgb(luminance, _doubled(chroma)[..., :height, :width])
    return decoded[..., :height, :width] / 255


def quantization_table(quality: int, base: tuple[int, ...]) -> list[int]:
    """Steps of the 64 coefficients, row by row, scaled from those of quality 50 as the IJG's library does.

    >>> quantization_table(50, _LUMINANCE)[:3], quantization_table(80, _LUMINANCE)[:3]
    ([16, 11, 10], [6, 4, 4])
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [min(max((step * scale + 50) // 100, 1), 255) for step in base]


def _to_ycc(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and both colour differences of RGB, in whole levels."""
    red, green, blue = levels.split(1, 1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    differences = torch.cat([(blue - luminance) / 1.772, (red - luminance) / 1.402], 1) + 128
    return _whole(luminance), _whole(differences)


def _to_rgb(luminance: Tensor, chroma: Tensor) -> Tensor:
    blue, red = (chroma - 128).split(1, 1)
    rgb = [luminance + part for part in (1.402 * red, -0.344136 * blue - 0.714136 * red, 1.772 * blue)]
    return _whole(torch.cat(rgb, 1))


def _halved(levels: Tensor) -> Tensor:
    """Means of 2x2 pixels; halves are rounded down and up in turn along a row, as libjpeg does."""
    means = functional.avg_pool2d(levels, 2) * 4
    bias = torch.arange(means.shape[-1], device=levels.device) % 2 + 1
    return ((means.round() + bias) / 4).floor()


def _doubled(levels: Tensor) -> Tensor:
    """Triangular upsampling: each new pixel is 9/16, 3/16, 3/16 and 1/16 of its four old neighbours."""
    padded = functional.pad(levels, [1, 1, 1, 1], mode="replicate")
    middle, above, below = padded[..., 1:-1, :], padded[..., :-2, :], padded[..., 2:, :]
    rows = torch.stack([3 * middle + above, 3 * middle + below], -2).flatten(-3, -2)
    middle, left, right = rows[..., 1:-1], rows[..., :-2], rows[..., 2:]
    return torch.stack([((3 * middle + left + 8) / 16).floor(), ((3 * middle + right + 7) / 16).floor()], -1).flatten(
        -2
    )


def _quantized(levels: Tensor, quality: int, base: tuple[int, ...]) -> Tensor:
    """Each 8x8 block to coefficients, to multiples of their steps, and back to whole levels."""
    transform = _cosines().to(levels.device)
    steps = torch.tensor(quantization_table(quality, base), dtype=levels.dtype, device=levels.device)
    height, width = levels.shape[2:]
    blocks = levels.unflatten(3, (width // 8, 8)).unflatten(2, (height // 8, 8)).transpose(3, 4)
    coefficients = (blocks.reshape(-1, 64) - 128) @ transform.T
    eighths = coefficients.mul_(8).round_()  # libjpeg's transform is in whole eighths, and its halves go away from 0
    coefficients = (eighths.abs() / (8 * steps) + 0.5).floor_().mul_(steps).copysign_(eighths)
    blocks = (coefficients @ transform + 128).view(*blocks.shape)
    return _whole(blocks.transpose(3, 4).reshape(levels.shape))


def _whole(levels: Tensor) -> Tensor:
    return levels.round().clamp_(0, 255)


@lru_cache(maxsize=1)
def _cosines() -> Float[Tensor, "64 64"]:
    """The orthonormal two-dimensional cosine transform of a flattened block."""
    place = torch.arange(8, dtype=torch.float64)
    one = torch.cos((2 * place + 1) * place[:, None] * math.pi / 16) / 2
    one[0] /= math.sqrt(2)
    return torch.kron(one, one)
