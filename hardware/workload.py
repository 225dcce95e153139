"""Layer shapes of any torch model, traced by one forward pass.

A layer (:mod:`hardware.layer_shape`) is a convolution, of any dimensions, also transposed, or a linear layer, also
where they are called as functions (``F.conv2d``, ``F.linear``, ``x @ weight``); its multiply-accumulates (MAC) are
``positions * rows * columns``, where ``rows`` are the weights that one output sums over and ``columns`` the output
channels. A transposed convolution multiplies every input pixel by all of its kernel, so its positions are the input's
and its columns channels times kernel area. BatchNorm and activations have no MAC here; products of two activations, as
in attention, and recurrent layers are left out with a warning. What is random is known by a property ``random_bits`` of
its class, what scales by an attribute ``scale``, what is binary by a method ``binary_weight``, how wide its inputs are
by an attribute ``input_bits`` (1 without it), and how many sets of a normalization passes take turns with by an
attribute ``turns`` of what says so: the hardware model knows no class of any library but torch's.

Who sees the outputs of a layer decides what stands behind it: a layer whose outputs only become inputs of binary layers
needs thresholds; in front of a skip or of a layer with real inputs its scale and BatchNorm are a product and a sum.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hardware.flow import Flow
from hardware.layer_shape import LayerShape, convolution, factors_of, product

FUNCTIONS = ("convolution", "product")
"""Names of convolutions and of products with a matrix that are no module, with their numbers."""
LEFT_OUT = {"scaled_dot_product": "products of two activations (attention)", "_rnn": "recurrent layers"}
"""Operations of torch's that are not counted, by parts of their names."""


class _Trace(TorchDispatchMode):
    """Layers in the order in which they run, and what happens around each."""

    def __init__(self, names: dict[nn.Module, str], is_binary: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.names, self.is_binary = names, is_binary
        self.layers: list[LayerShape] = []
        self.front: tuple[str, int] = ("", 0)
        self.inside = 0
        self.left_out: set[str] = set()
        self.flow = Flow()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # inside a layer an estimator may add
        if not self.inside and func is torch.ops.aten.convolution.default:
            image, weight, transposed, groups = args[0], args[1], args[6], args[8]
            self._seen("to_real", [image])
            self._add(convolution(self._name(FUNCTIONS[0]), image, result, weight, transposed, groups), result)
        elif not self.inside and (factors := factors_of(func, args)) and any(map(self.flow.is_activation, factors)):
            self._product(*factors, result)
        elif not self.inside:
            self.left_out |= {what for name, what in LEFT_OUT.items() if name in str(func)}
            if self.layers:
                self._between(func, args, result)
            if self._is_skip(func, args, result):
                self._seen("to_skip", args[:2])
                # the sum is nobody's output: signs and further skips see it
                self.flow.begin(result)
            else:
                self.flow.pass_on((args, kwargs), result)
        return result

    def _product(self, one: Tensor, other: Tensor, result: Tensor) -> None:
        """A matrix times another, of which one is an activation, or both are."""
        activations = list(filter(self.flow.is_activation, (one, other)))
        self._seen("to_real", activations)
        if len(activations) == 2:
            self.left_out.add(LEFT_OUT["scaled_dot_product"])
            self.flow.pass_on(activations, result)
            return
        self._add(product(self._name(FUNCTIONS[1]), one, other, activations[0] is one), result)

    def _name(self, kind: str) -> str:
        return f"{kind} {sum(layer.name.startswith(kind) for layer in self.layers)}"

    def _add(self, shape: LayerShape, output: Tensor) -> None:
        self.layers.append(shape)
        self.flow.begin(output, len(self.layers) - 1)

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
            shape = convolution(self.names[module], inputs[0], output, weight, transposed, groups)
        shape = replace(
            shape,
            binary=self.is_binary(module),
            input_bits=getattr(module, "input_bits", 1),
            front=self.front[0],
            front_bits=self.front[1],
        )
        self._add(shape, output)

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

    What it does not count it says by a warning.

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
    fused = torch.backends.mha.get_fastpath_enabled()
    parameter = next(model.parameters(), torch.zeros(()))
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one operation would hide the layers of an attention
        with _as_written(model), torch.no_grad(), state:
            image = torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device)
            state.flow.begin(image)
            state.leave_network(model(image))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    if state.left_out:
        what = " and ".join(sorted(state.left_out))
        warnings.warn(f"not counted: {what} of {type(model).__name__}", stacklevel=2)
    return _with_output_bits(state.layers)


def _with_output_bits(layers: list[LayerShape]) -> list[LayerShape]:
    """Outputs are as wide as the next binary layer takes them, the last ones as those before them."""
    bits, found = next((layer.input_bits for layer in reversed(layers) if layer.binary), 1), []
    for layer in reversed(layers):
        found.append(replace(layer, output_bits=bits))
        bits = layer.input_bits if layer.binary else bits
    return found[::-1]
