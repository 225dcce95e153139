r"""Convolutions of signs by XOR and popcount: the integers that ``F.conv2d`` of +-1 gives, exactly.

With n products of signs, of which d are unequal, $\sum_i x_i w_i = n - 2 d$, and 64 products cost one XOR and one
population count.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_scaledrop.layers.bits.filters import Filters, Geometry, Shape
from lit_scaledrop.layers.bits.operation import BITS, PACK, SUMS, Cases, Operation
from lit_scaledrop.layers.bits.routine import Routine
from lit_scaledrop.layers.turning import bisect
from lit_scaledrop.shapes import Bool, Float, Int


class Thresholds(NamedTuple):
    """What makes a number a sign, for each channel: +1 where ``direction * x >= threshold``.

    Attributes:
        threshold: float32, ``(cases, channels)``.
        direction: +1 or -1, the same; 0 where all finite numbers have one sign.
        falling: where they are for the largest of some numbers, whether its sign is +1 where all of theirs are, and not
            where any is; default: where ``direction`` is negative.
    """

    threshold: Tensor
    direction: Tensor
    falling: Tensor | None = None


def at_least_zero(channels: int) -> Thresholds:
    """Signs as the layers take them: +1 where ``x >= 0``."""
    return Thresholds(torch.zeros(1, channels), torch.ones(1, channels))


def pack(x: int, out: int, following: Geometry, thresholds: Thresholds | Cases) -> Operation:
    """Numbers to signs, as the next convolution takes them."""
    if not isinstance(thresholds, Cases):
        thresholds = Cases(thresholds.threshold.contiguous(), thresholds.direction.contiguous())
    shape = following.channels * following.groups, following.height, following.width
    return Operation(PACK, x, out, tables=(thresholds,), geometry=following, shape=shape)


def sums(x: int, out: int, filters: Filters, geometry: Geometry) -> Operation:
    """Signs to sums of their products with the filters."""
    return Operation(SUMS, x, out, filters=filters, geometry=geometry)


def bits(
    x: int,
    out: int,
    filters: Filters,
    geometry: Geometry,
    following: Geometry,
    thresholds: Thresholds | Cases,
    pool: int = 1,
) -> Operation:
    """Signs to the signs of sums, or of their largest in squares; no number of them is written to memory.

    Both convolutions have no groups, whose bits share bytes.
    """
    if not isinstance(thresholds, Cases):
        thresholds = in_lanes(thresholds, filters, following)
    return Operation(
        BITS, x, out, tables=(thresholds,), filters=filters, geometry=geometry, following=following, pool=pool
    )


def in_lanes(thresholds: Thresholds, filters: Filters, following: Geometry) -> Cases:
    """Thresholds as :func:`bits` wants them: of n products, n - sum is compared with a whole number.

    Where the sign is +1 for a falling sum, both are compared with all bits turned, which reverses their order.
    """
    products = filters.shape[1] * filters.shape[2] * filters.shape[3]
    rising = thresholds.direction >= 0
    beyond = torch.where(rising, products + 1, -products - 1)  # the sums that there are

    def positive(total: Int[Tensor, "cases filters"]) -> Bool[Tensor, "cases filters"]:
        return thresholds.direction * (filters.factor * total.float()) >= thresholds.threshold

    lost = products - bisect(positive, beyond, -beyond)
    limit = torch.where(rising, lost, ~lost).int()
    falls = thresholds.direction < 0 if thresholds.falling is None else thresholds.falling
    falling = np.zeros((len(falls), following.unit), np.uint8)
    packed = np.packbits(falls.numpy(), axis=1, bitorder="little")
    falling[:, : packed.shape[1]] = packed
    # no sum is below 0, the limit of what stands for no filter
    return Cases(filters.lanes(limit + 1) - 1, filters.lanes(rising.int() - 1), falling)


@torch.no_grad()
def conv2d(
    x: Float[Tensor, "batch channels height width"],
    filters: Filters,
    shape: Shape | None = None,
    thresholds: Thresholds | None = None,
    level: int | None = None,
) -> Float[Tensor, "batch filters out_height out_width"]:
    """Convolution of the signs of ``x`` with a border of zeros.

    Args:
        x: float32, on the CPU.
        filters: weights.
        shape: steps, borders and distances; default: neighbours, without a border.
        thresholds: what makes a number a sign; by default it is +1 where ``x >= 0``.
        level: instructions, by the number of :data:`lit_scaledrop.layers.bits.LEVELS`; default: the best ones.

    Raises:
        ValueError: shapes do not fit, or weights are no signs.
        RuntimeError: there are no kernels here, see :func:`available`.

    >>> from torch.nn import functional as F
    >>> from lit_scaledrop.layers.bits import available
    >>> x, weight = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3).sign()
    >>> expected = F.conv2d(torch.where(x >= 0, 1.0, -1.0), weight, padding=1)
    >>> not available() or torch.equal(conv2d(x, Filters(weight), Shape(before=(1, 1), behind=(1, 1))), expected)
    True
    """
    every = filters.shape[1] * filters.groups
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.shape[1] != every:
        raise ValueError(
            f"float32 images with {every} channels on the CPU are needed, got {x.dtype} {tuple(x.shape)} on {x.device}"
        )
    shape, size = shape or Shape(), (x.shape[2], x.shape[3])
    key = (size, shape, level)
    routine = filters.routines.get(key) if thresholds is None else None
    if routine is None:
        g = filters.geometry(size, shape)
        operations = [pack(0, 1, g, thresholds or at_least_zero(every)), sums(1, 2, filters, g)]
        routine = Routine(
            operations, [(every, *size), g, (filters.shape[0], g.out_height, g.out_width)], [0], [2], level
        )
        if thresholds is None:
            filters.keep(key, routine)
    return routine([x.detach().resolve_neg().contiguous()], len(x))[0]
