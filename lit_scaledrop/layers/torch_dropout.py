r"""Dropout of PyTorch, as modules or as functions, whose masks come from a plan (MC-Dropout, arXiv:1506.02142).

A network that is not ours calls ``nn.Dropout`` or ``torch.nn.functional.dropout`` somewhere in its forward pass. Each
call with p above zero is a *place*: it is found by a pass that changes nothing (:func:`find_places`), and
:class:`Dropouts` then puts a :class:`PlannedDropout` in its stead while the network runs, whatever ``training`` says.
Values of kept and dropped elements are PyTorch's:

=====================================  ================================================================
``dropout``, ``dropout1d`` to ``3d``    $x\,m/(1-p)$; a mask for each element, or for each channel
``alpha_dropout`` and its ``feature_``  $a\,(x\,m + \alpha'(1-m)) + b$ (arXiv:1706.02515), for SELU networks
=====================================  ================================================================
"""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lit_scaledrop.layers.probing import evaluating
from lit_scaledrop.layers.scale_dropout import check_probability
from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.shapes import Bool, Float

#: what SELU saturates at, -alpha * scale of arXiv:1706.02515
_SATURATED = -1.7580993408473766
#: functions that drop, and whether what they drop is a channel
_CHANNELS: dict[Callable[..., Any], bool] = {
    F.dropout: False,
    torch.dropout: False,
    F.alpha_dropout: False,
    torch.alpha_dropout: False,
    F.dropout1d: True,
    F.dropout2d: True,
    F.dropout3d: True,
    torch.feature_dropout: True,
    F.feature_alpha_dropout: True,
    torch.feature_alpha_dropout: True,
}
_OTHER_CALLS = (
    "the network calls dropout otherwise than in the pass that found it: its forward must not depend on the values of "
    "its input"
)
_UNCLEAR = (
    "it is not clear which part is whose, so no mask can be planned. Set its p to 0, or pass sample_dropout=False"
)
_ALPHA = {F.alpha_dropout, torch.alpha_dropout, F.feature_alpha_dropout, torch.feature_alpha_dropout}


