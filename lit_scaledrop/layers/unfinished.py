"""Sums whose scale and BatchNorm are put off, so that they are computed with the skip and the clip behind them.

Each of these four would read and write a whole tensor, which costs more than the multiplication of the signs.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lit_scaledrop.layers.bits import STAGES, Stage, finish, norm_is_fused, stage_of_norm
from lit_scaledrop.layers.bitwise import plain
from lit_scaledrop.layers.scale_dropout import ScaleDropout

_ADD = torch.ops.aten.add.Tensor
_ALL = (-torch.inf, torch.inf)
_CLIPS = {torch.ops.aten.clamp.default: _ALL, torch.ops.aten.hardtanh.default: (-1.0, 1.0)}
"""with the ends that they have if nothing is said"""
putting_off: ContextVar[bool] = ContextVar("putting_off", default=False)
"""whether rows may be repeated when their numbers are wanted"""
_WORTH = 1 << 16  # numbers: of fewer the four operations take less time than putting them off


class Unfinished(Tensor):
    """What rows of a tensor will be behind some stages and perhaps a skip; whoever wants numbers gets them computed.

    Args:
        x: what is there, float32 on the CPU.
        stages: to be computed, in their order.
        rows: which row of ``x`` each row is made of, int32; default: the same.
        skip: to be added behind them.
        rows_of_skip: which row of it, likewise.
    """

    x: Tensor
    stages: tuple[Stage, ...]
    rows: Tensor | None
    skip: Tensor | None
    rows_of_skip: Tensor | None
    numbers: Tensor | None

    @staticmethod
    def __new__(
        cls,
        x: Tensor,
        stages: tuple[Stage, ...],
        rows: Tensor | None = None,
        skip: Tensor | None = None,
        rows_of_skip: Tensor | None = None,
    ) -> "Unfinished":
        """An empty tensor of that shape."""
        shape = (len(x if rows is None else rows), *x.shape[1:])
        made = Tensor._make_wrapper_subclass(cls, shape, dtype=x.dtype, device=x.device)
        made.x, made.stages, made.rows = x, stages, rows
        made.skip, made.rows_of_skip, made.numbers = skip, rows_of_skip, None
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Take in one skip; compute with a clip, or for all others without."""
        first = args[0] if args else None
        if func is _ADD and len(args) == 2 and not kwargs:
            ours, other = args if isinstance(first, cls) and not first.copies() else args[::-1]
            waits = isinstance(ours, cls) and ours.skip is None and ours.numbers is None
            if waits and isinstance(other, Tensor) and ours.shape == other.shape:
                if isinstance(other, cls) and other.copies():
                    return cls(ours.x, ours.stages, ours.rows, other.x, other.rows)
                if type(other) is Tensor and other.is_contiguous() and plain(other):
                    return cls(ours.x, ours.stages, ours.rows, other)
        if func in _CLIPS and not kwargs and isinstance(first, cls) and first.numbers is None:
            ends = [*args[1:], *_CLIPS[func][len(args) - 1 :]]
            return first.finish(
                *(all_of if end is None else float(end) for end, all_of in zip(ends, _ALL, strict=True))
            )
        args, kwargs = tree_map(_computed, (args, kwargs or {}))
        return func(*args, **kwargs)

    def rises(self) -> bool:
        """Whether its numbers rise with what is there, in every channel, rounding and all."""
        waits = self.skip is None and self.numbers is None
        return waits and all(bool((stage.factor >= 0).all()) for stage in self.stages)

    def copies(self) -> bool:
        """Whether it is rows of what is there and nothing more."""
        return not self.stages and self.skip is None and self.numbers is None

    def finish(self, low: float = -torch.inf, high: float = torch.inf) -> Tensor:
        """Its numbers, clipped."""
        return finish(self.x, self.stages, self.skip, low, high, rows=self.rows, rows_of_skip=self.rows_of_skip)

    def computed(self) -> Tensor:
        """Its numbers."""
        if self.numbers is None:
            self.numbers = self.finish()
            self.x, self.rows, self.skip = self.numbers, None, None  # whose memory is free now
        return self.numbers


def _of_numbers(name: str) -> Callable[..., Any]:
    def method(self: Unfinished, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.computed(), name)(*args, **kwargs)

    return method


# these ask for memory, and pass the dispatcher by
for _name in (
    "numpy", "tolist", "data_ptr", "untyped_storage", "__array__", "__deepcopy__", "__dlpack__", "__reduce_ex__",
    "__repr__",
):  # fmt: skip
    setattr(Unfinished, _name, _of_numbers(_name))


def can_be_put_off(module: nn.Module) -> bool:
    """Whether it multiplies and adds for each channel, in float32, and it is known how."""
    if type(module) not in (nn.BatchNorm2d, ScaleDropout):
        return False
    if module.training or not all(_of_floats(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return False
    if type(module) is nn.BatchNorm2d:
        return module.running_mean is not None and norm_is_fused() is not None
    return True


def _of_floats(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and (tensor.dtype == torch.float32 or not tensor.is_floating_point())


class PuttingOff:
    """What stands for a scale or a BatchNorm whose weights and statistics do not change meanwhile."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._stage: Stage | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """One more stage, unless it would not be worth it."""
        if type(x) is Unfinished and x.numbers is None and x.skip is None and len(x.stages) < STAGES:
            return Unfinished(x.x, (*x.stages, self.stage(x)), x.rows)
        if type(x) is Tensor and x.dim() == 4 and x.numel() >= _WORTH and x.is_contiguous() and plain(x):
            return Unfinished(x, (self.stage(x),))
        return type(self.module).forward(self.module, x)

    def stage(self, x: Tensor) -> Stage:
        """What the module does to ``x``."""
        if isinstance(self.module, ScaleDropout):
            return Stage(*self.module.factor_and_shift(x))
        if self._stage is None:
            self._stage = stage_of_norm(self.module)  # type: ignore[arg-type]
        return self._stage


def repeated(x: Tensor, batch: int, parts: Sequence[int]) -> Tensor | None:
    """The rows of some parts of ``x``, of ``batch`` rows each, put off; ``None`` where that is not worth it."""
    if (
        not putting_off.get()
        or type(x) is not Tensor
        or x.dim() != 4
        or x[:1].numel() * batch * len(parts) < _WORTH
        or not x.is_contiguous()
        or not plain(x)
    ):
        return None
    first = torch.tensor(parts, dtype=torch.int32)[:, None] * batch
    return Unfinished(x, (), (first + torch.arange(batch, dtype=torch.int32)).flatten())


def _computed(x: Any) -> Any:
    return x.computed() if isinstance(x, Unfinished) else x
