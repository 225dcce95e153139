"""The four weather corruptions of CIFAR-10-C."""

import torch
from torch import Tensor

from datamodules.corruptions import filters
from datamodules.corruptions.filters import Images
from datamodules.corruptions.frost import frost_textures
from datamodules.files.streams import Streams
from datamodules.shapes import Float

WIBBLE = 100.0
"""First displacement of the plasma fractal; it matters only against the height 0 of the first corner."""


def snow(
    images: Images,
    streams: Streams,
    mean: float,
    sd: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    blend: float,
) -> Images:
    """Whiten the image and add flakes: thresholded Gaussian noise, enlarged, smeared, and once more upside down."""
    height, width = images.shape[2:]
    flakes = mean + sd * streams.normal(1, height, width)
    rows, columns = (filters.zoom_matrix(size, zoom).to(images.device) for size in (height, width))
    flakes = rows @ flakes @ columns.T
    flakes = filters.whole_levels(torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1))
    flakes = filters.motion_blur(flakes, radius, sigma, streams.uniform(low=-135.0, high=-45.0))
    flakes = filters.whole_levels(flakes)
    white = torch.maximum(images, luma(images) * 1.5 + 0.5)
    return blend * images + (1 - blend) * white + flakes + flakes.flip(2, 3)


def frost(images: Images, streams: Streams, image: float, frost: float) -> Images:
    """Add a window out of one of five generated frost textures; the public code crops photographs."""
    channels, height, width = images.shape[1:]
    textures = frost_textures(max(192, 2 * height, 2 * width)).to(images.device)
    which = streams.integers(len(textures))
    top, left = (streams.integers(textures.shape[-1] - size) for size in (height, width))
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    window = textures[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return image * images + frost * (luma(window) if channels == 1 else window)


def fog(images: Images, streams: Streams, strength: float, decay: float) -> Images:
    """Add a plasma fractal times ``strength``, and scale so that the brightest value of the image stays possible."""
    height, width = images.shape[2:]
    size = 1 << (max(height, width) - 1).bit_length()
    brightest = images.amax((1, 2, 3), keepdim=True)
    haze = plasma(streams, size, decay)[:, None, :height, :width]
    return (images + strength * haze) * brightest / (brightest + strength)


def brightness(images: Images, _: Streams, more: float) -> Images:
    """Add ``more`` to the value of HSV, at the same hue and saturation: all channels of a pixel grow by one factor."""
    value = images.amax(1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, images * (brighter / value.clamp(min=1e-9)), brighter)


def luma(images: Images) -> Float[Tensor, "batch 1 height width"]:
    """Grey value of RGB images (ITU-R BT.601: 0.299, 0.587, 0.114); grey images are what they are."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def plasma(streams: Streams, size: int, decay: float) -> Float[Tensor, "batch size size"]:
    """One plasma fractal per image by the diamond-square method on a torus, scaled to 0..1.

    A. Fournier, D. Fussell, L. Carpenter, "Computer rendering of stochastic models", Comm. ACM 25(6), 1982.

    Args:
        streams: Source of the draws.
        size: Height and width, a power of 2.
        decay: Factor by which the displacement shrinks (as its square, in the public code) when the step is halved.
    """
    draws = streams.uniform(size, size, low=-1.0, high=1.0)
    heights = torch.zeros_like(draws)  # every other point is a displaced mean of four points of the coarser grid
    step, wibble = size, WIBBLE
    while step >= 2:
        half, noise = step // 2, wibble**2 * draws
        corner = heights[:, ::step, ::step]
        across = corner + corner.roll(-1, 1)
        heights[:, half::step, half::step] = (across + across.roll(-1, 2)) / 4 + noise[:, half::step, half::step]
        middle = heights[:, half::step, half::step]
        above_below, left_right = middle + middle.roll(1, 1), corner + corner.roll(-1, 2)
        heights[:, ::step, half::step] = (above_below + left_right) / 4 + noise[:, ::step, half::step]
        sides, ends = middle + middle.roll(1, 2), corner + corner.roll(-1, 1)
        heights[:, half::step, ::step] = (sides + ends) / 4 + noise[:, half::step, ::step]
        step, wibble = half, wibble / decay
    heights -= heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True).clamp(min=1e-12)
