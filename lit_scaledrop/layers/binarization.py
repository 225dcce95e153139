"""Binarizations by name: what a binary layer does to its weights and inputs, and to its proxies after a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear, Poly
from lit_scaledrop.layers.quantizers import (
    DSQ,
    ClippedSign,
    DoReFaInput,
    DoReFaWeight,
    LABWeight,
    ReCUInput,
    ReCUWeight,
    XNORWeight,
)


@dataclass(frozen=True)
class Binarization:
    """How a binary layer computes."""

    weights: Callable[[Tensor, float], nn.Module]
    """estimator of the weights, made from their first values and from where EDE begins"""
    inputs: Callable[[float], nn.Module]
    """estimator of the inputs, made from where EDE begins"""
    normalize: bool = False
    """channel-wise normalization in front of the weights' estimator"""
    binary_inputs: bool = True
    """inputs become 1-bit values as well; otherwise they stay what the activation in front makes of them"""


BINARIZATIONS: dict[str, Binarization] = {
    "ste": Binarization(lambda _, __: STE(), lambda _: STE(), normalize=True),
    "ede": Binarization(lambda _, t_min: EDE(t_min), EDE, normalize=True),
    "ede_weights": Binarization(
        lambda _, t_min: EDE(t_min), lambda _: nn.Identity(), normalize=True, binary_inputs=False
    ),
    "ede_poly": Binarization(lambda _, t_min: EDE(t_min), lambda _: Poly(), normalize=True),
    "bnn": Binarization(lambda _, __: ClippedSign(), lambda _: STE()),
    "xnor": Binarization(lambda _, __: XNORWeight(), lambda _: STE()),
    "dorefa": Binarization(lambda _, __: DoReFaWeight(), lambda _: DoReFaInput()),
    "dsq": Binarization(lambda weight, _: DSQ(float(weight.detach().abs().max())), lambda _: DSQ()),
    "lab": Binarization(lambda weight, _: LABWeight(weight), lambda _: STE()),
    "recu": Binarization(lambda _, __: ReCUWeight(), lambda _: ReCUInput(), normalize=True),
}


def follow_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Let weight estimators act after every step: BNN clips the proxy weights, LAB takes in the gradient's square.

    :class:`lit_scaledrop.modules.LitClassifier` calls it; a training loop of your own calls it once.

    Args:
        network: with binary layers; one without estimators that need it is left alone.
        optimizer: that trains it.

    Returns:
        A handle, whose ``remove()`` ends it; ``None`` where there is nothing to do.
    """
    layers: list[tuple[Callable[[Tensor], None], Tensor]] = []
    for layer in network.modules():
        after_step: Any = getattr(getattr(layer, "weight_estimator", None), "after_step", None)
        if after_step is not None and isinstance(layer, BinaryConv2d | BinaryLinear):
            layers.append((after_step, layer.weight))
    if not layers:
        return None

    @torch.no_grad()
    def act(*_: Any) -> None:
        for after_step, weight in layers:
            after_step(weight)

    return optimizer.register_step_post_hook(act)
