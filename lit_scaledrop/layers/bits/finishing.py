"""What follows the sums of a convolution in one go: scale, BatchNorm, a skip and a clip; and pooling."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.bits.operation import FINISH, POOL, SUBSAMPLE, Cases, Maps, Operation
from lit_scaledrop.layers.bits.routine import Routine
from lit_scaledrop.shapes import Float

STAGES = 2
"""that the kernel computes"""


class Stage(NamedTuple):
    """``x * factor + shift`` for each channel.

    Attributes:
        factor: float32, ``(cases, channels)``.
        shift: the same, or none.
        fused: whether it is rounded once, as a fused multiply-add, or behind the product, too.
    """

    factor: Tensor
    shift: Tensor | None = None
    fused: bool = False


def finish(
    x: int,
    out: int,
    shape: Maps,
    tables: Sequence[Cases],
    fused: Sequence[bool],
    skip: int = -1,
    low: float = -math.inf,
    high: float = math.inf,
) -> Operation:
    """``(x * factor + shift, once or twice, + skip).clamp(low, high)``, each operation rounded as PyTorch does."""
    return Operation(FINISH, x, out, skip, tables=tuple(tables), fused=tuple(fused), low=low, high=high, shape=shape)


def pool(x: int, out: int, shape: Maps, size: int, largest: bool) -> Operation:
    """Largest or mean number of squares side by side, as ``MaxPool2d(size)`` and ``AvgPool2d(size)`` have them."""
    return Operation(POOL, x, out, shape=shape, size=size, largest=largest)


def subsample(x: int, out: int, shape: Maps, stride: int, front: int, channels: int) -> Operation:
    """Every so many-th pixel, and zeros for new channels, ``front`` of them in front, ``channels`` in all."""
    return Operation(SUBSAMPLE, x, out, shape=shape, size=stride, front=front, channels=channels)


@torch.no_grad()
def scaled(x: Float[Tensor, "rows channels height width"], stage: Stage, level: int | None = None) -> Tensor:
    """``x * factor + shift``.

    >>> from lit_scaledrop.layers.bits import available
    >>> x, three, one = torch.randn(2, 3, 5, 5), torch.full((1, 3), 3.0), torch.ones(1, 3)
    >>> not available() or torch.equal(scaled(x, Stage(three, one)), x * 3 + 1)
    True
    """
    shape = (x.shape[1], x.shape[2], x.shape[3])
    operation = finish(0, 1, shape, [Cases(stage.factor.contiguous(), stage.shift)], [stage.fused])
    return Routine([operation], [shape, shape], [0], [1], level)([x], len(x))[0]


@cache
@torch.no_grad()
def norm_is_fused(flat: bool = False) -> bool | None:
    """Whether PyTorch rounds ``x * factor + shift`` of a BatchNorm once, here; ``None`` if it does neither.

    Args:
        flat: whether of features in place of maps.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 601, *([] if flat else [5, 5]), generator=generator)
    norm = nn.BatchNorm1d(601).eval() if flat else nn.BatchNorm2d(601).eval()
    for part in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        part.data.uniform_(0.1, 2, generator=generator)  # type: ignore[union-attr]
    expected = norm(x).view(2, 601, -1, 1)
    maps = x.view(expected.shape)
    return next(
        (fused for fused in (True, False) if torch.equal(scaled(maps, stage_of_norm(norm, fused)), expected)), None
    )


@torch.no_grad()
def stage_of_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, fused: bool | None = None) -> Stage:
    """A BatchNorm with kept statistics as one stage; rounded as PyTorch does if not told otherwise."""
    factor = torch.rsqrt(norm.running_var + norm.eps)  # type: ignore[arg-type,operator]
    if norm.weight is not None:
        factor = factor * norm.weight
    flat = isinstance(norm, nn.BatchNorm1d)
    zeros = torch.zeros(1, norm.num_features, *([] if flat else [1, 1]))
    shift = type(norm).forward(norm, zeros).view(1, -1)  # as PyTorch rounds it
    return Stage(factor[None], shift, bool(norm_is_fused(flat)) if fused is None else fused)
