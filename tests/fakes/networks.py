"""Networks as a training leaves them, without one."""

import torch
from torch import nn

from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network


def as_trained(network: nn.Module, spread: float = 0.5, seed: int | None = None) -> nn.Module:
    """Scales within ``spread`` of one, BatchNorm away from the identity: else the next sign would not see a scale."""
    if seed is not None:
        torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, ScaleDropout):
            module.scale.data.uniform_(1 - spread, 1 + spread)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.fill_(50)
            module.bias.data.normal_()
    return network.eval()


def network_of(name: str, method: str, width: float, spread: float = 0.5, seed: int = 0, **scale: object) -> nn.Module:
    """A network of colour images with options of Scale-Dropout, as trained."""
    torch.manual_seed(seed)
    network = build_network(name, METHODS[method].with_scale(**scale), width=width, in_channels=3)
    return as_trained(network, spread)
