"""Every convolution is counted, against PyTorch's own counter of operations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from hardware.workload import trace_workload


class Functional(nn.Module):
    def __init__(self, groups=1):
        super().__init__()
        self.groups, self.weight = groups, nn.Parameter(torch.ones(8, 4 // groups, 3, 3))

    def forward(self, x):
        return F.conv_transpose2d(
            F.conv2d(x, self.weight, groups=self.groups), self.weight, stride=2, groups=self.groups
        )


NETWORKS = {
    "transposed": (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 2, stride=2)), (3, 8, 8)),
    "overlapping": (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (6, 5, 5)),
    "1-d": (nn.Sequential(nn.Conv1d(4, 6, 5, groups=2), nn.ConvTranspose1d(6, 3, 4)), (4, 20)),
    "3-d": (nn.Sequential(nn.Conv3d(2, 4, 3), nn.ConvTranspose3d(4, 2, 2, stride=2)), (2, 6, 7, 8)),
    "functions": (Functional(), (4, 9, 9)),
    "functions in groups": (Functional(2), (4, 9, 9)),
    "plain": (nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(), nn.Linear(36, 5)), (3, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_accumulates_are_those_of_pytorch(name):
    network, shape = NETWORKS[name]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, *shape))
    layers = trace_workload(network, shape)
    assert 2 * sum(layer.mac for layer in layers) == counter.get_total_flops()
    assert sum(layer.weights for layer in layers) == sum(p.numel() for p in network.parameters() if p.dim() > 1) * (
        2 if name.startswith("functions") else 1
    )
    assert layers[0].in_channels == shape[0]
    assert layers[0].inputs == torch.Size(shape).numel()
    if name.startswith("functions"):
        assert [layer.name for layer in layers] == ["convolution 0", "convolution 1"]
