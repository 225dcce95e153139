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


class Products(nn.Module):
    """Linear layers that are no modules: 3 x 8 by a bias and weights, by weights behind and in front, in a batch."""

    def __init__(self):
        super().__init__()
        self.first, self.bias = nn.Parameter(torch.ones(6, 8)), nn.Parameter(torch.ones(6))
        self.behind, self.front = nn.Parameter(torch.ones(6, 5)), nn.Parameter(torch.ones(4, 3))
        self.batch = nn.Parameter(torch.ones(2, 5, 7))

    def forward(self, x):  # (1, 3, 8)
        hidden = self.front @ (F.linear(x, self.first, self.bias)[0] @ self.behind)  # (4, 5)
        scale = self.front @ self.front.mT  # of parameters alone: no image has to be there
        return (hidden.expand(2, 4, 5) @ self.batch + scale.sum()).flatten()[None]


def test_products_that_are_no_modules_are_layers():
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        Products()(torch.zeros(1, 3, 8))
    layers = trace_workload(Products(), (3, 8))
    assert [(one.name, one.rows, one.columns, one.positions, one.groups) for one in layers] == [
        ("product 0", 8, 6, 3, 1), ("product 1", 6, 5, 3, 1), ("product 2", 3, 4, 5, 1), ("product 3", 5, 14, 4, 2),
    ]  # fmt: skip
    assert 2 * (sum(one.mac for one in layers) + 4 * 3 * 4) == counter.get_total_flops()
    assert [one.to_real for one in layers[:2]] == [18, 15]


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_counted_but_for_its_products_of_activations(fused, monkeypatch):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.heads(x, x, x, need_weights=not fused)[0]

    with pytest.warns(UserWarning, match=r"not counted: products of two activations \(attention\) of Attention"):
        layers = trace_workload(Attention(), (5, 8))
    assert sum(one.mac for one in layers) == 5 * 8 * 24 + 5 * 8 * 8  # queries, keys and values; what comes out
    assert torch.backends.mha.get_fastpath_enabled()


def test_recurrent_layers_are_named():
    with pytest.warns(UserWarning, match="not counted: recurrent layers of LSTM"):
        trace_workload(nn.LSTM(8, 4, batch_first=True), (5, 8))
