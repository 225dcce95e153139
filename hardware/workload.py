"""Layer shapes of any torch model, traced by one forward pass: what the hardware model sees of a network.

A layer is a convolution, of any dimensions, also transposed or called as a function, or a linear layer; its
multiply-accumulates (MAC) are ``positions * rows * columns``, where ``rows`` are the weights that one output sums over
and ``columns`` the output channels. A transposed convolution multiplies every input pixel by all of its kernel, so its
positions are the input's and its columns channels times kernel area. BatchNorm and activations have no MAC here. What
is random is known by a property ``random_bits`` of its class, what scales by an attribute ``scale``, what is binary by
a method ``binary_weight``, how wide its inputs are by an attribute ``input_bits`` (1 without it), and how many sets of
a normalization passes take turns with by an attribute ``turns`` of what says so: the hardware model knows no class of
any library but torch's.

Who sees the outputs of a layer decides what stands behind it: a layer whose outputs only become inputs of binary layers
needs thresholds; in front of a skip or of a layer with real inputs its scale and BatchNorm are a product and a sum.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hardware.flow import Flow

FUNCTION = "convolution"
"""Name of convolutions that are no module, with their number."""


@dataclass(frozen=True)
class LayerShape:
    """One convolution or linear layer, for one image."""

    name: str
    rows: int
    """inputs that one output sums over: in_channels / groups * kernel area"""
    columns: int
    """output channels or features"""
    positions: int
    """output pixels (1 for a linear layer)"""
    binary: bool
    """1-bit weights, so that a crossbar holds it"""
    inputs: int
    """numbers that come in"""
    kernel_area: int = 1
    """elements of a kernel (1 for a linear layer)"""
    groups: int = 1
    """blocks of channels that see nothing of each other"""
    input_bits: int = 1
    """bits of an input of a binary layer"""
    output_bits: int = 1
    """bits of an output behind its activation, as the next binary layer takes it"""
    additions: int = 0
    """numbers of a skip connection that are added behind it"""
    skip_of: str = ""
    """layer of which those are all the outputs, if they are one's and no sum"""
    joined: int = 0
    """numbers of earlier layers that are concatenated with its outputs"""
    places: int = 0
    """places of maxima that an unpooling behind it puts values back to"""
    front: str = ""
    """module in front of the product (or the layer itself) that draws at random"""
    behind: str = ""
    """module behind it that draws at random"""
    scaled: bool = False
    """outputs are multiplied by a scale vector"""
    biased: bool = False
    """a bias is added with the scale"""
    norm_sets: int = 1
    """sets of the normalization behind it, of which a pass uses one"""
    to_skip: int = 0
    """numbers of it that are added to a skip"""
    to_real: int = 0
    """numbers of it that a layer with real inputs gets, or that leave the network"""
    front_bits: int = 0
    """random bits of ``front`` a pass"""
    behind_bits: int = 0
    """random bits of ``behind`` a pass"""

    @property
    def weights(self) -> int:
        """Weights of the layer, without bias."""
        return self.rows * self.columns

    @property
    def mac(self) -> int:
        """Multiply-accumulates of one pass over one image."""
        return self.positions * self.weights

    @property
    def outputs(self) -> int:
        """Numbers that go out."""
        return self.positions * self.columns

    @property
    def in_channels(self) -> int:
        """Input channels or features."""
        return self.rows // self.kernel_area * self.groups

    @property
    def random_bits(self) -> int:
        """Random bits a pass, in front and behind."""
        return self.front_bits + self.behind_bits


