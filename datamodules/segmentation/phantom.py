"""Generated images in the manner of breast ultrasound: dark, shadowed lesions in speckle."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.base import require
from datamodules.files.streams import Streams
from datamodules.segmentation.base import SegmentationDataModule
from datamodules.segmentation.masked_images import MaskedImages
from datamodules.shapes import Float, UInt8

DYNAMIC_RANGE = 50.0
"""Decibels between black and white."""
_CHUNK = 64  # images made at a time


class PhantomDataModule(SegmentationDataModule):
    """Ultrasound-like phantoms: a stand-in for BUSI in quick runs; needs no files.

    - **Source**: generated, see ``phantom_images``; image ``i`` of a seed is the same whatever else is asked for.
    - **Format**: grey; a lesion covers 2 to 14 % of most images, a sixth shows none.
    - **Splits**: ours, at random: the images are independent.
    - **Normalization**: fixed, near the images' mean and deviation.
    - **Cite**: for speckle as the envelope of a complex Gaussian field, R. F. Wagner, S. W. Smith, J. M. Sandrik,
      H. Lopez, "Statistics of speckle in ultrasound B-scans", IEEE Trans. Sonics and Ultrasonics 30(3), 1983.
    - **Terms**: none.

    Args:
        image_size: Height and width in pixels.
        images: Number of images, all parts together.
        phantom_seed: Seed of the images.
        **kwargs: As in ``SegmentationDataModule``; ``root`` is not used.
    """

    name = "phantom"
    stand_in = True
    mean = (0.56,)
    std = (0.15,)

    def __init__(self, image_size: int = 64, images: int = 300, phantom_seed: int = 0, **kwargs: Any) -> None:
        super().__init__(image_size=image_size, **kwargs)
        require(images >= 10, "images", images, "at least 10")
        require(0 <= phantom_seed < 2**32, "phantom_seed", phantom_seed, "from 0 to 2**32 - 1")
        self.images, self.phantom_seed = images, phantom_seed

    def load(self) -> MaskedImages:
        """Generate the images."""
        images, masks = phantom_images(self.images, self.image_size, self.phantom_seed)
        names = tuple(f"phantom {number}" for number in range(self.images))
        strata = masks.flatten(1).any(1).long()
        return MaskedImages(
            images, masks, names, torch.arange(self.images), strata, None, f"generated, seed {self.phantom_seed}"
        )


class Lesions(NamedTuple):
    """Geometry of one lesion an image, in units of the image's side; each (images, 1, 1)."""

    present: Tensor
    row: Tensor
    column: Tensor
    height: Tensor
    width: Tensor
    tilt: Tensor
    phase: Tensor


def phantom_images(
    number: int, size: int, seed: int = 0
) -> tuple[UInt8[Tensor, "images 1 size size"], UInt8[Tensor, "images size size"]]:
    """Make images and masks of lesions.

    A complex Gaussian field, smeared by the pulse (wider across than along the beam), is multiplied by the strength of
    the echo: layers of tissue, weaker with depth, a lesion 12 to 18 dB darker, and a shadow below it. Its envelope is
    compressed logarithmically. The mask is the lesion: an ellipse with a wavy outline, which speckle and blur hide.

    Args:
        number: How many.
        size: Height and width in pixels.
        seed: Decides everything.

    >>> images, masks = phantom_images(5, 32)
    >>> images.shape, masks.shape, torch.equal(phantom_images(9, 32)[0][:5], images)
    (torch.Size([5, 1, 32, 32]), torch.Size([5, 32, 32]), True)
    """
    parts = [_chunk(torch.arange(number)[start : start + _CHUNK], size, seed) for start in range(0, number, _CHUNK)]
    images, masks = (torch.cat(part) for part in zip(*parts, strict=True))
    return images, masks


