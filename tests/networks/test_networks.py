"""Topologies: counts of the literature, for every method."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from hardware.workload import trace_workload
from lit_scaledrop.layers import BinaryConv2d, BinaryLinear, ScaleDropout, stochastic_layers
from lit_scaledrop.methods.classification import METHODS, get_method
from lit_scaledrop.methods.method import Method
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.modules.objective import scale_regularization, weight_regularization
from lit_scaledrop.networks import NETWORKS, SEGMENTATION_NETWORKS, build_network, resnet18
from lit_scaledrop.networks.resnet import Block, ResNet20, Unit, shortcut_layer
from lit_scaledrop.posterior import draw_plan, enumerate_plan

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


class PlainBlock(nn.Module):
    def __init__(self, before, width, stride, shortcut):
        super().__init__()
        self.shortcut = shortcut
        self.conv1, self.norm1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        if shortcut == "conv" and before != width:
            self.skip = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x, convolve, act):
        y = self.norm2(convolve(self.conv2, act(self.norm1(convolve(self.conv1, x)))))
        more = y.shape[1] - x.shape[1]
        if hasattr(self, "skip"):
            x = self.skip(x)
        elif more:
            x = x[:, :, ::2, ::2] if self.shortcut == "subsample" else nn.functional.avg_pool2d(x, 2)
            none = x.new_zeros(len(x), more // 2, *x.shape[2:])
            x = torch.cat([none, x, none], 1)
        return act(y + x)


class PlainResNet(nn.Module):
    """Residual networks as their papers define them, written for this test: two convolutions under a skip.

    ResNet-20 of He et al. (arXiv:1512.03385) for CIFAR-10: three stages of three blocks, option A. ResNet-18: four
    stages of two. Both with IR-Net's BatchNorm in front of the classifier.
    """

    def __init__(self, channels, blocks, shortcut, sign):
        super().__init__()
        self.sign = sign
        self.act = nn.functional.hardtanh if sign else nn.functional.relu
        self.conv, self.norm = nn.Conv2d(3, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0])
        self.blocks, before = nn.ModuleList(), channels[0]
        for stage, width in enumerate(channels):
            for block in range(blocks):
                self.blocks.append(PlainBlock(before, width, 2 if stage and not block else 1, shortcut))
                before = width
        self.final, self.fc = nn.BatchNorm1d(before), nn.Linear(before, 10)

    def convolve(self, conv, x):
        if not self.sign:
            return conv(x)
        weight = conv.weight - conv.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(self.sign(x), self.sign(weight), None, conv.stride, 1)

    def forward(self, x):
        x = self.norm(self.conv(x))
        x = x if self.sign else self.act(x)
        for block in self.blocks:
            x = block(x, self.convolve, self.act)
        return self.fc(self.final(x.mean((2, 3))))


def in_order(network, kinds):
    return [module for module in network.modules() if isinstance(module, kinds)]


def give_weights(ours, theirs):
    """Parameters and statistics of ``ours`` to ``theirs``, layer by layer in the order in which both hold them."""
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.BatchNorm1d, nn.Linear)
    pairs = list(zip(in_order(ours, kinds), in_order(theirs, kinds), strict=True))
    for one, other in pairs:
        assert [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.weight.data.uniform_(0.5, 1.5)
            one.bias.data.uniform_(-0.5, 0.5)
            one.running_mean.uniform_(-0.5, 0.5)
            one.running_var.uniform_(0.5, 1.5)
        other.load_state_dict({k: v for k, v in one.state_dict().items() if k in other.state_dict()})


def plus_minus(x):
    return torch.where(x >= 0, 1.0, -1.0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "method", "shortcut", "channels", "blocks"),
    [
        ("resnet20", "fp", "subsample", (16, 32, 64), 3),
        ("resnet20", "fp", "pool", (16, 32, 64), 3),
        ("resnet18", "fp", "pool", (64, 128, 256, 512), 2),
        ("resnet18", "fp", "conv", (64, 128, 256, 512), 2),
        ("resnet18", "binary", "conv", (64, 128, 256, 512), 2),
        ("resnet18", "binary", "pool", (64, 128, 256, 512), 2),
    ],
)
def test_networks_are_their_references(name, method, shortcut, channels, blocks, training):
    torch.manual_seed(0)
    method = METHODS[method] if method == "fp" else replace(METHODS["proposed"], scale=None)
    ours = build_network(name, method, shortcut=shortcut, width=0.25)
    channels = [c // 4 for c in channels]
    theirs = PlainResNet(channels, blocks, shortcut, plus_minus if method.binary else None)
    give_weights(ours, theirs)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(ours.train(training)(images), theirs.train(training)(images), rtol=1e-4, atol=1e-4)
    skips = sum(isinstance(module, Block) for module in ours.modules())
    assert skips == blocks * len(channels)


def test_binary_resnet20_has_a_skip_over_every_convolution():
    """IR-Net's: hardtanh(norm(conv(sign x)) + x); open: the same sums without the hardtanh."""
    for name in ("irnet", "proposed_open"):
        net = build_network("resnet20", METHODS[name], width=0.25).eval()
        units = in_order(net, Unit)
        assert len(units) == 18
        x = torch.randn(2, 4, 8, 8)
        block = units[0].block
        weight = block.conv.binary_weight()
        total = block.norm(nn.functional.conv2d(plus_minus(x), weight, padding=1)) + x
        expected = total if name == "proposed_open" else total.clamp(-1, 1)
        torch.testing.assert_close(units[0](x), expected, rtol=1e-5, atol=1e-5)
        pools = in_order(net, nn.AvgPool2d)
        assert len(pools) == (2 if name == "proposed_open" else 0)
        assert len(in_order(net, nn.Hardtanh)) == (0 if name == "proposed_open" else 19)


