"""The digital corruptions of CIFAR-10-C."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.corruptions import filters
from datamodules.corruptions.filters import Images
from datamodules.files.streams import Streams


def contrast(images: Images, _: Streams, factor: float) -> Images:
    """Draw every channel of an image towards its mean over the pixels."""
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


def elastic_transform(images: Images, streams: Streams, alpha: float, sigma: float, affine: float) -> Images:
    """Move three points of the image, and with them the plane, then every pixel by smooth noise.

    Args:
        images: A batch.
        streams: Source of the draws.
        alpha: Displacement before smoothing, as a fraction of the height.
        sigma: Standard deviation of the smoothing, as a fraction of the height.
        affine: Largest shift of each coordinate of the three points, as a fraction of the height.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float64, device=images.device).expand(height, width)
    y = torch.arange(height, dtype=torch.float64, device=images.device)[:, None].expand(height, width)
    centre, reach = torch.tensor([width // 2, height // 2]).to(images), min(height, width) // 3
    before = centre + reach * torch.tensor([[1, 1], [1, -1], [-1, -1]]).to(images)
    after = before + streams.uniform(3, 2, low=-affine * height, high=affine * height)
    one = torch.ones_like(after[..., :1])
    back = torch.linalg.solve(torch.cat([after, one], -1), before.expand_as(after))  # from the new plane to the old one
    source = torch.stack([x, y, torch.ones_like(x)], -1).flatten(0, 1) @ back
    from_x, from_y = source.view(-1, height, width, 2).unbind(-1)
    moved = filters.sample(images, from_x, from_y, border="mirror")
    shift = streams.uniform(2, height, width, low=-1.0, high=1.0)
    if alpha == 0:
        return moved
    rows, columns = (
        filters.gaussian_matrix(size, sigma * height, 3.0, "symmetric").to(images) for size in (height, width)
    )
    right, down = (alpha * height * (rows @ shift @ columns.T)).unbind(1)
    return filters.sample(moved, x + right, y + down, border="symmetric")


def pixelate(images: Images, _: Streams, factor: float) -> Images:
    """Shrink by ``factor`` with a box filter and enlarge again, in whole grey levels as Pillow does."""
    levels = images * 255
    large = list(images.shape[2:])
    small = [int(size * factor) for size in large]
    for before, after in ((large, small), (small, large)):
        rows, columns = (filters.box_matrix(*sizes).to(images.device) for sizes in zip(before, after, strict=True))
        levels = _rounded(rows @ _rounded(levels @ columns.T))
    return levels / 255


def jpeg_compression(images: Images, _: Streams, quality: int) -> Images:
    """What a JPEG file of ``quality`` gives back, by Pillow as in the public code; one channel or three."""
    levels = (images * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    decoded = np.empty_like(levels)
    for number, image in enumerate(levels):
        with io.BytesIO() as stream:
            Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(stream, "JPEG", quality=quality)
            decoded[number] = np.asarray(Image.open(stream)).reshape(image.shape)
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images) / 255


def _rounded(levels: Tensor) -> Tensor:
    return (levels + 0.5 + 1e-6).floor()