def _chunk(indices: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    streams = Streams(indices, seed)
    lesions = _draw_lesions(streams)
    grid = (torch.arange(size) + 0.5) / size
    row, column = grid[:, None], grid[None, :]
    radius = _radius(lesions, row, column)
    echo = _tissue(streams, row, column) - 6 * row
    depth_of_lesion = streams.uniform(1, 1, low=12.0, high=18.0).float()
    inside = torch.sigmoid((1 - radius) / 0.12) * lesions.present
    echo = echo - depth_of_lesion * inside - _shadow(streams, lesions, row, column)
    field = streams.normal(2, size, size).float()
    field = smeared(field, 0.012 * size, 0.022 * size)
    envelope = field.square().sum(1).sqrt() * 10 ** (echo / 20)
    levels = 1 + (20 * torch.log10(envelope.clamp(min=1e-6)) - 18) / DYNAMIC_RANGE
    masks = ((radius < 1) & (lesions.present > 0)).to(torch.uint8)
    return (levels.clamp(0, 1) * 255).round().to(torch.uint8)[:, None], masks


def _draw_lesions(streams: Streams) -> Lesions:
    present, *unit = streams.uniform(7, 1, 1).float().unbind(1)
    spans = ((0.3, 0.62), (0.28, 0.72), (0.09, 0.18), (0.11, 0.26), (-0.4, 0.4), (0.0, 2 * math.pi))
    drawn = (low + (high - low) * value for (low, high), value in zip(spans, unit, strict=True))
    return Lesions((present > 1 / 6).float(), *drawn)


def _radius(lesions: Lesions, row: Tensor, column: Tensor) -> Float[Tensor, "images size size"]:
    """Distance to the lesion's centre as a multiple of the outline's: the lesion is where it is below 1."""
    across, down = column - lesions.column, row - lesions.row
    cos, sin = lesions.tilt.cos(), lesions.tilt.sin()
    x, y = (across * cos + down * sin) / lesions.width, (down * cos - across * sin) / lesions.height
    angle = torch.atan2(y, x)
    outline = 1 + 0.08 * torch.sin(3 * angle + lesions.phase) + 0.05 * torch.sin(5 * angle + 2 * lesions.phase)
    return (x.square() + y.square()).sqrt() / outline


def _tissue(streams: Streams, row: Tensor, column: Tensor) -> Float[Tensor, "images size size"]:
    """Strength of the echo of layers, which bend a little, in decibels: what a lesion must be told from."""
    bend, phase, period, contrast = streams.uniform(4, 1, 1).float().unbind(1)
    depth = row + 0.12 * (bend - 0.5) * torch.sin(2 * math.pi * (column + phase))
    return (2 + 3 * contrast) * torch.sin(2 * math.pi * (depth * (2 + 2 * period) + phase))


def _shadow(streams: Streams, lesions: Lesions, row: Tensor, column: Tensor) -> Float[Tensor, "images size size"]:
    """What is missing below a lesion, in decibels; some lesions cast none."""
    strength = streams.uniform(1, 1, low=-4.0, high=8.0).float().clamp(min=0)
    across = torch.sigmoid((0.8 * lesions.width - (column - lesions.column).abs()) / 0.02)
    below = torch.sigmoid((row - lesions.row - 0.6 * lesions.height) / 0.03)
    return lesions.present * strength * across * below


def smeared(
    field: Float[Tensor, "images parts size size"], along: float, across: float
) -> Float[Tensor, "images parts size size"]:
    """Blur by a Gaussian of these deviations in pixels, down and across; the variance stays 1."""
    for sigma, axis in ((along, 2), (across, 3)):
        reach = math.ceil(3 * sigma)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
        kernel = kernel / kernel.square().sum().sqrt()
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        padding = [reach, reach, 0, 0] if axis == 3 else [0, 0, reach, reach]
        padded = functional.pad(field.flatten(0, 1)[:, None], padding, mode="reflect")
        field = functional.conv2d(padded, kernel.view(shape)).view(field.shape)
    return field