class _Trace(TorchDispatchMode):
    """Layers in the order in which they run, and what happens around each."""

    def __init__(self, names: dict[nn.Module, str], is_binary: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.names, self.is_binary = names, is_binary
        self.layers: list[LayerShape] = []
        self.front: tuple[str, int] = ("", 0)
        self.inside = 0
        self.flow = Flow()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # inside a layer an estimator may add
        if not self.inside and func is torch.ops.aten.convolution.default:
            image, weight, transposed, groups = args[0], args[1], args[6], args[8]
            self._seen("to_real", [image])
            number = sum(layer.name.startswith(FUNCTION) for layer in self.layers)
            shape = _convolution(f"{FUNCTION} {number}", image, result, weight, transposed, groups)
            self.layers.append(shape)
            self.flow.begin(result, len(self.layers) - 1)
        elif not self.inside:
            if self.layers:
                self._between(func, args, result)
            if self._is_skip(func, args, result):
                self._seen("to_skip", args[:2])
                # the sum is nobody's output: signs and further skips see it
                self.flow.begin(result)
            else:
                self.flow.pass_on((args, kwargs), result)
        return result

    def _is_skip(self, func: Any, args: Any, result: Any) -> bool:
        """Whether an operation adds two activations of one shape."""
        if func not in (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor):
            return False
        one, other = args[:2]
        activations = self.flow.is_activation(one) and self.flow.is_activation(other)
        return activations and one.shape == other.shape == result.shape and one.dim() > 1

    def _skip_of(self, added: Any) -> str:
        """The earlier layer of which one of the numbers added has all outputs."""
        for one in added:
            sources = self.flow.sources(one)
            for place, numbers in sources.items():
                if len(sources) == 1 and place < len(self.layers) - 1 and numbers == self.layers[place].outputs:
                    return self.layers[place].name
        return ""

    def _seen(self, by: str, values: Any) -> None:
        """Note on the layers that ``values`` come from how many of their numbers are seen."""
        for place, numbers in self.flow.sources(values).items():
            most = max(numbers, getattr(self.layers[place], by))
            self.layers[place] = replace(self.layers[place], **{by: most})

    def _between(self, func: Any, args: Any, result: Any) -> None:
        """What an operation outside of all layers asks the chip to keep."""
        aten, last = torch.ops.aten, self.layers[-1]
        if self._is_skip(func, args, result):
            self._amend(
                additions=last.additions + result[0].numel(), skip_of="" if last.additions else self._skip_of(args[:2])
            )
        elif func is aten.cat.default and result.dim() == 4 and (args[1] if len(args) > 1 else 0) in (1, -3):
            self._amend(joined=last.joined + max(0, result[0].numel() - last.outputs))
        elif func is aten.max_unpool2d.default:
            self._amend(places=last.places + args[1][0].numel())

    def enter(self, module: nn.Module, inputs: Any) -> None:
        self.inside += 1
        if not self.is_binary(module):
            self._seen("to_real", inputs)
        self.front = (self.names[module], _bits(module)) if _draws(module) else ("", 0)

    def leave(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.inside -= 1
        weight: Any = module.weight
        transposed, groups = getattr(module, "transposed", False), getattr(module, "groups", 1)
        if isinstance(module, nn.Linear):
            shape = LayerShape(
                self.names[module],
                rows=weight[0].numel(),
                columns=weight.shape[0],
                positions=output[0].numel() // weight.shape[0],
                binary=False,
                inputs=inputs[0][0].numel(),
            )
        else:
            shape = _convolution(self.names[module], inputs[0], output, weight, transposed, groups)
        shape = replace(
            shape,
            binary=self.is_binary(module),
            input_bits=getattr(module, "input_bits", 1),
            front=self.front[0],
            front_bits=self.front[1],
        )
        self.layers.append(shape)
        self.flow.begin(output, len(self.layers) - 1)

    def leave_network(self, output: Any) -> None:
        self._seen("to_real", output)

    def around(self, module: nn.Module, _inputs: Any) -> None:
        """A module that is no layer but draws or scales: in a layer it acts on its input, elsewhere on its output."""
        if self.inside:
            self.front = (self.names[module], _bits(module))
        elif self.layers:
            self._amend(
                behind=self.names[module] if _draws(module) else "",
                behind_bits=_bits(module) if _draws(module) else 0,
                scaled=isinstance(getattr(module, "scale", None), Tensor),
                biased=isinstance(getattr(module, "bias", None), Tensor),
                norm_sets=getattr(module, "turns", 0) or 1,
            )

    def _amend(self, **changes: Any) -> None:
        self.layers[-1] = replace(self.layers[-1], **changes)


def _convolution(name: str, image: Tensor, output: Tensor, weight: Tensor, transposed: bool, groups: int) -> LayerShape:
    """A convolution of one image in full precision."""
    area = weight[0, 0].numel()
    return LayerShape(
        name,
        rows=weight.shape[0] // groups if transposed else weight[0].numel(),
        columns=weight.shape[1] * groups * area if transposed else weight.shape[0],
        positions=image[0, 0].numel() if transposed else output[0, 0].numel(),
        binary=False,
        inputs=image[0].numel(),
        kernel_area=1 if transposed else area,
        groups=groups,
    )


def _draws(module: nn.Module) -> bool:
    return hasattr(type(module), "random_bits")


def _bits(module: Any) -> int:
    return module.random_bits


def _as_written(model: nn.Module) -> AbstractContextManager[object]:
    """Run a compiled model as it is written: the trace has to see its operations."""
    compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
    # the compiler takes a second to import, so only where there is something to hold back
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def trace_workload(
    model: nn.Module, input_shape: tuple[int, ...], is_binary: Callable[[nn.Module], bool] | None = None
) -> list[LayerShape]:
    """Trace a model into layer shapes, in order of execution; a layer that is used twice appears twice.

    Args:
        model: any network; it is run once in evaluation mode on zeros, and left in the mode it was in.
        input_shape: shape of one input without the batch dimension, e.g. ``(3, 32, 32)``.
        is_binary: which layers have 1-bit weights; by default those with a method ``binary_weight``.

    >>> trace_workload(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), (3, 4, 4))[0].mac
    3456
    """
    names = {module: name for name, module in model.named_modules()}
    state = _Trace(names, is_binary or (lambda module: hasattr(module, "binary_weight")))
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            hooks.append(module.register_forward_pre_hook(state.enter))
            hooks.append(module.register_forward_hook(state.leave))
        elif _draws(module):
            hooks.append(module.register_forward_pre_hook(state.around))
    training = [module for module in model.modules() if module.training]
    parameter = next(model.parameters(), torch.zeros(()))
    try:
        model.eval()
        with _as_written(model), torch.no_grad(), state:
            image = torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device)
            state.flow.begin(image)
            state.leave_network(model(image))
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    return _with_output_bits(state.layers)


def _with_output_bits(layers: list[LayerShape]) -> list[LayerShape]:
    """Outputs are as wide as the next binary layer takes them, the last ones as those before them."""
    bits, found = next((layer.input_bits for layer in reversed(layers) if layer.binary), 1), []
    for layer in reversed(layers):
        found.append(replace(layer, output_bits=bits))
        bits = layer.input_bits if layer.binary else bits
    return found[::-1]
