"""The four blurs of CIFAR-10-C."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.corruptions import filters
from datamodules.corruptions.filters import Images
from datamodules.files.streams import Streams
from datamodules.shapes import Float


def defocus_blur(images: Images, _: Streams, radius: float, alias: float) -> Images:
    """Average over a disk of ``radius`` pixels whose edge is smoothed by a 3x3 Gaussian of ``alias`` pixels."""
    kernel = disk(radius, alias).to(images.device)
    margin = kernel.shape[0] // 2
    padded = functional.pad(images, [margin] * 4, mode="reflect").flatten(0, 1)[:, None]
    return functional.conv2d(padded, kernel[None, None]).view(images.shape)


def glass_blur(images: Images, streams: Streams, sigma: float, delta: int, iterations: int) -> Images:
    """Blur, move pixels about within ``delta``, blur again.

    The public code walks from the last pixel to the first and means to swap each with a neighbour up to ``delta``
    above and to the left (its draws exclude +delta). Through NumPy's views the swap is a copy: a pixel takes the
    value of that neighbour, which keeps its own. The released images are made so, and so are these. For ``delta`` 1
    no source has been visited before, hence one step moves all pixels at once.
    """
    if delta != 1:
        raise ValueError(f"glass blur is published for small images with delta 1 only, not {delta}")
    batch, channels, height, width = images.shape
    blur = [filters.gaussian_matrix(size, sigma, 4.0, "nearest").to(images.device) for size in (height, width)]
    moved = filters.whole_levels(blur[0] @ images @ blur[1].T).flatten(2)
    place = torch.arange(height * width, device=images.device).view(height, width)
    for _ in range(iterations):
        up, left = streams.integers(2, 2, height, width).unbind(1)
        stays = (place // width < delta + 1) | (place % width < delta + 1)
        source = torch.where(stays, place, place - up * width - left).flatten(1)
        moved = moved.gather(2, source[:, None].expand(batch, channels, -1))
    return blur[0] @ moved.view(images.shape) @ blur[1].T


def motion_blur(images: Images, streams: Streams, radius: int, sigma: float) -> Images:
    """Smear each image along a direction of its own, within 45 degrees of the horizontal."""
    return filters.motion_blur(images, radius, sigma, streams.uniform(low=-45.0, high=45.0))


def zoom_blur(images: Images, _: Streams, factors: int) -> Images:
    """Average of the image and of ``factors`` enlargements of it: by 1, 1.01, 1.02, and so on."""
    height, width = images.shape[2:]
    return (images.flatten(2) @ _zooms(height, width, factors).to(images.device)).view(images.shape)


@lru_cache(maxsize=16)
def disk(radius: float, alias: float) -> Float[Tensor, "size size"]:
    """Kernel of a disk with a smoothed edge; it sums to 1."""
    reach = int(radius) + 1  # one more pixel for the Gaussian
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = (steps[:, None] ** 2 + steps**2 <= radius**2).double()
    smooth = torch.exp(-(torch.arange(-1, 2, dtype=torch.float64) ** 2) / (2 * alias**2))
    smooth = torch.outer(smooth, smooth)
    blurred = functional.conv2d(kernel[None, None] / kernel.sum(), smooth[None, None] / smooth.sum(), padding=1)
    return blurred[0, 0]


@lru_cache(maxsize=8)
def _zooms(height: int, width: int, factors: int) -> Float[Tensor, "pixels pixels"]:
    """The whole average as one matrix between flattened images, transposed."""
    total = torch.eye(height * width, dtype=torch.float64)
    for number in range(factors):
        factor = 1 + number * ((1 + 0.01) - 1)  # numpy.arange's, whose 1.25 is a little more: 33 pixels and not 32
        total += torch.kron(filters.zoom_matrix(height, factor), filters.zoom_matrix(width, factor))
    return total.T / (factors + 1)
