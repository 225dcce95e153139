"""A trained network for inference only: binarized weights, estimators without gradients."""

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear, signs_of
from lit_scaledrop.layers.weight_sampling import DropConnectConv2d, DropConnectLinear, SpinBayesConv2d, SpinBayesLinear
from lit_scaledrop.shapes import Float

DRAWN = (DropConnectConv2d, DropConnectLinear, SpinBayesConv2d, SpinBayesLinear)
"""Layers whose weights are drawn at each pass."""


class Sign(nn.Module):
    """Sign with two values and no gradient; shape in, shape out."""

    signs = True

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """+1 where ``x >= 0``, else -1."""
        return signs_of(x)


class Magnitude(nn.Module):
    """What stands in for a weight estimator where the weights are signs: one factor for each filter, or none.

    Args:
        factor: shape ``(out, 1, ...)``; ``None`` leaves the signs as they are.
    """

    factor: Tensor | None

    def __init__(self, factor: Float[Tensor, "out ..."] | None = None) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    @property
    def signs(self) -> bool:
        """Whether the weights are +1 and -1 and nothing else."""
        return self.factor is None

    def forward(self, weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
        """Weights as they are multiplied."""
        return weight if self.factor is None else weight * self.factor


def binary_layers(network: nn.Module) -> dict[str, BinaryConv2d | BinaryLinear]:
    """Layers with 1-bit weights, by name.

    Raises:
        ValueError: a layer draws its weights.
    """
    layers = dict(network.named_modules())
    if drawn := [name for name, layer in layers.items() if isinstance(layer, DRAWN)]:
        raise ValueError(f"{drawn[0]} ({type(layers[drawn[0]]).__name__}) has random weights: it cannot be packed")
    return {name: layer for name, layer in layers.items() if isinstance(layer, BinaryConv2d | BinaryLinear)}


@torch.no_grad()
def freeze(network: nn.Module) -> nn.Module:
    """Replace, in place, weights by what they are multiplied as, and estimators by what they compute.

    The network gives the same outputs, bit for bit, and cannot be trained any more.

    Raises:
        ValueError: a layer draws its weights, or a filter has more than two values.
    """
    for name, layer in binary_layers(network).items():
        weight = layer.binary_weight()
        size = weight.abs()
        factor = size.flatten(1)[:, :1].reshape(-1, *[1] * (weight.dim() - 1))
        if not torch.equal(size, factor.expand_as(size)):
            raise ValueError(f"{name} has filters with more than two values: one bit per weight cannot represent them")
        layer.weight.copy_(torch.where(weight > 0, 1.0, -1.0))
        as_signs(layer, None if bool((factor == 1).all()) else factor.clone())
    plain_signs(network)
    return network.requires_grad_(False).eval()


def as_signs(layer: BinaryConv2d | BinaryLinear, factor: Tensor | None) -> None:
    """Tell a layer that its weights are signs already, to be multiplied by ``factor`` of each filter."""
    layer.weight_estimator, layer.weight_scale, layer.normalize = Magnitude(factor), "none", False


def plain_signs(network: nn.Module) -> None:
    """Replace sign estimators by the sign."""
    for parent in list(network.modules()):
        for key, module in list(parent.named_children()):
            if isinstance(module, STE | EDE):
                setattr(parent, key, Sign())
