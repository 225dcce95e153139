"""Augmentation of whole batches on their own device, drawn from an explicit generator.

Every transform is split in two: the geometry (which images flip, which boxes are cut) is drawn by ``draw_*``,
for a whole epoch if one likes, and applied by a deterministic function that the tests compare with torchvision
image by image.
Nothing here loops over images, reads a value back from the device, or touches the global random stream.

- Shift and flip: K. He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2
  (CIFAR-10).
- Resized crop: C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.shapes import Bool, Float, Images, Int

ATTEMPTS = 10
"""Boxes drawn for each image before the whole image is taken, as in torchvision's ``RandomResizedCrop``."""


def flip(images: Images, chosen: Bool[Tensor, " batch"]) -> Images:
    """Mirror the chosen images left to right.

    >>> flip(torch.tensor([[[[1, 2]]], [[[3, 4]]]]), torch.tensor([True, False])).flatten().tolist()
    [2, 1, 3, 4]
    """
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def draw_flips(images: int, generator: torch.Generator, p: float = 0.5) -> Bool[Tensor, " images"]:
    """Choose every image with probability ``p``; the choice comes on the generator's device."""
    return torch.rand(images, device=generator.device, generator=generator) < p


def crop(
    images: Images,
    top: Int[Tensor, " batch"],
    left: Int[Tensor, " batch"],
    padding: int,
) -> Images:
    """Pad by ``padding`` zeros on every side, then cut a window of the original size from each image.

    Args:
        images: A batch of any number type.
        top: First row of each window in the padded image, from 0 to ``2 * padding``.
        left: First column of each window in the padded image, from 0 to ``2 * padding``.
        padding: Zeros added on every side.

    >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
    >>> crop(image, torch.tensor([2]), torch.tensor([1]), padding=1).tolist()
    [[[[3, 4], [0, 0]]]]
    """
    batch, channels, height, width = images.shape
    padded = functional.pad(images, [padding] * 4)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    source = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).flatten(1)
    taken = padded.flatten(2).gather(2, source[:, None].expand(batch, channels, height * width))
    return taken.view(images.shape)


def draw_corners(images: int, generator: torch.Generator, padding: int = 4) -> Int[Tensor, "2 images"]:
    """Draw the first row and column of each image's window, from 0 to ``2 * padding``, on the generator's device."""
    return torch.randint(2 * padding + 1, (2, images), device=generator.device, generator=generator)


def draw_boxes(
    batch: int,
    size: tuple[int, int],
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Int[Tensor, "4 batch"]:
    """Draw one box (top, left, height, width) per image as torchvision's ``RandomResizedCrop`` does.

    The area is uniform within ``scale`` and the logarithm of the aspect ratio is uniform within ``ratio``. A
    box that does not fit is drawn again, at most ten times; after that the whole image is taken.

    Args:
        batch: Number of boxes.
        size: Height and width of the images in pixels.
        generator: Source of the draws; the boxes come on its device.
        scale: Smallest and largest area as fractions of the image.
        ratio: Smallest and largest width divided by height.

    >>> draw_boxes(2, (32, 32), torch.Generator().manual_seed(0), scale=(1.0, 1.0), ratio=(1.0, 1.0)).tolist()
    [[0, 0], [0, 0], [32, 32], [32, 32]]
    """
    rows, columns = size
    device = generator.device
    unit = torch.rand(4, batch, ATTEMPTS, device=device, generator=generator)
    area = rows * columns * (scale[0] + (scale[1] - scale[0]) * unit[0])
    aspect = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * unit[1])
    width = functional.pad((area * aspect).sqrt().round(), (0, 1), value=columns)
    height = functional.pad((area / aspect).sqrt().round(), (0, 1), value=rows)
    fits = (width > 0) & (width <= columns) & (height > 0) & (height <= rows)
    first = fits.int().argmax(1, keepdim=True)
    width, height = width.gather(1, first)[:, 0], height.gather(1, first)[:, 0]
    # a float32 below 1 times (n + 1) may round up to n + 1
    top = (unit[2, :, 0] * (rows - height + 1)).floor().minimum(rows - height)
    left = (unit[3, :, 0] * (columns - width + 1)).floor().minimum(columns - width)
    return torch.stack([top, left, height, width]).long()


def resized_crop(images: Images, boxes: Int[Tensor, "4 batch"]) -> Float[Tensor, "batch channels height width"]:
    r"""Cut one box from each image and enlarge it to the original size by bilinear interpolation.

    Interpolation is separable, so the whole batch is two batched matrix products, :math:`W^y_n X_n
    (W^x_n)^\top`, with the triangle kernel :math:`W_{ik} = \max(0, 1 - |c_i - k|)` at the sampling points
    :math:`c_i`, which are kept inside the box (pixels beyond its border play no part).

    Args:
        images: A batch of any number type.
        boxes: Rows top, left, height, width in pixels; every box lies within the image.

    Returns:
        Float images on the scale of the input.

    >>> image = torch.tensor([[[[0.0, 4.0], [0.0, 4.0]]]])
    >>> resized_crop(image, torch.tensor([[0], [1], [2], [1]])).tolist()  # the right column
    [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    top, left, height, width = boxes.float()
    images = images.float()
    vertical = _triangle(top, height, images.shape[2])
    horizontal = _triangle(left, width, images.shape[3])
    return vertical[:, None] @ images @ horizontal[:, None].mT


@dataclass(frozen=True)
class Augmentation:
    """Geometry drawn for a row of images; what is None is not done."""

    flipped: Bool[Tensor, " images"] | None = None
    corners: Int[Tensor, "2 images"] | None = None
    """First row and column of each window of the padded image."""
    boxes: Int[Tensor, "4 images"] | None = None
    """Top, left, height and width of each part that is enlarged."""

    def part(self, first: int, count: int) -> "Augmentation":
        """That of ``count`` images from the one numbered ``first`` on."""
        parts = (self.flipped, self.corners, self.boxes)
        return Augmentation(*(None if drawn is None else drawn[..., first : first + count] for drawn in parts))


def _triangle(
    start: Float[Tensor, " batch"], extent: Float[Tensor, " batch"], size: int
) -> Float[Tensor, "batch size size"]:
    """Interpolation matrices that stretch ``extent`` pixels from ``start`` on to ``size`` pixels."""
    pixel = torch.arange(size, device=start.device, dtype=start.dtype)
    inside = ((pixel + 0.5) * (extent / size)[:, None] - 0.5).clamp(min=0).minimum(extent[:, None] - 1)
    return (1 - ((start[:, None] + inside)[:, :, None] - pixel).abs()).clamp(min=0)
