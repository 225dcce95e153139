"""Sums of one convolution that go to the next one as bits: no number of them is written to memory."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lit_scaledrop.layers.bits.convolution import Geometry, Packed, Shape, Thresholds, at, empty, run_sums
from lit_scaledrop.layers.bits.filters import Filters


class _Next(ctypes.Structure):
    """As the kernels declare it."""

    _fields_ = (
        ("geometry", ctypes.POINTER(Geometry)),
        ("pool", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("threshold", "direction", "falling", "first", "row", "of_row", "out")),
    )


@dataclass(frozen=True)
class Sums:
    """Of a convolution that is still to be computed, or their maxima over squares.

    Attributes:
        packed: its images.
        filters: its weights.
        pool: side of the squares, which lie side by side; 1 for the sums themselves.
        image: of each row the image that it comes from.
    """

    packed: Packed
    filters: Filters
    pool: int
    image: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.image)

    def pooled(self, size: int) -> "Sums":
        """Their maxima over squares, what is left over at the end left out, as ``MaxPool2d(size)`` has it."""
        return replace(self, pool=self.pool * size)

    def rows(self, batch: int, parts: Sequence[int]) -> "Sums":
        """The rows of some parts, of ``batch`` rows each."""
        return replace(
            self, image=tuple(row for part in parts for row in self.image[part * batch : (part + 1) * batch])
        )


def can_be_compared(first: Filters, following: Filters) -> bool:
    """Whether sums of one convolution can go to another as bits: neither has groups, whose bits share bytes."""
    return first.groups == following.groups == 1 and first.shape[0] == following.shape[1]


@torch.no_grad()
def compare(sums: Sums, filters: Filters, shape: Shape, thresholds: Thresholds) -> Packed:
    """What ``pack(multiply(...), filters, shape, thresholds)`` gives, in one go.

    Args:
        sums: of finite numbers, so that the sign of a maximum is one of their signs.
        filters: weights of the convolution that takes the bits; see :func:`can_be_compared`.
        shape: its steps and borders.
        thresholds: what makes a sum a sign.

    >>> from lit_scaledrop.layers.bits import available, conv2d, multiply, pack
    >>> first, following = Filters(torch.randn(9, 3, 1, 1).sign()), Filters(torch.randn(2, 9, 3, 3).sign())
    >>> half = Thresholds(torch.full((1, 9), 0.5), torch.ones(1, 9), torch.zeros(1))
    >>> def both_agree():
    ...     packed = pack(torch.randn(1, 3, 8, 8), first, Shape())
    ...     bits = compare(Sums(packed, first, 2, (0,)), following, Shape(), half)
    ...     pooled = torch.nn.functional.max_pool2d(multiply(packed, first), 2)
    ...     return torch.equal(multiply(bits, following), conv2d(pooled, following, thresholds=half))
    >>> not available() or both_agree()
    True
    """
    packed = sums.packed
    high, wide = (side // sums.pool for side in packed.out)
    made = empty(len(sums), (high, wide), filters, shape, packed.level)
    image = np.array(sums.image, np.int64)
    row = np.argsort(image, kind="stable").astype(np.int32)
    first = np.searchsorted(image[row], np.arange(packed.batch + 1)).astype(np.int32)
    case = thresholds.case.to(torch.int32).expand(len(sums)).numpy()[row].copy()
    direction = sums.filters.lanes(thresholds.direction)
    # no number reaches what stands for no filter
    threshold = sums.filters.lanes(thresholds.threshold.nan_to_num(torch.inf, torch.inf, -torch.inf))
    threshold[:, sums.filters.shape[0] :] = torch.inf
    falls = thresholds.direction < 0 if thresholds.falling is None else thresholds.falling
    falling = np.zeros((len(falls), filters.unit), np.uint8)
    bits = np.packbits(falls.numpy(), axis=1, bitorder="little")
    falling[:, : bits.shape[1]] = bits
    following = _Next(
        ctypes.pointer(made.geometry), sums.pool, at(threshold), at(direction), at(falling), at(first), at(row),
        at(case), at(made.bits),
    )  # fmt: skip
    if len(sums) and high and wide:
        run_sums(packed, sums.filters, packed.batch * high, following=following)
    return made
