"""Small binary networks as after some training, and whether bits give the numbers of floats for them."""

import torch
from torch import nn

from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d
from lit_scaledrop.layers.recorded import Recorded
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.posterior.posterior import PosteriorPredictive


def binary(channels_in, channels_out, size=3, **options):
    return BinaryConv2d(channels_in, channels_out, size, EDE(), STE(), padding=size // 2, **options)


def lived_in(network):
    """Statistics, norms and scales with which signs depend on each of them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 3)
            module.running_var.uniform_(5, 50)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        if isinstance(module, ScaleDropout):
            nn.init.normal_(module.scale, 1, 0.7)
    return network.eval()


def kinds(network, x):
    """Of the operations of each routine."""
    return [[of.kind for of in each.routine.operations] for each in Recorded(network, x).routines]


def agree(network, x, execution="loop", samples=4):
    """Logits in bits and in floats, of networks whose passes differ."""
    ours, floats = (
        PosteriorPredictive(network, samples, execution=execution, backend=backend) for backend in ("bits", "torch")
    )
    expected = floats(x).logits
    found = ours(x).logits
    assert list(ours._multiplier.recorded.values())[-1] is not None, "what was recorded gives other numbers"
    return torch.equal(found, expected)
