"""Where binary layers multiply on packed words instead of in floating point; the numbers are the same, bit for bit.

A sum of +-1, times a power of two where a method scales its weights so, is exact both ways. Only a prediction turns it
on (:class:`lit_scaledrop.posterior.PosteriorPredictive`): no gradient flows through it, and a layer whose sign somebody
watches by a hook keeps it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format

from lit_scaledrop.layers.bits import Filters, Shape, available, best_level, conv2d
from lit_scaledrop.layers.probing import modules_of

Backend = Literal["auto", "bits", "torch"]


@dataclass
class _Known:
    """What does not change in a block.

    Attributes:
        weights: of a layer those that its packed ones have been compared with.
        signs: whether a layer multiplies signs.
    """

    weights: dict[nn.Module, tuple[int, int]] = field(default_factory=dict)
    signs: dict[nn.Module, bool] = field(default_factory=dict)


_known: ContextVar[_Known | None] = ContextVar("known", default=None)
"""while it is on, for one thread"""
_packed: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Filters]] = WeakKeyDictionary()


@contextmanager
def bitwise(on: bool) -> Iterator[None]:
    """Whether binary layers may multiply on packed words in the block, in which no weight may change."""
    token = _known.set((_known.get() or _Known()) if on else None)
    try:
        yield
    finally:
        _known.reset(token)


def choose_backend(
    backend: Backend, networks: Iterable[nn.Module], x: Tensor, known: bool = False
) -> tuple[Backend, str]:
    """What inputs like ``x`` are multiplied by, ``"bits"`` or ``"torch"``, and why.

    Args:
        backend: what was asked for.
        networks: that are to run.
        x: inputs.
        known: whether it is known that a layer of them multiplies signs.

    Raises:
        ValueError: bits were asked for, and cannot be had.
    """
    if backend == "torch":
        return "torch", "asked for"
    why = ""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        why = f"the kernels take float32 on a CPU, not {x.dtype} on {x.device.type}"
    elif torch.is_autocast_enabled("cpu"):
        why = "autocast asks for other numbers than float32"
    elif not available():
        why = "there are no compiled kernels here"
    elif backend == "auto" and not best_level():
        why = "without AVX2 the kernels are not faster"
    elif not known and not any(multiplies_signs(module) for network in networks for module in modules_of(network)):
        why = "no layer multiplies signs by signs"
    if why and backend == "bits":
        raise ValueError(f"backend 'bits': {why}")
    return ("torch", why) if why else ("bits", "signs are multiplied as bits")


def product_of_signs(layer: nn.Module, x: Tensor) -> Tensor | None:
    """What a binary layer gives for an input of which it takes the signs; ``None`` where it has to be done in floats.

    Args:
        layer: a binary convolution, or a linear layer as one of 1x1.
        x: its input, ``(batch, channels, height, width)``.
    """
    if _known.get() is None or x.dim() != 4 or not plain(x) or not multiplies_signs(layer):
        return None
    return conv2d(x, filters_of(layer), shape_of(layer))


def plain(x: Tensor) -> bool:
    """Whether kernels give for ``x`` what PyTorch gives: nobody asks for a gradient, ``torch.func`` or autocast."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and torch._C._functorch.maybe_current_level() is None
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not channels_last(x)
    )


def shape_of(layer: Any) -> Shape:
    """Steps and borders of a binary layer."""
    if not isinstance(layer, nn.Conv2d):
        return Shape()
    if isinstance(layer.padding, str):
        sides = zip(layer.dilation, layer.kernel_size, strict=True)
        total = [step * (kernel - 1) if layer.padding == "same" else 0 for step, kernel in sides]
        before, behind = [zeros // 2 for zeros in total], [zeros - zeros // 2 for zeros in total]
    else:
        before = behind = list(layer.padding)
    return Shape(layer.stride, (before[0], before[1]), (behind[0], behind[1]), layer.dilation)  # type: ignore[arg-type]


def multiplies_signs(layer: nn.Module) -> bool:
    """Whether a layer takes the signs of its input, nobody watches how, and its weights are signs, too."""
    known = _known.get()
    if known is None:
        return _multiplies_signs(layer)
    if layer not in known.signs:
        known.signs[layer] = _multiplies_signs(layer)
    return known.signs[layer]


def _multiplies_signs(layer: nn.Module) -> bool:
    if not getattr(layer, "packable", False):
        return False
    estimator: Any = layer.input_estimator
    weight: Any = layer.weight
    if not says(estimator, "signs") or watched(estimator) or watched(layer.weight_estimator):  # type: ignore[arg-type]
        return False
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or channels_last(weight):
        return False
    return filters_of(layer).exact


def watched(network: nn.Module) -> bool:
    """Whether hooks see what its modules compute, or something stands for one of them; then nothing is left out."""
    return bool(nn.modules.module._has_any_global_hook()) or any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        for module in modules_of(network)
    )


def says(module: nn.Module, what: str) -> bool:
    """Whether a module has this property, by the word of the very class whose ``forward`` runs, or of a later one."""
    owner = next(kind for kind in type(module).__mro__ if what in vars(kind) or "forward" in vars(kind))
    return what in vars(owner) and bool(getattr(module, what))


def channels_last(x: Tensor) -> bool:
    """Whether PyTorch's convolutions would give channels last, which the layers behind add up in another order."""
    # the first two say no, which is quick, to nearly all
    return x.dim() == 4 and x.stride(1) <= x.stride(3) and suggest_memory_format(x) == torch.channels_last


def filters_of(layer: Any) -> Filters:
    """The packed weights of now."""
    kept, known, weight = _packed.get(layer), _known.get(), layer.weight
    # of an inference tensor nobody counts the changes
    version = None if weight.is_inference() else (weight.data_ptr(), weight._version)
    compared = known is not None and version is not None and known.weights.get(layer) == version
    if kept is not None and (compared or _same(kept[0], _source(layer))):
        filters = kept[1]
    else:
        source = tuple(part.clone() if isinstance(part, Tensor) else part for part in _source(layer))
        with torch.no_grad():
            weight = layer.binary_weight()
        four = weight if weight.dim() == 4 else weight[:, :, None, None]
        filters = Filters(four, getattr(layer, "groups", 1))
        _packed[layer] = source, filters
    if known is not None and version is not None:
        known.weights[layer] = version
    return filters


def is_known(layer: Any) -> bool:
    """Whether it is known what its binary weights are made of, as it is of our classes."""
    return all(type(part).__module__.startswith("lit_scaledrop.") for part in (layer, layer.weight_estimator))


def _source(layer: Any) -> tuple[Any, ...]:
    estimator = layer.weight_estimator
    if not is_known(layer):
        with torch.no_grad():
            return (layer.binary_weight(),)
    return (layer.weight, layer.weight_scale, layer.normalize, type(estimator), *estimator.state_dict().values())


def _same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(first, second, strict=True)
    )
