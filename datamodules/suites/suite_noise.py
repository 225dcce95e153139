"""Noise as out-of-distribution images, alone or on top of other images; each image has a random stream of its own.

The paper's words are "unit Gaussian noise", "uniform noise" and "CIFAR-10 with" either; amplitudes are not given.
What we take them to mean is in the constants below. Nothing is clipped, since a network's input is real-valued.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.files.streams import Streams
from datamodules.shapes import Float, Images

GAUSSIAN_SD = 1.0
"""Standard deviation of Gaussian noise in the network's input space, alone and on images. There training images
have mean 0 and variance 1, so that noise and image are equally strong; the alternative, 1 on the scale 0 to 1, is four
times that."""
UNIFORM_HIGH = 255.0
"""Uniform noise is U(0, 255) on the pixel scale, alone and on images, which it brightens by 127.5 on average. The
alternative, uniform noise around 0, would leave the brightness alone."""
CHUNK = 256


def gaussian(images: int, shape: tuple[int, int, int], seed: int, kind: int) -> Float[Tensor, "images c h w"]:
    """Independent N(0, 1) values in the network's input space.

    Args:
        images: How many.
        shape: Channels, height and width.
        seed: Seed of the draws; image ``i`` depends on (seed, kind, i) only.
        kind: What the noise is for; different kinds are unrelated.
    """
    return GAUSSIAN_SD * _draw(images, seed, kind, lambda streams: streams.normal(*shape))


def uniform(images: int, shape: tuple[int, int, int], seed: int, kind: int) -> Float[Tensor, "images c h w"]:
    """Independent U(0, 255) values on the pixel scale; arguments as in ``gaussian``."""
    return _draw(images, seed, kind, lambda streams: streams.uniform(*shape, high=UNIFORM_HIGH))


def uniform_noise(images: Images, strength: float = 1.0, seed: int = 0) -> Float[Tensor, "batch channels height width"]:
    """Add uniform noise to pixels; with one seed, growing strength makes the same pattern stronger (Fig. 5).

    Args:
        images: Images on the scale 0 to 255.
        strength: Multiple of ``UNIFORM_HIGH``; 0 changes nothing.
        seed: Seed of the draws.

    >>> clean = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    >>> torch.equal(uniform_noise(clean, 0.5) * 2, uniform_noise(clean, 1.0))
    True
    """
    batch, channels, height, width = images.shape
    return images.float() + strength * uniform(batch, (channels, height, width), seed, 4).to(images.device)


def _draw(images: int, seed: int, kind: int, draw: Callable[[Streams], Tensor]) -> Tensor:
    """Draws for images 0, 1, ... as float32, some images at a time so that the 64-bit numbers on the way stay few."""
    return torch.cat([draw(Streams(part, seed, kind)).float() for part in torch.arange(images).split(CHUNK)])