@pytest.mark.parametrize("name", ["recu", "proposed_recu", "proposed_open", "proposed_affine_open"])
def test_methods_may_choose_the_shortcut_and_a_flag_overrides(name):
    assert len(in_order(build_network("resnet20", METHODS[name], width=0.25), nn.AvgPool2d)) == 2
    assert not in_order(build_network("resnet20", METHODS[name], width=0.25, shortcut="subsample"), nn.AvgPool2d)


@pytest.mark.parametrize("shortcut", ["pool", "subsample"])
def test_a_pooled_shortcut_is_the_mean_of_four(shortcut):
    layer = shortcut_layer(shortcut, 2, 4, 2)
    x = torch.arange(2 * 16.0).reshape(1, 2, 4, 4)
    kept = x[:, :, ::2, ::2] if shortcut == "subsample" else x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(layer(x), torch.cat([torch.zeros(1, 1, 2, 2), kept, torch.zeros(1, 1, 2, 2)], 1))


@pytest.mark.parametrize("network", [*NETWORKS, "segnet", "unet"])
def test_builders_finish_what_they_build(network):
    builder = NETWORKS.get(network) or SEGMENTATION_NETWORKS[network]
    method = METHODS["proposed"] if network in NETWORKS else SEGMENTATION_METHODS["proposed"]
    layers = in_order(builder(method, width=0.25), ScaleDropout)
    assert {round(float(layer.p), 1) for layer in layers} == {0.1, 0.2, 0.5}


def test_a_drop_probability_that_was_never_set_is_no_zero():
    net = ResNet20(METHODS["proposed"], width=0.25)
    net.eval()(torch.randn(1, 3, 32, 32))  # nothing is drawn
    with pytest.raises(RuntimeError, match="never set: build the network by its function"):
        net.train()(torch.randn(2, 3, 32, 32))
    with pytest.raises(RuntimeError, match="never set"):
        draw_plan(net, 2)
    with pytest.raises(RuntimeError, match="never set"):
        enumerate_plan(net)
    METHODS["proposed"].finish(net).train()(torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_training_step_reaches_every_parameter(network, method):
    """A compiler once took the estimators' gradients away without a word."""
    torch.manual_seed(0)
    net = build_network(network, METHODS[method], in_channels=3, width=0.25).train()
    loss = nn.functional.cross_entropy(net(torch.randn(16, 3, 32, 32)), torch.arange(16) % 10)
    (loss + scale_regularization(net)).backward()
    for name, layer in net.named_modules():
        if isinstance(layer, BinaryConv2d | BinaryLinear):
            assert layer.weight.grad.abs().sum() > 0, name
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


def test_networks_compile_without_a_graph_break():
    """In a process of its own: jaxtyping's checks, which only tests have, break graphs."""
    program = """
import torch
from torch import nn
from lit_scaledrop.methods import METHODS
from lit_scaledrop.networks import NETWORKS, build_network
for name in NETWORKS:
    torch.manual_seed(0)
    torch._dynamo.reset()
    net = build_network(name, METHODS["proposed"], width=1 / 16, in_channels=3).eval()
    for stages, first in (("units", (0, 6, 12)), ("blocks", (0, 2, 4, 6))):  # one unit a stage: the others are alike
        if hasattr(net, stages):
            setattr(net, stages, nn.Sequential(*[getattr(net, stages)[place] for place in first]))
    x = torch.randn(4, 3, 32, 32)
    # AOTAutograd sees the same layers in all of them
    compiled = torch.compile(net, backend="aot_eager" if name == "resnet20" else "eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x), msg=lambda text: f"{name}: {text}")
    net.train()
    compiled(x).sum().backward()
print("checked", len(NETWORKS))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert "checked 4" in subprocess.run(command, check=True, timeout=900, capture_output=True, text=True).stdout


def test_binary_layers_are_torch_layers():
    for method in ("irnet", "proposed"):
        net = build_network("lenet5", METHODS[method], in_channels=1)
        assert isinstance(net.hidden[0].conv, BinaryConv2d)
        assert isinstance(net.hidden[3].linear, BinaryLinear)
