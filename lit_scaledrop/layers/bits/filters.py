"""Weights of a binary convolution as words, and what zeros of a border add to its sums.

Zeros are no signs: they count as -1 in the kernels, and what that adds depends on the position of the window alone (at
most one case for each row and column that a border cuts), so a table takes it away.
"""

import ctypes
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_scaledrop.shapes import Float, Shaped

Pair = tuple[int, int]
_BLOCK = 8  # filters whose words alternate, FILTERS of the kernels
_EXACT = 1 << 24  # integers that float32 holds
_SIZES = 16  # of inputs whose borders are kept


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


@dataclass(frozen=True)
class Shape:
    """Of a convolution: steps, zeros above and to the left, below and to the right, distances of the taps."""

    stride: Pair = (1, 1)
    before: Pair = (0, 0)
    behind: Pair = (0, 0)
    dilation: Pair = (1, 1)


class _Border(NamedTuple):
    """What a border adds to the sums."""

    position: np.ndarray
    """of each output pixel its row in ``added``, 0 where a window has no part outside; int32"""
    added: np.ndarray
    """float32, ``(positions, lanes)``"""


class Filters:
    """Signs of a layer's weights as words, and what its geometry needs.

    Args:
        weight: ``(filters, channels of a group, height, width)``.
        groups: blocks of channels that see nothing of each other.

    Attributes:
        factor: of each filter, float32.
        routines: of convolutions with them, for some sizes, as whoever makes them keeps them.
        exact: whether the weights are +-1 times a power of two for each filter, so that sums are exact; and neither too
            many nor too large for float32.
    """

    def __init__(self, weight: Float[Tensor, "filters channels height width"], groups: int = 1) -> None:
        self.shape, self.groups = tuple(weight.shape), groups
        size = weight.abs()
        factor = size.flatten(1)[:, 0] if weight.numel() else size.new_ones(len(weight))
        alike = torch.equal(size, factor.view(-1, 1, 1, 1).expand_as(size))
        products = size[0].numel() if len(size) else 0
        finite = bool((factor * products).isfinite().all()) and products <= _EXACT
        self.exact = alike and finite and bool((factor.frexp().mantissa == 0.5).all())
        self.factor = factor.float().contiguous()
        self.factor_of_lane = self.lanes(self.factor)
        signs = torch.where(weight > 0, 1.0, -1.0)
        self._taps = signs.sum(1)
        self.words, self.unit = self._pack((signs > 0).numpy())
        self._borders: dict[bytes, _Border] = {}
        self.routines: dict[Any, Any] = {}

    def lanes(self, x: Shaped[Tensor, "*rows filters"]) -> Shaped[Tensor, "*rows lanes"]:
        """One number a filter as the kernels have them: eight a block, 0 where a block has no more filters."""
        each = self.shape[0] // self.groups
        return F.pad(x.unflatten(-1, (self.groups, each)), (0, -each % _BLOCK)).flatten(-2).contiguous()

    def _pack(self, positive: np.ndarray) -> tuple[np.ndarray, int]:
        """Words ``(groups, blocks, words, _BLOCK)`` and the bytes of a unit."""
        filters, channels, height, width = positive.shape
        unit = next((size for size in (1, 2, 4) if channels <= 8 * size), 8 * -(-channels // 64))
        bits = np.zeros((filters, height, width, unit * 8), bool)
        bits[..., :channels] = positive.transpose(0, 2, 3, 1)
        taps = np.packbits(bits, axis=-1, bitorder="little").reshape(filters, -1)
        each = filters // self.groups
        blocks, words = -(-each // _BLOCK), -(-taps.shape[1] // 8)
        padded = np.zeros((self.groups, blocks * _BLOCK, words * 8), np.uint8)
        padded[:, :each, : taps.shape[1]] = taps.reshape(self.groups, each, -1)
        whole = padded.view(np.uint64).reshape(self.groups, blocks, _BLOCK, words)
        return np.ascontiguousarray(whole.transpose(0, 1, 3, 2)), unit

    def geometry(self, size: Pair, shape: Shape) -> Geometry:
        """Of a convolution of inputs of one size.

        Raises:
            ValueError: a window is larger than they are with their border.
        """
        count, channels, kernel_height, kernel_width = self.shape
        height, width = size
        padded = height + shape.before[0] + shape.behind[0], width + shape.before[1] + shape.behind[1]
        high, wide = (
            (whole - step * (kernel - 1) - 1) // each + 1
            for whole, step, kernel, each in zip(padded, shape.dilation, self.shape[2:], shape.stride, strict=True)
        )
        if min(high, wide) < 1:
            raise ValueError(f"a window of {self.shape[2:]} with dilation {shape.dilation} does not fit into {padded}")
        return Geometry(
            channels, self.groups, self.unit, height, width, *shape.before, *padded, high, wide, kernel_height,
            kernel_width, *shape.stride, *shape.dilation, count // self.groups, self.words.shape[2],
            channels * kernel_height * kernel_width,
        )  # fmt: skip

    def keep(self, key: Any, routine: Any) -> None:
        """Keep a routine, for some sizes."""
        if len(self.routines) == _SIZES:
            self.routines.clear()
        self.routines[key] = routine

    def border(self, g: Geometry) -> _Border:
        """Of inputs of one size, kept for some sizes."""
        key = bytes(g)
        if key not in self._borders:
            if len(self._borders) == _SIZES:
                self._borders.clear()
            rows = g.height, g.out_height, g.kernel_height, g.stride_height, g.top, g.dilation_height
            columns = g.width, g.out_width, g.kernel_width, g.stride_width, g.left, g.dilation_width
            cases, outside = zip(*(_cut(*each) for each in (rows, columns)), strict=True)
            # taps of a window that lie outside, for each case of rows and of columns
            lost = outside[0][:, None, :, None] | outside[1][None, :, None, :]
            # a zero counted as -1 has added the negative of its weight
            added = torch.einsum("rcij,fij->rcf", lost.float(), self._taps).flatten(0, 1)
            position = 1 + cases[0][:, None] * len(outside[1]) + cases[1][None, :]
            inside = ~lost.flatten(2).any(2)
            position[inside[cases[0]][:, cases[1]]] = 0
            self._borders[key] = _Border(
                np.ascontiguousarray(position.to(torch.int32).numpy()), self.lanes(F.pad(added, (0, 0, 1, 0))).numpy()
            )
        return self._borders[key]


def _cut(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> tuple[Tensor, Tensor]:
    """Along one side, of each window its case, and of each case which taps lie outside."""
    taps = torch.arange(out)[:, None] * stride + torch.arange(kernel)[None] * dilation - before
    outside, case = torch.unique((taps < 0) | (taps >= size), dim=0, return_inverse=True)
    return case, outside
