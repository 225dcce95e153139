"""The three noise corruptions of CIFAR-10-C."""

from functools import lru_cache

import torch
from torch import Tensor

from datamodules.corruptions.filters import Images
from datamodules.files.streams import Streams
from datamodules.shapes import Float


def gaussian_noise(images: Images, streams: Streams, sd: float) -> Images:
    """Add independent Gaussian noise of standard deviation ``sd`` to every value."""
    return images + sd * streams.normal(*images.shape[1:])


def shot_noise(images: Images, streams: Streams, rate: int) -> Images:
    """Replace every value by a Poisson count of mean ``rate * value``, over ``rate``.

    Exact, by the inverse distribution. Counts above ``rate`` are white in any case and are drawn as ``rate``.
    """
    level = (images * 255).round()
    # the 256 distributions lie one after another: that of level v from v to v + 1
    drawn = torch.searchsorted(_poisson(rate).to(images.device), level + streams.uniform(*images.shape[1:]))
    return (drawn - level.long() * rate).clamp_(0, rate) / rate


def impulse_noise(images: Images, streams: Streams, amount: float) -> Images:
    """Set a share ``amount`` of all values to 0 or to 1, each with probability 1/2."""
    draws = streams.uniform(*images.shape[1:])
    return torch.where(draws < amount, (draws < amount / 2).double(), images)


@lru_cache(maxsize=8)
def _poisson(rate: int) -> Float[Tensor, " steps"]:
    """V + P(count <= k) for the levels v = 0..255 and k = 0..rate-1, ascending."""
    level, counts = torch.arange(256, dtype=torch.float64)[:, None], torch.arange(rate, dtype=torch.float64)
    mean = level * (rate / 255)
    logarithm = torch.xlogy(counts, mean) - mean - torch.lgamma(counts + 1)
    return (level + logarithm.exp().cumsum(1).clamp(max=1)).flatten()
