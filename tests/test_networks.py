"""Topologies: counts of the literature, for every method."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from hardware.workload import trace_workload
from lit_scaledrop.layers import BinaryConv2d, BinaryLinear, ScaleDropout, stochastic_layers
from lit_scaledrop.methods import METHODS, Method, get_method
from lit_scaledrop.networks import NETWORKS, build_network, resnet18
from lit_scaledrop.objective import scale_regularization, weight_regularization

# (input shape, hidden layers, MAC of the hidden layers, MAC of all)
LITERATURE = {
    "lenet5": ((1, 32, 32), 3, 240_000 + 48_000 + 10_080, 416_520),
    "resnet18": ((3, 32, 32), 16, 547_356_672, 547_356_672 + 1_769_472 + 5_120),
    "resnet20": ((3, 32, 32), 18, 40_108_032, 40_551_040),
    "vgg_small": ((3, 32, 32), 5, 603_979_776, 603_979_776 + 3_538_944 + 81_920),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_layers_and_operations(network, method):
    shape, hidden, hidden_mac, mac = LITERATURE[network]
    net = build_network(network, METHODS[method], in_channels=shape[0])
    work = trace_workload(net, shape)
    assert sum(layer.mac for layer in work) == mac
    binary = [layer for layer in work if layer.binary]
    assert len(binary) == (hidden if METHODS[method].binary else 0)
    assert sum(layer.mac for layer in binary) == (hidden_mac if METHODS[method].binary else 0)
    # first and last layer stay in full precision
    assert not work[0].binary
    assert not work[-1].binary
    scales = [m for m in net.modules() if isinstance(m, ScaleDropout)]
    assert len(scales) == (hidden if METHODS[method].scale else 0)


def test_resnet20_parameters():
    # He et al. give 0.27 M
    assert sum(p.numel() for p in build_network("resnet20", METHODS["irnet"]).parameters()) == 269_850
    proposed = build_network("resnet20", METHODS["proposed"])
    assert sum(p.numel() for p in proposed.parameters()) == 269_850 + 6 * (16 + 32 + 64)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("lenet5", [0.1, 0.5, 0.2]),
        ("vgg_small", [0.1, 0.1, 0.2, 0.2, 0.5]),
        ("resnet20", [0.1] * 7 + [0.2] * 6 + [0.5] * 5),
        ("resnet18", [0.1] * 9 + [0.2] * 4 + [0.5] * 3),
    ],
)
def test_adaptive_probabilities(network, expected):
    layers = stochastic_layers(build_network(network, METHODS["proposed"], width=0.5))
    assert [round(float(layer.p), 1) for layer in layers.values()] == expected


@pytest.mark.parametrize("shortcut", ["pool", "conv"])
def test_resnet18_shortcuts(shortcut):
    net = resnet18(METHODS["proposed"], width=0.25, shortcut=shortcut)
    weights = [layer for layer in trace_workload(net, (3, 32, 32)) if "shortcut" in layer.name]
    assert len(weights) == (3 if shortcut == "conv" else 0)
    assert not any(layer.binary for layer in weights)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_training_step_reaches_every_parameter(network, method):
    torch.manual_seed(0)
    net = build_network(network, METHODS[method], in_channels=3, width=0.25).train()
    loss = nn.functional.cross_entropy(net(torch.randn(8, 3, 32, 32)), torch.arange(8))
    (loss + scale_regularization(net) + 1e-4 * weight_regularization(net)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("placement", ["before_norm", "after_norm"])
def test_scale_stands_where_it_was_asked_for(placement):
    net = build_network("resnet20", METHODS["proposed"].with_scale(placement=placement), width=0.25)
    for block in (m for m in net.modules() if isinstance(m, nn.Sequential) and hasattr(m, "scale")):
        names = [name for name, _ in block.named_children()]
        assert (names.index("scale") < names.index("norm")) == (placement == "before_norm")


def test_objective_closed_forms():
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=True), ScaleDropout(2), nn.Linear(2, 2))
    net[0].weight.data.fill_(3.0)
    net[2].weight.data.fill_(0.5)
    net[1].scale.data.copy_(torch.tensor([0.5, 2.1]))
    assert scale_regularization(net).item() == pytest.approx(0.09)
    assert weight_regularization(net).item() == pytest.approx(2 * 9 + 4 * 0.25)
    assert scale_regularization(nn.Linear(1, 1)).item() == 0


def test_names_are_checked_with_the_nearest_match():
    with pytest.raises(ValueError, match="did you mean 'proposed'"):
        get_method("propose")
    with pytest.raises(ValueError, match="did you mean 'resnet20'"):
        build_network("resnet-20", METHODS["fp"])
    with pytest.raises(ValueError, match="width"):
        build_network("resnet20", METHODS["fp"], width=0.0)


def test_methods_are_checked():
    with pytest.raises(ValueError, match="constant"):
        Method("x", "y", estimator="ste", activation="relu")
    with pytest.raises(ValueError, match="no Scale-Dropout"):
        METHODS["fp"].with_scale(p=0.3)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        METHODS["proposed"].with_scale(p=1.3)


def test_workload_of_groups_and_reuse():
    shared = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    work = trace_workload(nn.Sequential(shared, shared).train(), (4, 5, 5))
    assert [layer.mac for layer in work] == [25 * 4 * 2 * 9] * 2
    assert shared.training


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_compile_without_a_graph_break(network):
    """In a process of its own: jaxtyping's checks, which only tests have, break graphs."""
    program = f"""
import torch
from lit_scaledrop.methods import METHODS
from lit_scaledrop.networks import build_network
torch.manual_seed(0)
net = build_network({network!r}, METHODS["proposed"], width=0.25, in_channels=3).eval()
x = torch.randn(4, 3, 32, 32)
compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
torch.testing.assert_close(compiled(x), net(x))
net.train()
compiled(x).sum().backward()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=300)


def test_binary_layers_are_torch_layers():
    for method in ("irnet", "proposed"):
        net = build_network("lenet5", METHODS[method], in_channels=1)
        assert isinstance(net.hidden[0].conv, BinaryConv2d)
        assert isinstance(net.hidden[3].linear, BinaryLinear)
