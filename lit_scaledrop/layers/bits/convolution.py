r"""Convolutions of signs by XOR and popcount: the integers that ``F.conv2d`` of +-1 gives, exactly.

With n products of signs, of which d are unequal, $\sum_i x_i w_i = n - 2 d$, and 64 products cost one XOR and one
population count.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_scaledrop.layers.bits.build import best_level, library
from lit_scaledrop.layers.bits.filters import Filters, Pair
from lit_scaledrop.shapes import Float

_WORTH_THREADS_NS = 300_000  # starting two and waiting for them takes 100 us
_READ_BEHIND = 8  # bytes behind an input


class Geometry(ctypes.Structure):
    """Of one convolution, as the kernels declare it."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            "channels", "groups", "unit", "height", "width", "top", "left", "padded_height", "padded_width",
            "out_height", "out_width", "kernel_height", "kernel_width", "stride_height", "stride_width",
            "dilation_height", "dilation_width", "filters", "words", "products",
        )
    )  # fmt: skip


class _Operands(ctypes.Structure):
    """As the kernels declare them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("inputs", "filters", "position", "border", "factor")),
        ("lanes", ctypes.c_int64),
    )


def available() -> bool:
    """Whether there are compiled kernels here; a line has said why not."""
    return library() is not None


class Thresholds(NamedTuple):
    """What makes a number a sign, for each channel: +1 where ``direction * x >= threshold``.

    Attributes:
        threshold: float32, ``(cases, channels)``.
        direction: +1 or -1, the same.
        case: of each image its row in them, int32; one for all of them alike.
        falling: where they are for the largest of some numbers, whether its sign is +1 where all of theirs are, and not
            where any is; default: where ``direction`` is negative.
    """

    threshold: Tensor
    direction: Tensor
    case: Tensor
    falling: Tensor | None = None


@dataclass(frozen=True)
class Shape:
    """Of a convolution: steps, zeros above and to the left, below and to the right, distances of the taps."""

    stride: Pair = (1, 1)
    before: Pair = (0, 0)
    behind: Pair = (0, 0)
    dilation: Pair = (1, 1)


@dataclass(frozen=True)
class Packed:
    """Images as bits, with the border that one convolution gives them."""

    batch: int
    size: Pair
    out: Pair
    shape: Shape
    geometry: Geometry
    bits: np.ndarray
    level: int


@torch.no_grad()
def pack(
    x: Float[Tensor, "batch channels height width"],
    filters: Filters,
    shape: Shape,
    thresholds: Thresholds | None = None,
    level: int | None = None,
) -> Packed:
    """Signs of ``x`` as bits, as the kernels convolve them with ``filters``; arguments as of :func:`conv2d`."""
    loaded = kernels()
    every = filters.shape[1] * filters.groups
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.shape[1] != every:
        raise ValueError(
            f"float32 images with {every} channels on the CPU are needed, got {x.dtype} {tuple(x.shape)} on {x.device}"
        )
    batch, _, *size = x.shape
    packed = empty(batch, (size[0], size[1]), filters, shape, level)
    threshold, direction, case, _ = thresholds or Thresholds(
        torch.zeros(1, every), torch.ones(1, every), torch.zeros(1)
    )
    case = case.to(torch.int32).expand(batch).contiguous()
    x, threshold, direction = x.detach().resolve_neg().contiguous(), threshold.contiguous(), direction.contiguous()

    def run(begin: int, end: int) -> int:
        loaded.bits_pack(
            ctypes.byref(packed.geometry), packed.level, at(x), at(threshold), at(direction), at(case), at(packed.bits),
            ctypes.c_int64(begin), ctypes.c_int64(end),
        )  # fmt: skip
        return 0

    spread(run, batch * size[0], 0.15 * x.numel())
    return packed


def empty(batch: int, size: Pair, filters: Filters, shape: Shape, level: int | None) -> Packed:
    """Images of a size that a convolution takes, all bits 0."""
    count, channels, kernel_height, kernel_width = filters.shape
    height, width = size
    padded = height + shape.before[0] + shape.behind[0], width + shape.before[1] + shape.behind[1]
    high, wide = (
        (whole - step * (kernel - 1) - 1) // each + 1
        for whole, step, kernel, each in zip(padded, shape.dilation, filters.shape[2:], shape.stride, strict=True)
    )
    if min(high, wide) < 1:
        raise ValueError(f"a window of {filters.shape[2:]} with dilation {shape.dilation} does not fit into {padded}")
    geometry = Geometry(
        channels, filters.groups, filters.unit, height, width, *shape.before, *padded, high, wide, kernel_height,
        kernel_width, *shape.stride, *shape.dilation, count // filters.groups, filters.words.shape[2],
        channels * kernel_height * kernel_width,
    )  # fmt: skip
    bits = np.zeros(batch * padded[0] * padded[1] * filters.groups * filters.unit + _READ_BEHIND, np.uint8)
    return Packed(batch, size, (high, wide), shape, geometry, bits, best_level() if level is None else level)


@torch.no_grad()
def multiply(packed: Packed, filters: Filters) -> Float[Tensor, "batch filters out_height out_width"]:
    """Sums of packed images and the filters that they were packed for.

    Raises:
        ValueError: weights are no signs.
        MemoryError: there is none for the windows.
    """
    result = torch.empty(packed.batch, filters.shape[0], *packed.out)
    if result.numel():
        run_sums(packed, filters, packed.batch * packed.out[0] * packed.out[1], numbers=result)
    return result


def run_sums(
    packed: Packed,
    filters: Filters,
    count: int,
    numbers: Tensor | None = None,
    following: ctypes.Structure | None = None,
) -> None:
    """Let the kernels sum: ``count`` pixels to numbers, or ``count`` rows of the following input to bits."""
    loaded = kernels()
    if not filters.exact:
        raise ValueError("the kernels multiply signs: +-1 times a power of two for each filter")
    shape = packed.shape
    border = filters.border(packed.size, packed.out, shape.stride, shape.before, shape.dilation)
    factor = filters.factor_of_lane
    operands = _Operands(
        at(packed.bits), at(filters.words), at(border.position), at(border.added), at(factor), len(factor)
    )

    def run(begin: int, end: int) -> int:
        return loaded.bits_sums(
            ctypes.byref(packed.geometry), packed.level, ctypes.byref(operands),
            None if numbers is None else at(numbers), None if following is None else ctypes.byref(following),
            ctypes.c_int64(begin), ctypes.c_int64(end),
        )  # fmt: skip

    sums = packed.batch * packed.out[0] * packed.out[1] * filters.shape[0]
    if any(spread(run, count, sums * (0.5 + 0.1 * filters.words.shape[2]))):
        raise MemoryError("no memory for the windows of a binary convolution")


def conv2d(
    x: Float[Tensor, "batch channels height width"],
    filters: Filters,
    shape: Shape = Shape(),
    thresholds: Thresholds | None = None,
    level: int | None = None,
) -> Float[Tensor, "batch filters out_height out_width"]:
    """Convolution of the signs of ``x`` with a border of zeros.

    Args:
        x: float32, on the CPU.
        filters: weights.
        shape: steps, borders and distances.
        thresholds: what makes a number a sign; by default it is +1 where ``x >= 0``.
        level: instructions, by the number of :data:`lit_scaledrop.layers.bits.LEVELS`; default: the best ones.

    Raises:
        ValueError: shapes do not fit, or weights are no signs.
        RuntimeError: there are no kernels here, see :func:`available`.

    >>> from torch.nn import functional as F
    >>> x, weight = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3).sign()
    >>> expected = F.conv2d(torch.where(x >= 0, 1.0, -1.0), weight, padding=1)
    >>> not available() or torch.equal(conv2d(x, Filters(weight), Shape(before=(1, 1), behind=(1, 1))), expected)
    True
    """
    return multiply(pack(x, filters, shape, thresholds, level), filters)


def kernels() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        RuntimeError: there are none here.
    """
    loaded = library()
    if loaded is None:
        raise RuntimeError("there are no compiled kernels: a C compiler is needed")
    return loaded


def at(numbers: Tensor | np.ndarray) -> ctypes.c_void_p:
    """Where numbers lie."""
    return ctypes.c_void_p(numbers.data_ptr() if isinstance(numbers, Tensor) else numbers.ctypes.data)


def spread(run: Callable[[int, int], int], count: int, nanoseconds: float) -> list[int]:
    """``run(begin, end)`` over 0 to ``count``; what takes long in parts, by threads: the kernels leave Python's lock.

    Args:
        run: computes some of them.
        count: how many there are.
        nanoseconds: that one thread takes, roughly.
    """
    parts = torch.get_num_threads()
    if parts == 1 or nanoseconds < _WORTH_THREADS_NS or count < parts:
        return [run(0, count)]
    ends = [count * part // parts for part in range(parts + 1)]
    return list(_threads(os.getpid(), parts).map(run, ends[:-1], ends[1:]))


@cache
def _threads(_process: int, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "scaledrop-bits")  # of one process: a fork has none of the parent's
