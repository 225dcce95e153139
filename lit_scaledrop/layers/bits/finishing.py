"""What follows the sums of a convolution, pixel by pixel, in one go: scale, BatchNorm, a skip and a clip."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.bits.build import best_level
from lit_scaledrop.layers.bits.convolution import at, kernels, spread
from lit_scaledrop.shapes import Float

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


@torch.no_grad()
def finish(
    x: Float[Tensor, "rows channels *pixels"],
    stages: Sequence[Stage],
    skip: Float[Tensor, "rows channels *pixels"] | None = None,
    low: float = -torch.inf,
    high: float = torch.inf,
    level: int | None = None,
) -> Float[Tensor, "rows channels *pixels"]:
    """``(x * factor + shift, once or twice, + skip).clamp(low, high)``, each operation rounded as PyTorch does.

    Args:
        x: float32, on the CPU.
        stages: at most two.
        skip: what is added behind them.
        low: least value.
        high: largest value.
        level: instructions, by the number of :data:`lit_scaledrop.layers.bits.LEVELS`; default: the best ones.

    Raises:
        ValueError: factors, shifts or the skip are not of the shape of ``x``, or there are too many stages.

    >>> from lit_scaledrop.layers.bits import available
    >>> x, skip = torch.randn(2, 4, 3, 5, 5)
    >>> three, one = torch.full((1, 3), 3.0), torch.ones(1, 3)
    >>> not available() or torch.equal(finish(x, [Stage(three, one)], skip, -1.0, 1.0), (x * 3 + 1 + skip).clamp(-1, 1))
    True
    """
    rows, channels = x.shape[:2]
    _require_shapes(x, stages, skip)
    x, out = x.contiguous(), torch.empty(x.shape)
    parts = [None if part is None else part.contiguous() for stage in stages for part in stage[:2]]
    steps = [0 if part is None or len(part) == 1 else channels for part in parts]
    places = [None if part is None else at(part) for part in parts]
    told = (_Stage * STAGES)(
        *(_Stage(*places[2 * k : 2 * k + 2], *steps[2 * k : 2 * k + 2], stage.fused) for k, stage in enumerate(stages))
    )
    pixels = x.numel() // max(1, rows * channels)
    skip = None if skip is None else skip.contiguous()

    def run(begin: int, end: int) -> int:
        kernels().bits_finish(
            best_level() if level is None else level, ctypes.c_int64(channels), ctypes.c_int64(pixels), at(x), told,
            None if skip is None else at(skip), ctypes.c_float(low), ctypes.c_float(high), at(out),
            ctypes.c_int64(begin), ctypes.c_int64(end),
        )  # fmt: skip
        return 0

    if x.numel():
        spread(run, rows * channels, 4 * x.numel())
    return out


def _require_shapes(x: Tensor, stages: Sequence[Stage], skip: Tensor | None) -> None:
    if len(stages) > STAGES:
        raise ValueError(f"the kernel computes {STAGES} stages, not {len(stages)}")
    rows, channels = x.shape[:2]
    given = [tuple(part.shape) for stage in stages for part in stage[:2] if part is not None]
    if odd := [shape for shape in given if shape not in ((1, channels), (rows, channels))]:
        raise ValueError(
            f"{rows} rows of {channels} channels have factors of as many, or one row of them: not {odd[0]}"
        )
    if skip is not None and skip.shape != x.shape:
        raise ValueError(f"a skip of {tuple(skip.shape)} cannot be added to {tuple(x.shape)}")


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
