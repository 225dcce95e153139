"""Layer shapes of any torch model, traced by one forward pass: what the hardware model sees of a network.

A layer is a convolution or a linear layer; its multiply-accumulates (MAC) are ``positions * rows * columns``, where
``rows`` are the weights that one output sums over and ``columns`` the output channels. BatchNorm, activations and
skips have no MAC here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerShape:
    """One convolution or linear layer, for one image."""

    name: str
    """module name"""
    rows: int
    """inputs that one output sums over: in_channels / groups * kernel area"""
    columns: int
    """output channels or features"""
    positions: int
    """output pixels (1 for a linear layer)"""
    binary: bool
    """1-bit weights and inputs"""

    @property
    def weights(self) -> int:
        """Weights of the layer, without bias."""
        return self.rows * self.columns

    @property
    def mac(self) -> int:
        """Multiply-accumulates of one pass over one image."""
        return self.positions * self.weights


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
    binary = is_binary or (lambda module: hasattr(module, "binary_weight"))
    shapes: list[LayerShape] = []
    names = {module: name for name, module in model.named_modules()}

    def record(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        weight: Any = module.weight
        positions = output[0].numel() // weight.shape[0]
        shapes.append(LayerShape(names[module], weight[0].numel(), weight.shape[0], positions, binary(module)))

    hooks = [m.register_forward_hook(record) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    training = [module for module in model.modules() if module.training]
    parameter = next(model.parameters(), torch.zeros(()))
    try:
        model.eval()
        with torch.no_grad():
            model(torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    return shapes
