"""What a routine is made of: operations, the tables that they look into, and the groups of rows that they make."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lit_scaledrop.layers.bits.filters import Filters, Geometry
from lit_scaledrop.layers.bits.structures import Table, at

PACK, SUMS, BITS, FINISH, POOL, SUBSAMPLE, FETCH, DELIVER = range(8)
"""kinds of operations, as the kernels count them"""
Maps = tuple[int, int, int]
"""channels, height, width"""


class Cases:
    """Pairs of numbers for each channel and maybe a third thing; a draw chooses between several cases.

    Attributes:
        first: thresholds or factors, float32, or limits, int32, ``(cases, channels)``; none for factors of one.
        second: directions, shifts or turns, likewise; none for shifts of zero.
        falling: packed bits, ``(cases, bytes)``, see :class:`Thresholds`.
        random: whether calls say which case each row takes; else all rows take the first.
    """

    def __init__(
        self, first: Tensor | None, second: Tensor | None, falling: np.ndarray | None = None, random: bool = False
    ) -> None:
        self.first, self.second, self.falling, self.random = first, second, falling, random

    def told(self) -> Table:
        """As the kernels want it."""
        tensors = [part for part in (self.first, self.second) if part is not None]
        step = tensors[0].shape[1] if tensors else 0
        return Table(at(self.first), at(self.second), None, step)


@dataclass(frozen=True, eq=False)
class Operation:
    """One step of a routine.

    Attributes:
        kind: what is done.
        x: number of the value that it is done to.
        out: number of the value that it makes.
        skip: number of a value that is added, or -1.
        tables: thresholds, or one or two stages' factors and shifts.
        fused: whether each stage is rounded once.
        filters: weights of the convolution.
        geometry: of the convolution, or of the next one where numbers are packed.
        following: geometry of the next convolution, which takes the bits.
        pool: side of squares of which the largest sum counts, of ``BITS``.
        low: least number.
        high: largest number.
        shape: of ``x``, for each image: channels, height, width.
        size: side of the squares of ``POOL``, stride of ``SUBSAMPLE``.
        largest: whether of squares the largest number is taken, or the mean.
        front: channels of zeros in front of the others.
        channels: with those of zeros.
    """

    kind: int
    x: int
    out: int
    skip: int = -1
    tables: tuple[Cases, ...] = ()
    fused: tuple[bool, ...] = ()
    filters: Filters | None = None
    geometry: Geometry | None = None
    following: Geometry | None = None
    pool: int = 1
    low: float = -math.inf
    high: float = math.inf
    shape: Maps = (0, 0, 0)
    size: int = 1
    largest: bool = False
    front: int = 0
    channels: int = 0

    @property
    def nanoseconds(self) -> float:
        """That one thread takes for one row, roughly."""
        if self.filters is not None and self.geometry is not None and self.kind != PACK:
            sums = self.geometry.out_height * self.geometry.out_width * self.filters.shape[0]
            return sums * (0.5 + 0.1 * self.filters.words.shape[2])
        return 0.3 * math.prod(self.shape)


class Groups(NamedTuple):
    """What a call makes of one operation.

    Attributes:
        out: groups of its value.
        source: of each of them the group of ``x`` that it is made of; ``None``: the same.
        source_of_skip: likewise of the skip.
        cases: for each random table the case of each group.
    """

    out: int = 1
    source: tuple[int, ...] | None = None
    source_of_skip: tuple[int, ...] | None = None
    cases: tuple[tuple[int, ...], ...] = ()
