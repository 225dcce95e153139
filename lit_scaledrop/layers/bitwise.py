"""Where binary layers multiply on packed words instead of in floating point; the numbers are the same, bit for bit.

A sum of +-1, times a power of two where a method scales its weights so, is exact both ways. Only a prediction turns it
on (:class:`lit_scaledrop.posterior.PosteriorPredictive`): no gradient flows through it, and a layer whose sign somebody
watches by a hook keeps it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lit_scaledrop.bits import Filters, Shape, available, best_level, conv2d

Backend = Literal["auto", "bits", "torch"]

_known: set[int] | None = None
"""while it is on: layers whose packed weights have been compared with their weights"""
_packed: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Filters]] = WeakKeyDictionary()


@contextmanager
def bitwise(on: bool) -> Iterator[None]:
    """Whether binary layers may multiply on packed words in the block, in which no weight may change."""
    global _known
    before, _known = _known, set() if on else None
    try:
        yield
    finally:
        _known = before


def choose_backend(backend: Backend, networks: Iterable[nn.Module], x: Tensor) -> tuple[Backend, str]:
    """What inputs like ``x`` are multiplied by, ``"bits"`` or ``"torch"``, and why.

    Raises:
        ValueError: bits were asked for, and cannot be had.
    """
    if backend == "torch":
        return "torch", "asked for"
    why = ""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        why = f"the kernels take float32 on a CPU, not {x.dtype} on {x.device.type}"
    elif not available():
        why = "there are no compiled kernels here"
    elif backend == "auto" and not best_level():
        why = "without AVX2 the kernels are not faster"
    elif not any(_multiplies_signs(module) for network in networks for module in network.modules()):
        why = "no layer multiplies signs by signs"
    if why and backend == "bits":
        raise ValueError(f"backend 'bits': {why}")
    return ("torch", why) if why else ("bits", "signs are multiplied as bits")


def product_of_signs(layer: nn.Module, x: Tensor, geometry: dict[str, Any]) -> Tensor | None:
    """What a binary layer gives for an input of which it takes the signs; ``None`` where it has to be done in floats.

    Args:
        layer: a binary convolution, or a linear layer as one of 1x1.
        x: its input, ``(batch, channels, height, width)``.
        geometry: stride, padding, dilation and groups of the convolution.
    """
    if (
        _known is None
        or torch.is_grad_enabled()
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or not _multiplies_signs(layer)
    ):
        return None
    filters = _filters_of(layer, _known)
    return conv2d(x, filters, _shape(geometry, filters))


def _shape(geometry: dict[str, Any], filters: Filters) -> Shape:
    pads = [_padding(geometry, side, size) for side, size in enumerate(filters.shape[2:])]
    before, behind = (pads[0][0], pads[1][0]), (pads[0][1], pads[1][1])
    return Shape(geometry["stride"], before, behind, geometry["dilation"])


def _padding(geometry: dict[str, Any], side: int, kernel: int) -> tuple[int, int]:
    """Zeros in front and behind, along one side."""
    padding = geometry["padding"]
    if isinstance(padding, str):
        total = geometry["dilation"][side] * (kernel - 1) if padding == "same" else 0
        return total // 2, total - total // 2
    return padding[side], padding[side]


def _multiplies_signs(layer: nn.Module) -> bool:
    """Whether a layer takes the signs of its input, nobody watches how, and its weights are signs, too."""
    if not getattr(layer, "packable", False):
        return False
    estimator: Any = layer.input_estimator
    if not getattr(estimator, "signs", False) or estimator._forward_hooks or estimator._forward_pre_hooks:
        return False
    return _filters_of(layer, set() if _known is None else _known).exact


def _filters_of(layer: Any, known: set[int]) -> Filters:
    """The packed weights of now."""
    kept = _packed.get(layer)
    if kept is not None and (id(layer) in known or _same(kept[0], _source(layer))):
        filters = kept[1]
    else:
        source = tuple(part.clone() if isinstance(part, Tensor) else part for part in _source(layer))
        weight = layer.binary_weight()
        four = weight if weight.dim() == 4 else weight[:, :, None, None]
        filters = Filters(four, getattr(layer, "groups", 1))
        _packed[layer] = source, filters
    known.add(id(layer))
    return filters


def _source(layer: Any) -> tuple[Any, ...]:
    """What binary weights are made of."""
    estimator = layer.weight_estimator
    return (layer.weight, layer.weight_scale, layer.normalize, type(estimator), *estimator.state_dict().values())


def _same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(first, second, strict=True)
    )
