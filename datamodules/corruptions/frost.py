"""Generated frost, in place of the photographs that CIFAR-10-C's frost is cut from.

Ferns of ice grow from random germs, each in a direction of its own, until they meet: a stem, side branches at 60
degrees as in ice's hexagonal lattice, and twigs on the branches, all with uneven thickness, on a cloudy ground. It is
made to look like window frost at the scale at which the public code crops its photographs (resized to a fifth), and
brought to their brightness, colour and contrast; results on it are not those on the released images, and say
"generated".
"""

from functools import lru_cache

import torch
from torch import Tensor

from datamodules.files.streams import Streams
from datamodules.shapes import Float

GERMS = 45
"""Ferns in each texture."""
MEANS = (
    (0.304, 0.584, 0.650),
    (0.787, 0.805, 0.841),
    (0.787, 0.805, 0.841),
    (0.541, 0.601, 0.649),
    (0.440, 0.483, 0.528),
)
"""Red, green and blue of the five photographs, on the scale 0 to 1."""
CONTRASTS = (0.06, 0.07, 0.07, 0.10, 0.135)
"""Standard deviation within windows of 32x32 pixels of the same photographs."""
WINDOW = 32


@lru_cache(maxsize=4)
def frost_textures(size: int) -> Float[Tensor, "textures 3 size size"]:
    """The textures, on the scale 0 to 1; always the same for one size.

    Args:
        size: Height and width in pixels.
    """
    streams = Streams(torch.arange(len(MEANS)), 0xF2057)
    germs = round(GERMS * (size / 192) ** 2)
    place, angle = streams.uniform(germs, 2, high=float(size)), streams.uniform(germs, high=2 * torch.pi)
    axis = torch.arange(size, dtype=torch.float64)
    warp = 3 * (torch.stack([_cloud(streams, size, 12) for _ in range(2)], -1) - 0.5)
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1) + warp
    nearest = torch.cdist(pixels.flatten(1, 2), place).argmin(2)
    from_germ = pixels.flatten(1, 2) - place.gather(1, nearest[..., None].expand(-1, -1, 2))
    towards = angle.gather(1, nearest)
    along = from_germ[..., 0] * towards.cos() + from_germ[..., 1] * towards.sin()
    aside = (from_germ[..., 1] * towards.cos() - from_germ[..., 0] * towards.sin()).abs()
    uneven = 5 * _cloud(streams, size, 7).flatten(1)
    branch, across = along - 0.577 * aside + uneven, along + 0.577 * aside - uneven
    ice = 1.2 * torch.exp(-aside / 1.2) + 0.8 * _ridge(branch, 5.3) + 0.6 * _ridge(across, 3.1) * _ridge(branch, 5.3)
    ice = ice.view(-1, size, size) * (_cloud(streams, size, 4) + _cloud(streams, size, 11) - 0.4).clamp(min=0)
    ice += 1.3 * _cloud(streams, size, 18) + 0.5 * _cloud(streams, size, 3) + 0.5 * streams.uniform(size, size)
    within = ice.unfold(1, WINDOW, WINDOW).unfold(2, WINDOW, WINDOW).std((3, 4)).mean((1, 2))
    ice = (ice - ice.mean((1, 2), keepdim=True)) * (torch.tensor(CONTRASTS) / within)[:, None, None]
    return (ice[:, None] + torch.tensor(MEANS).double()[:, :, None, None]).clamp(0, 1)


def _ridge(position: Tensor, period: float) -> Tensor:
    """Thin lines at the multiples of ``period``."""
    return (2 * (position / period - (position / period).floor()) - 1).abs() ** 2.5


def _cloud(streams: Streams, size: int, cell: int) -> Tensor:
    """Smooth noise from 0 to 1 with blobs of about ``cell`` pixels."""
    coarse = streams.uniform(size // cell + 2, size // cell + 2)
    return torch.nn.functional.interpolate(coarse[:, None], (size, size), mode="bicubic", align_corners=True)[:, 0]
