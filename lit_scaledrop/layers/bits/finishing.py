"""What follows the sums of a convolution, pixel by pixel, in one go: scale, BatchNorm, a skip and a clip."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.bits.build import best_level
from lit_scaledrop.layers.bits.convolution import at, kernels, spread
from lit_scaledrop.shapes import Float, Int

STAGES = 2
"""that the kernel computes"""


class Stage(NamedTuple):
    """``x * factor + shift`` for each channel, of all rows alike or of each.

    Attributes:
        factor: float32, ``(1 or rows, channels)``.
        shift: the same, or none.
        fused: whether it is rounded once, as a fused multiply-add, or behind the product, too.
    """

    factor: Tensor
    shift: Tensor | None = None
    fused: bool = False


class _Stage(ctypes.Structure):
    """As the kernels declare it."""

    _fields_ = (
        ("factor", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("factor_step", ctypes.c_int64),
        ("shift_step", ctypes.c_int64),
        ("fused", ctypes.c_int64),
    )


class _Rows(ctypes.Structure):
    """As the kernels declare them."""

    _fields_ = (("numbers", ctypes.c_void_p), ("source", ctypes.c_void_p))


@torch.no_grad()
def finish(
    x: Float[Tensor, "some channels *pixels"],
    stages: Sequence[Stage],
    skip: Float[Tensor, "others channels *pixels"] | None = None,
    low: float = -torch.inf,
    high: float = torch.inf,
    level: int | None = None,
    rows: Int[Tensor, " rows"] | None = None,
    rows_of_skip: Int[Tensor, " rows"] | None = None,
) -> Float[Tensor, "rows channels *pixels"]:
    """``(x * factor + shift, once or twice, + skip).clamp(low, high)``, each operation rounded as PyTorch does.

    Args:
        x: float32, on the CPU.
        stages: at most two.
        skip: what is added behind them.
        low: least value.
        high: largest value.
        level: instructions, by the number of :data:`lit_scaledrop.layers.bits.LEVELS`; default: the best ones.
        rows: which row of ``x`` each row of the result is made of; default: the same.
        rows_of_skip: which row of the skip is added to it.

    Raises:
        ValueError: factors, shifts or the skip are not of the shape of ``x``, or there are too many stages.

    >>> from lit_scaledrop.layers.bits import available
    >>> x, skip = torch.randn(2, 4, 3, 5, 5)
    >>> three, one = torch.full((1, 3), 3.0), torch.ones(1, 3)
    >>> not available() or torch.equal(finish(x, [Stage(three, one)], skip, -1.0, 1.0), (x * 3 + 1 + skip).clamp(-1, 1))
    True
    """
    count, channels = len(x) if rows is None else len(rows), x.shape[1]
    of_skip = None if skip is None else (len(skip if rows_of_skip is None else rows_of_skip), *skip.shape[1:])
    _require_shapes((count, *x.shape[1:]), stages, of_skip)
    x, out = x.contiguous(), torch.empty(count, *x.shape[1:])
    parts = [None if part is None else part.contiguous() for stage in stages for part in stage[:2]]
    steps = [0 if part is None or len(part) == 1 else channels for part in parts]
    places = [None if part is None else at(part) for part in parts]
    told = (_Stage * STAGES)(
        *(_Stage(*places[2 * k : 2 * k + 2], *steps[2 * k : 2 * k + 2], stage.fused) for k, stage in enumerate(stages))
    )
    pixels = x[:1, :1].numel()
    skip = None if skip is None else skip.contiguous()
    first, added = (None if part is None else _rows(part, index) for part, index in ((x, rows), (skip, rows_of_skip)))

    def run(begin: int, end: int) -> int:
        kernels().bits_finish(
            best_level() if level is None else level, ctypes.c_int64(channels), ctypes.c_int64(pixels), first, told,
            added, ctypes.c_float(low), ctypes.c_float(high), at(out), ctypes.c_int64(begin), ctypes.c_int64(end),
        )  # fmt: skip
        return 0

    if out.numel():
        spread(run, count * channels, 0.5 * out.numel())
    return out


@torch.no_grad()
def add_squares(
    x: Float[Tensor, "rows channels height width"], size: int, level: int | None = None
) -> Float[Tensor, "rows channels high wide"]:
    """Sums over squares side by side, float32 on the CPU; rows and columns that are left over are left out.

    >>> from lit_scaledrop.layers.bits import available
    >>> not available() or add_squares(torch.arange(12.0).view(1, 1, 2, 6), 2).tolist()
    [[[[14.0, 22.0, 30.0]]]]
    """
    rows, channels, height, width = x.shape
    x, out = x.contiguous(), torch.empty(rows, channels, height // size, width // size)

    def run(begin: int, end: int) -> int:
        kernels().bits_squares(
            best_level() if level is None else level, *map(ctypes.c_int64, (size, height, width)), at(x), at(out),
            ctypes.c_int64(begin), ctypes.c_int64(end),
        )  # fmt: skip
        return 0

    if out.numel():
        spread(run, rows * channels, 0.3 * x.numel())
    return out


def _rows(x: Tensor, rows: Tensor | None) -> Any:
    return ctypes.byref(_Rows(at(x), None if rows is None else at(rows)))


def _require_shapes(shape: tuple[int, ...], stages: Sequence[Stage], skip: tuple[int, ...] | None) -> None:
    if len(stages) > STAGES:
        raise ValueError(f"the kernel computes {STAGES} stages, not {len(stages)}")
    rows, channels = shape[:2]
    given = [tuple(part.shape) for stage in stages for part in stage[:2] if part is not None]
    if odd := [part for part in given if part not in ((1, channels), (rows, channels))]:
        raise ValueError(
            f"{rows} rows of {channels} channels have factors of as many, or one row of them: not {odd[0]}"
        )
    if skip not in (None, shape):
        raise ValueError(f"a skip of {skip} cannot be added to {shape}")


@cache
@torch.no_grad()
def norm_is_fused() -> bool | None:
    """Whether PyTorch rounds ``x * factor + shift`` of a BatchNorm once, here; ``None`` if it does neither."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 600, 5, 5, generator=generator)
    norm = nn.BatchNorm2d(600).eval()
    for part in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        part.data.uniform_(0.1, 2, generator=generator)  # type: ignore[union-attr]
    expected = nn.BatchNorm2d.forward(norm, x)
    return next(
        (fused for fused in (True, False) if torch.equal(finish(x, [stage_of_norm(norm, fused)]), expected)), None
    )


@torch.no_grad()
def stage_of_norm(norm: nn.BatchNorm2d, fused: bool | None = None) -> Stage:
    """A BatchNorm with kept statistics as one stage; rounded as PyTorch does if not told otherwise."""
    factor = torch.rsqrt(norm.running_var + norm.eps)  # type: ignore[arg-type,operator]
    if norm.weight is not None:
        factor = factor * norm.weight
    shift = nn.BatchNorm2d.forward(norm, torch.zeros(1, norm.num_features, 1, 1))  # as PyTorch rounds it
    return Stage(factor[None], shift[:, :, 0, 0], bool(norm_is_fused()) if fused is None else fused)
