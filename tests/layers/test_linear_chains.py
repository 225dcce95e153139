"""Linear layers of signs within routines: features are maps of one pixel, flattened maps one window."""

import pytest
import torch
from torch import nn

from binary_networks import agree, binary, kinds, lived_in
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.binary import EDE, STE, BinaryLinear
from lit_scaledrop.layers.bits import available
from lit_scaledrop.layers.bits.operation import BITS, FINISH, PACK, POOL, SUMS
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")
SIDES = 3, 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def linear(features, out):
    return BinaryLinear(features, out, EDE(), STE())


class Flattens(nn.Module):
    """Two convolutions, features in some way, two linear layers."""

    def __init__(self, how, between=()):
        super().__init__()
        first, second = binary(4, 7), binary(7, 7)
        self.maps = nn.Sequential(first, ScaleDropout(7, 0.5), nn.BatchNorm2d(7), Clip(), second, nn.BatchNorm2d(7))
        self.how, self.flat, self.between = how, nn.Flatten(), nn.Sequential(*between) if between else nn.Identity()
        self.first, self.scale, self.norm = linear(105, 9), ScaleDropout(9, 0.5), nn.BatchNorm1d(9)
        self.last, self.end = linear(9, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        y, also = getattr(self, self.how)(self.maps(x))
        z = self.first(self.between(y))
        return self.end(self.last(self.norm(self.scale(z)))) + also

    def module(self, y):
        return self.flat(y), 0

    def function(self, y):
        return torch.flatten(y, 1), 0

    def method(self, y):
        return y.flatten(1), 0

    def viewed(self, y):
        return y.view(y.size(0), -1), 0

    def reshaped(self, y):
        return y.reshape(len(y), 7 * 15), 0

    def turned(self, y):
        return y.transpose(1, 3).flatten(1), 0

    def channels_last(self, y):
        return y.permute(0, 2, 3, 1).reshape(-1, 105), 0

    def features_twice(self, y):
        flat = self.flat(y)
        return flat, flat[:, :6]

    def maps_twice(self, y):
        return self.flat(y), y[:, :6, 0, 0]


WHOLE = ("module", "function", "method", "viewed", "reshaped")


@pytest.mark.parametrize("execution", ["loop", "folded", "shared", "exact"])
@pytest.mark.parametrize("how", [*WHOLE, "turned", "channels_last", "features_twice", "maps_twice"])
def test_features_of_maps(how, execution):
    network, x = lived_in(Flattens(how)), torch.randn(5, 4, *SIDES)
    assert agree(network, x, execution)
    assert agree(network, x[:1], execution)
    if how in WHOLE:
        assert kinds(network, x) == [[PACK, BITS, BITS, BITS, SUMS, FINISH]]


@pytest.mark.parametrize("between", [nn.BatchNorm1d(105), nn.ReLU(), nn.Linear(105, 105)])
def test_what_stands_in_front_of_the_first_linear_layer(between):
    assert agree(lived_in(Flattens("module", [between])), torch.randn(5, 4, *SIDES))


def test_pytorchs_dropout_in_front_of_it():
    """Is drawn where the network runs, so that it runs as it is."""
    network, x = lived_in(Flattens("module", [nn.Dropout(0.5)])), torch.randn(5, 4, *SIDES)
    ours, floats = (PosteriorPredictive(network, 4, 1, backend=name) for name in ("bits", "torch"))
    assert torch.equal(ours(x).logits, floats(x).logits)
    assert list(ours._multiplier.recorded.values()) == [None]


def test_weights_that_change_are_packed_anew():
    network, x = lived_in(Flattens("module")), torch.randn(5, 4, *SIDES)
    ours, floats = (PosteriorPredictive(network, 2, 1, backend=name) for name in ("bits", "torch"))
    before = ours(x).logits
    (recorded,) = ours._multiplier.recorded.values()
    network.first.weight.data.neg_()
    assert torch.equal(ours(x).logits, floats(x).logits)
    assert not torch.equal(ours(x).logits, before)
    assert [recorded] == list(ours._multiplier.recorded.values()) != [None]


@pytest.mark.parametrize(("shape", "routines"), [((20,), [[PACK, BITS, SUMS]]), ((3, 20), []), ((2, 3, 20), [])])
def test_linear_layers_of_features_tokens_and_grids(shape, routines):
    network, x = nn.Sequential(linear(20, 8), Clip(), linear(8, 5), nn.Flatten()).eval(), torch.randn(4, *shape)
    assert kinds(network, x) == routines
    ours, floats = (PosteriorPredictive(network, 1, backend=name) for name in ("bits", "torch"))
    assert torch.equal(ours(x).logits, floats(x).logits)


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("features", [1, 3, 8, 16, 19, 130])
def test_a_norm_of_features_is_rounded_as_pytorchs(features, rows):
    clipped = nn.Sequential(linear(40, features), nn.BatchNorm1d(features), nn.Hardtanh(-3, 3), nn.Linear(features, 2))
    network, x = lived_in(clipped), torch.randn(rows, 40)
    assert kinds(network, x) == [[PACK, SUMS, FINISH]]
    assert agree(network, x)


@pytest.mark.parametrize("execution", ["loop", "exact"])
def test_lenet5_is_one_routine(execution):
    network, x = lived_in(build_network("lenet5", METHODS["proposed"], in_channels=1)), torch.randn(4, 1, 32, 32)
    assert kinds(network, x) == [[POOL, PACK, BITS, BITS, SUMS, FINISH]]
    assert agree(network, x, execution)
