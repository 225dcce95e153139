"""Convolutions of signs in bfloat16 are those of float32, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lit_scaledrop.layers import exact
from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d
from lit_scaledrop.layers.dropout import SpinDrop
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import NETWORKS, build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = pytest.mark.skipif(not exact.native_bfloat16(), reason="this processor does not multiply bfloat16")


def signs(*shape, seed=0, bias=0.5):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=generator) < bias).float() * 2 - 1


@settings(max_examples=40, derandomize=True)
@given(
    channels=st.sampled_from([1, 2, 3, 16, 28, 29, 57, 64, 130]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    bias=st.sampled_from([0.5, 0.8, 1.0]),
    seed=st.integers(0, 99),
)
def test_equal_to_float32(channels, kernel, stride, padding, bias, seed):
    x = signs(2, channels, 6, 5, seed=seed, bias=bias)
    weight = signs(4, channels, kernel, kernel, seed=seed + 1, bias=bias)
    ours = exact.conv2d_of_signs(x, weight, stride=stride, padding=padding)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, F.conv2d(x, weight, stride=stride, padding=padding))


def test_groups():
    x, weight = signs(2, 8, 6, 6), signs(4, 4, 3, 3, seed=1)
    assert torch.equal(exact.conv2d_of_signs(x, weight, groups=2), F.conv2d(x, weight, groups=2))


@pytest.mark.parametrize("channels", [57, 58, 130])  # 513, 522 and 1170 equal signs: bfloat16 would round them
def test_sums_beyond_its_digits(channels):
    x = torch.ones(1, channels, 3, 3)
    assert exact.conv2d_of_signs(x, x).item() == 9 * channels
    assert F.conv2d(x.bfloat16(), x.bfloat16()).item() != 9 * channels


@pytest.fixture
def calls(monkeypatch):
    """Geometries of the convolutions that ran in bfloat16."""
    seen = []

    def spy(x, weight, **geometry):
        seen.append(geometry)
        return whole(x, weight, **geometry)

    whole = exact.conv2d_of_signs
    monkeypatch.setattr("lit_scaledrop.layers.binary.conv2d_of_signs", spy)
    return seen


def test_used_without_gradients_only(calls):
    layer, x = BinaryConv2d(4, 4, 3, EDE(), STE(), padding=1), torch.randn(2, 4, 5, 5)
    expected = layer(x)
    assert not calls
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
        assert calls == [{"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}]
        with torch.autocast("cpu", torch.bfloat16):
            layer(x)
        layer.double()(x.double())
    assert len(calls) == 1


def test_not_used_where_something_else_than_signs_is_multiplied(calls):
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        BinaryConv2d(4, 4, 3, EDE(), torch.nn.Identity())(x)
        BinaryConv2d(4, 4, 3, EDE(), STE(), weight_scale="power_of_two")(x)
        BinaryConv2d(4, 4, 3, EDE(), torch.nn.Sequential(STE(), SpinDrop((4, 1, 1), 0.5)))(x)
        for method in ("xnor", "dorefa", "dsq", "lab", "fp", "irnet", "spindrop"):
            build_network("lenet5", METHODS[method], width=0.25).eval()(torch.randn(1, 3, 32, 32))
    assert not calls


@pytest.mark.parametrize("execution", ["loop", "folded", "shared"])
@pytest.mark.parametrize("network", NETWORKS)
def test_predictions_are_those_of_float32(calls, network, execution, monkeypatch):
    torch.manual_seed(0)
    net, x = build_network(network, METHODS["proposed"], width=0.125), torch.randn(3, 3, 32, 32)
    fast = PosteriorPredictive(net, 4, 0, execution)(x).logits
    assert calls
    monkeypatch.setattr(exact, "native_bfloat16", lambda: False)
    count = len(calls)
    assert torch.equal(PosteriorPredictive(net, 4, 0, execution)(x).logits, fast)
    assert len(calls) == count
