r"""Linear maps of image axes, and sampling: what the corruptions are made of.

A filter that treats rows and columns alike is a matrix for each axis, :math:`Y = R X C^\top`; its treatment of the
border is in the matrix.
"""

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.shapes import Float, Int

Images = Float[Tensor, "batch channels height width"]
"""A batch, float64 on the scale 0 to 1 where nothing else is said."""

Border = Literal["nearest", "symmetric", "mirror"]
"""What lies beyond the edge of ``a b c``: ``c c``, ``c b`` (the edge repeated), or ``b a``."""


def beyond(positions: Int[Tensor, "*shape"], size: int, border: Border) -> Int[Tensor, "*shape"]:
    """Map positions outside 0..size-1 to the pixels that stand for them.

    >>> beyond(torch.tensor([-2, -1, 0, 3, 4]), 3, "symmetric").tolist()
    [1, 0, 0, 2, 1]
    """
    if border == "nearest":
        return positions.clamp(0, size - 1)
    repeated = int(border == "symmetric")
    period = max(2 * size - 2 + 2 * repeated, 1)
    folded = positions % period
    return torch.where(folded < size, folded, period - folded - repeated)


@lru_cache(maxsize=64)
def gaussian_matrix(size: int, sigma: float, truncate: float, border: Border) -> Float[Tensor, "size size"]:
    """Gaussian filter along one axis, cut off at ``truncate`` standard deviations as ``scipy.ndimage`` does.

    Args:
        size: Pixels.
        sigma: Standard deviation in pixels.
        truncate: Cut-off in standard deviations.
        border: What lies beyond the edge.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets**2) / (2 * max(sigma, 1e-6) ** 2)).double()
    source = beyond(torch.arange(size)[:, None] + offsets, size, border)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (weights / weights.sum()).expand(size, -1))


@lru_cache(maxsize=128)
def zoom_matrix(size: int, factor: float) -> Float[Tensor, "size size"]:
    """Enlarge the middle of an axis by ``factor``, linearly, and trim it to the old size.

    The middle ceil(size / factor) pixels become round(that * factor), end points on end points
    (``scipy.ndimage.zoom`` with order 1), of which the middle ``size`` are kept.
    """
    inner = math.ceil(size / factor)
    outer = round(inner * factor)
    first, trim = (size - inner) // 2, (outer - size) // 2
    places = first + (torch.arange(size) + trim).double() * ((inner - 1) / (outer - 1))
    return (1 - (places[:, None] - torch.arange(size)).abs()).clamp(min=0)


@lru_cache(maxsize=64)
def box_matrix(size: int, new: int) -> Float[Tensor, "new size"]:
    """Resize an axis with Pillow's box filter: averages of whole pixels to shrink, nearest pixels to grow."""
    scale = size / new
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    support = 0.5 * max(scale, 1.0)
    first = (centre - support + 0.5).long().clamp(min=0)
    last = (centre + support + 0.5).long().clamp(max=size)
    pixel = torch.arange(size)
    place = (pixel - centre[:, None] + 0.5) / max(scale, 1.0)
    inside = (pixel >= first[:, None]) & (pixel < last[:, None]) & (place > -0.5) & (place <= 0.5)
    weights = inside.double()
    return weights / weights.sum(1, keepdim=True)


def sample(
    images: Images,
    x: Float[Tensor, "batch height width"],
    y: Float[Tensor, "batch height width"],
    border: Literal["symmetric", "mirror"],
) -> Images:
    """Bilinear samples of each image at columns ``x`` and rows ``y`` in pixels."""
    height, width = images.shape[2:]
    if border == "mirror":
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    else:
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return functional.grid_sample(images, grid, "bilinear", "reflection", align_corners=border == "mirror")


def motion_blur(images: Images, radius: int, sigma: float, angle: Float[Tensor, " batch"]) -> Images:
    r"""Smear each image along its own direction with one half of a Gaussian, as ImageMagick's ``-motion-blur`` does.

    Pixel :math:`x` becomes the weighted mean of the pixels at :math:`x + k (\cos, \sin)`, rounded to whole pixels,
    for :math:`k = 0 \dots 2 \cdot radius`; beyond the edge lies the edge pixel.

    Args:
        images: A batch on any scale.
        radius: Half the longest smear in pixels.
        sigma: Standard deviation of the Gaussian in pixels.
        angle: Direction of each image in degrees, clockwise from the right.
    """
    batch, channels, height, width = images.shape
    taps = torch.arange(2 * radius + 1, dtype=torch.float64)
    weights = torch.exp(-(taps**2) / (2 * sigma**2))
    weights = weights[weights > 1e-6]  # the others move no pixel by a level
    weights /= weights.sum()
    steps = taps[: len(weights)].to(images.device)
    radians = angle[:, None].deg2rad()
    right, down = (steps * radians.cos() - 0.5).ceil().long(), (steps * radians.sin() - 0.5).ceil().long()
    rows = beyond(torch.arange(height, device=images.device) + down[..., None], height, "nearest") * width
    columns = beyond(torch.arange(width, device=images.device) + right[..., None], width, "nearest")
    flat, blurred = images.flatten(2), torch.zeros_like(images).flatten(2)
    for tap, weight in enumerate(weights.tolist()):
        source = (rows[:, tap, :, None] + columns[:, tap, None, :]).flatten(1)[:, None]
        blurred.add_(flat.gather(2, source.expand(batch, channels, -1)), alpha=weight)
    return blurred.view(images.shape)


def whole_levels(images: Images) -> Images:
    """Cut values on the scale 0 to 1 down to whole grey levels, as storing them in bytes does."""
    return (images * 255 + 1e-6).floor() / 255
