"""One random stream per image, for whole batches at once.

A counter-based generator: draw ``j`` of an image is the SplitMix64 hash of the image's key plus ``j`` times a
constant, so nothing is drawn in sequence and an image's draws depend on its key only, neither on its batch nor on its
device. torch's own generators would need one object, and one call, for each image.

- SplitMix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

import math

import torch
from torch import Tensor

from datamodules.loading import stream_seed
from datamodules.shapes import Float, Int


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned 64-bit word."""
    return word - (1 << 64) if word >= 1 << 63 else word


GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def mix(words: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's finalizer: a one-to-one hash of 64-bit words, held in int64.

    >>> mix(torch.tensor([GAMMA]) + 1234567).tolist()  # the first output of SplitMix64 seeded with 1234567
    [6457827717110365317]
    """
    words = words ^ ((words >> 30) & 0x3FFFFFFFF)  # int64 shifts keep the sign; the mask takes it away
    words.mul_(_FIRST)
    words ^= (words >> 27) & 0x1FFFFFFFFF
    words.mul_(_SECOND)
    words ^= (words >> 31) & 0x1FFFFFFFF
    return words


class Streams:
    """Random numbers for a batch, each image from a stream of its own.

    Args:
        indices: Which images: image ``i`` of the same ``words`` always gets the same numbers.
        *words: Non-negative integers, such as a seed and a severity; different words give unrelated streams.

    >>> whole, second = Streams(torch.arange(3), 7).uniform(4), Streams(torch.tensor([1]), 7).uniform(4)
    >>> torch.equal(whole[1:2], second)
    True
    """

    def __init__(self, indices: Int[Tensor, " batch"], *words: int) -> None:
        self._keys = mix(indices * GAMMA + _signed(stream_seed(*words)))
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._keys)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "batch ..."]:
        """Numbers of shape (batch, *shape), float64, strictly between ``low`` and ``high``, on a grid of 2**32."""
        count = math.prod(shape)
        numbers = torch.cat(self._halves(-(-count // 2)), 1)[:, :count]
        return numbers.mul_(high - low).add_(low).view(len(self), *shape)

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Standard normal numbers of shape (batch, *shape), float64, by Box and Muller; none is beyond 6.8."""
        count = math.prod(shape)
        first, second = self._halves(-(-count // 2))
        radius = first.log_().mul_(-2).sqrt_()
        angle = second.mul_(2 * math.pi)
        return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count].view(len(self), *shape)

    def integers(self, high: int, *shape: int) -> Int[Tensor, "batch ..."]:
        """Integers from 0 to ``high - 1`` of shape (batch, *shape)."""
        return self.uniform(*shape, high=float(high)).long()

    def _halves(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` hashes for each image, as two numbers each, strictly between 0 and 1."""
        steps = torch.arange(self._drawn + 1, self._drawn + count + 1, device=self._keys.device) * GAMMA
        self._drawn += count
        words = mix(self._keys[:, None] + steps)
        first, second = ((words >> shift) & 0xFFFFFFFF for shift in (32, 0))
        return first.double().add_(0.5).mul_(2.0**-32), second.double().add_(0.5).mul_(2.0**-32)