class PlannedDropout(StochasticLayer):
    """Dropout at one place of a network; a planned pass has the same mask for all inputs.

    Args:
        shape: of the mask for one input; 1 where elements are dropped together.
        p: probability that an element is dropped.
        alpha: SELU's dropout, which keeps mean and variance.
        dim: dimension of the tensor that the inputs are in, each of them ``copies`` times (heads or windows).
        copies: rows of that dimension for one input.

    Shape: ``(rows, *shape)``, or what ``shape`` can be broadcast to, to the same.
    """

    def __init__(self, shape: tuple[int, ...], p: float, alpha: bool = False, dim: int = 0, copies: int = 1) -> None:
        super().__init__()
        self.shape, self.p, self.alpha, self.dim, self.copies = shape, check_probability(p), alpha, dim, copies

    @property
    def uniform_shape(self) -> tuple[int, ...]:
        """One number for each bit."""
        return self.shape

    @property
    def random_bits(self) -> int:
        """One bit for each element of the mask."""
        return torch.Size(self.shape).numel()

    def from_uniform(self, uniform: Float[Tensor, "rows ..."]) -> Bool[Tensor, "rows ..."]:
        """Keep bits."""
        return uniform >= self.p

    def forward(self, x: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows ..."]:
        """Drop."""
        keep = self.active_draws(x)
        if keep is None:
            return x
        keep = keep.to(x.device)
        if not self.alpha:
            # p = 1 drops all: 0, not 0/0
            return torch.where(keep, x / max(1 - self.p, torch.finfo(x.dtype).tiny), torch.zeros_like(x))
        if self.p == 1:
            return torch.zeros_like(x)
        a = ((1 - self.p) * (1 + self.p * _SATURATED**2)) ** -0.5
        return a * torch.where(keep, x, torch.full_like(x, _SATURATED)) - a * _SATURATED * self.p

    def apply_to(self, x: Tensor) -> Tensor:
        """The same for a tensor as it is in the network, whose inputs are in another dimension or several times."""
        if (self.dim, self.copies) == (0, 1):
            return self(x)
        rows = x.unflatten(self.dim, (-1, self.copies)).movedim(self.dim, 0)
        return self(rows).movedim(0, self.dim).flatten(self.dim, self.dim + 1)

    def extra_repr(self) -> str:
        """Shape and probability."""
        return f"{self.shape}, p={self.p:g}"


class _Calls(TorchFunctionMode):
    """In the block, calls of PyTorch's dropout go to ``visit``, with the function, the tensor and p."""

    def __init__(self, visit: Callable[[Callable[..., Any], Tensor, float], Tensor]) -> None:
        super().__init__()
        self.visit = visit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let all but dropout pass."""
        kwargs = kwargs or {}
        if func in _CHANNELS:
            x = args[0] if args else kwargs["input"]
            p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            if p > 0:
                return self.visit(func, x, p)
        return func(*args, **kwargs)


class Dropouts(nn.Module):
    """The places of a network, in the order of their calls."""

    def __init__(self, places: dict[str, PlannedDropout]) -> None:
        super().__init__()
        for name, place in places.items():
            self.add_module(name, place)

    def __len__(self) -> int:
        return len(self._modules)

    def run(self, network: Callable[..., Any], x: Tensor) -> Any:
        """A pass of the network whose dropout is that of the places.

        Raises:
            RuntimeError: the pass calls dropout otherwise than the one that found the places.
        """
        places = iter(self.children())

        def visit(function: Callable[..., Any], tensor: Tensor, p: float) -> Tensor:
            place = next(places, None)
            if not isinstance(place, PlannedDropout) or place.p != p or place.alpha != (function in _ALPHA):
                raise RuntimeError(_OTHER_CALLS)
            return place.apply_to(tensor)

        with torch.compiler.set_stance("force_eager"), _Calls(visit):
            given = network(x)
        if next(places, None) is not None:
            raise RuntimeError(_OTHER_CALLS)
        return given


def find_places(
    network: nn.Module, example: Float[Tensor, "1 ..."], planned: bool = True
) -> tuple[dict[str, PlannedDropout], Any, bool]:
    """Run a network in evaluation mode and note where it calls dropout; nothing in it changes.

    Args:
        network: any network.
        example: one input.
        planned: whether places are wanted; else dropout does what it does in evaluation mode, and there are none.

    Returns:
        The places in the order of their calls, named after the module that calls; what the network returns for two
        inputs; whether it drew random numbers besides, from PyTorch's global stream.

    Raises:
        ValueError: it cannot be told which dimension of a tensor that is dropped the inputs are in.
    """
    two, output, drew = _calls(network, [example] * 2, planned)
    three = _calls(network, [example] * 3, planned)[0] if two else []
    places: dict[str, PlannedDropout] = {}
    for (name, function, p, few), (_, _, _, many) in zip(two, three, strict=True):
        shape, longer = tuple(few.shape), tuple(many.shape)
        grown = [d for d, (a, b) in enumerate(zip(shape, longer, strict=True)) if a != b]
        dim = grown[0] if grown else 0
        channels = _CHANNELS[function]
        if len(grown) != 1 or 2 * longer[dim] != 3 * shape[dim] or (channels and dim):
            raise ValueError(
                f"dropout in {name or 'the network'} acts on a tensor of shape {shape} for two inputs and {longer} for "
                f"three: {_UNCLEAR}"
            )
        copies = shape[dim] // 2
        inner = [1 if channels and d > 1 else size for d, size in enumerate(shape)]
        mask = (*inner[:dim], *([copies] if (dim, copies) != (0, 1) else []), *inner[dim + 1 :])
        free = next(call for call in range(len(two)) if place_name(name, call) not in places)
        places[place_name(name, free)] = PlannedDropout(mask, p, function in _ALPHA, dim, copies)
    if example.is_floating_point() and any(place.copies > 1 for place in places.values()):
        _require_together(places, _calls(network, [example, torch.full_like(example, torch.nan)], planned)[0])
    return places, output, drew


def _require_together(places: dict[str, PlannedDropout], calls: list[tuple]) -> None:
    """Refuse places where the rows of an input do not lie together, as those of time steps in front of inputs.

    Raises:
        ValueError: naming the place.
    """
    for place, (name, _, _, no_number) in zip(places.values(), calls, strict=True):
        if no_number.narrow(place.dim, 0, place.copies).any():
            raise ValueError(f"rows of several inputs alternate where {name or 'the network'} drops: {_UNCLEAR}")


def place_name(module: str, call: int = 0) -> str:
    """Name of a place as a submodule, which has no dots: the module that calls dropout, and which of its calls it is.

    >>> place_name("layer4.drop"), place_name("", 1)
    ('layer4_drop:0', 'network:1')
    """
    return f"{module.replace('.', '_') or 'network'}:{call}"


def _calls(network: nn.Module, inputs: list[Tensor], planned: bool) -> tuple[list[tuple], Any, bool]:
    """Calls of dropout in a pass, with what is no number in each; its output; whether the random stream moved."""
    calls: list[tuple] = []
    running = [""]

    def visit(function: Callable[..., Any], x: Tensor, p: float) -> Tensor:
        calls.append((running[-1], function, p, x.isnan()))
        return x

    streams = [torch.device("cuda", index) for index in {t.device.index for t in _tensors(network) if t.is_cuda}]

    def leave(*_: object) -> None:
        running.pop()

    with ExitStack() as stack:
        for name, module in network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                continue
            entered = module.register_forward_pre_hook(lambda *_, name=name: running.append(name))
            left = module.register_forward_hook(leave, always_call=True)
            stack.callback(entered.remove)
            stack.callback(left.remove)
        stack.enter_context(torch.random.fork_rng([device.index or 0 for device in streams]))
        stack.enter_context(evaluating(network))
        before = _random_state(streams)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), _Calls(visit) if planned else nullcontext():
            output = network(torch.cat(inputs))
        drew = any(not torch.equal(a, b) for a, b in zip(before, _random_state(streams), strict=True))
    return calls, output, drew


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _random_state(devices: list[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
