"""Tiles of a layer within its kernel, and the allowed states of its inputs and weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hardware.mapping import Crossbar, tile_rows

#: channels, rows and columns of a kernel
Box = tuple[slice, slice, slice]


def row_places(shape: tuple[int, int, int], crossbar: Crossbar) -> list[Tensor]:
    """For each tile its rows in order, each as the number of its weight in a flattened kernel.

    Args:
        shape: channels, height and width of a kernel.
        crossbar: geometry and mapping.

    >>> [tile.tolist() for tile in row_places((2, 1, 2), Crossbar(3, mapping="kernel_split"))]
    [[0, 2], [1, 3]]
    """
    channels, area = shape[0], shape[1] * shape[2]
    order = torch.arange(channels * area)
    if crossbar.mapping == "kernel_split":
        order = order.reshape(channels, area).t().flatten()
    return list(order.split(tile_rows(len(order), area, crossbar.rows, crossbar.mapping)))


def box_of(places: Tensor, shape: tuple[int, int, int]) -> Box:
    """The smallest box of channels, rows and columns of a kernel around some of its weights."""
    held = torch.zeros(math.prod(shape), dtype=torch.bool)
    held[places] = True
    ends = held.reshape(shape).nonzero().aminmax(dim=0)
    channels, height, width = (slice(a, b + 1) for a, b in zip(ends.min.tolist(), ends.max.tolist(), strict=True))
    return channels, height, width


def signs_and_factor(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of the weights and the positive factor of each output.

    Raises:
        ValueError: they are no such product.
    """
    factor = weight.flatten(1).abs().amax(1)
    signs = weight / factor.reshape(-1, *[1] * (weight.dim() - 1))
    if not bool((signs.abs() == 1).all()):
        raise ValueError("binary weights must be +1 and -1, times one positive factor for each output")
    return signs, factor


def three_states(x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Inputs as -1, 0 and 1, which are not 0 (``None``: all), and the factor that they had in common.

    Raises:
        ValueError: there are other numbers.
    """
    magnitude = x.abs()
    if not x.numel():
        return x, magnitude, x.new_ones(())
    low, level = magnitude.aminmax()
    level = torch.where(level > 0, level, 1.0)
    states = x if bool(level == 1) else x / level
    if bool(low == level):
        return states, None, level
    if not bool(((magnitude == level) | (magnitude == 0)).all()):
        raise ValueError("inputs of a crossbar must be -c, 0 or c: has the layer an input_estimator that binarizes?")
    return states, states.abs(), level


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """Two numbers, of one or two."""
    one, other = (value, value) if isinstance(value, int) else value
    return one, other


def pads(
    padding: int | tuple[int, int] | str, kernel: Sequence[int], dilation: Sequence[int], stride: Sequence[int]
) -> list[int]:
    """Zeros to the left, right, top and bottom.

    Raises:
        ValueError: ``"same"`` with a stride.
    """
    if padding == "same":
        if tuple(stride) != (1, 1):
            raise ValueError("padding='same' is for stride 1")
        totals = [step * (k - 1) for k, step in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        one = (0, 0) if isinstance(padding, str) else pair(padding)
        sides = [(side, side) for side in one]
    return [*sides[1], *sides[0]]
