"""Predictions with signs multiplied as bits are those in floats, bit for bit, and stay so when weights change."""

import threading

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn.utils import weight_norm

from binary_networks import lived_in
from lit_scaledrop.deploy.inference import freeze
from lit_scaledrop.layers import bitwise
from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear
from lit_scaledrop.layers.bits import available, best_level
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.networks import build_network, build_segmentation_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")
EVERY = sorted(name for name, method in METHODS.items() if method.binary and method.members == 1)


@pytest.fixture
def products(monkeypatch):
    """Products that were made of bits."""
    seen = []

    def spy(*arguments, **options):
        seen.append(arguments)
        return whole(*arguments, **options)

    whole = bitwise.conv2d
    monkeypatch.setattr(bitwise, "conv2d", spy)
    return seen


def both(network, x, **options):
    made = {name: PosteriorPredictive(network, 4, 1, backend=name, **options) for name in ("torch", "bits")}
    found = {name: posterior(x).logits for name, posterior in made.items()}
    assert {name: posterior.multiplied[0] for name, posterior in made.items()} == {"torch": "torch", "bits": "bits"}
    return found["bits"], found["torch"]


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("network", ["resnet20", "vgg_small", "resnet18"])
def test_every_network_gives_the_same_logits(network, method, products):
    if network == "resnet18" and method not in ("proposed", "irnet"):
        pytest.skip("two methods of this network are enough")
    net = lived_in(build_network(network, METHODS[method], width=0.25))
    x = torch.randn(3, 3, 32, 32)
    posterior = PosteriorPredictive(net, 4, 1, backend="torch")
    expected = posterior(x).logits
    found = PosteriorPredictive(net, 4, 1)
    assert torch.equal(found(x).logits, expected)
    assert (found.multiplied[0] == "bits") == bool(products) or found.multiplied[
        1
    ] == "without AVX2 the kernels are not faster"


@pytest.mark.parametrize("execution", ["loop", "folded", "shared", "exact"])
def test_every_execution(execution, products):
    torch.manual_seed(0)
    net = lived_in(build_network("vgg_small", METHODS["proposed"], width=0.1))
    ours, floats = both(net, torch.randn(3, 3, 32, 32), execution=execution)
    assert torch.equal(ours, floats)
    assert len(products) >= 5
    assert (ours[0] - ours[1]).abs().max() > 0 or (ours[0] - ours[2]).abs().max() > 0


def test_segmentation_and_linear_layers(products):
    method = SEGMENTATION_METHODS["proposed"]
    net = lived_in(build_segmentation_network("unet", method, width=0.1))
    posterior = PosteriorPredictive(net, 2, 1)
    posterior(torch.rand(1, 3, 32, 32))
    assert posterior.multiplied == ("torch", "no layer multiplies signs by signs")  # its activations have four bits
    linear = nn.Sequential(BinaryLinear(70, 9, EDE(), STE()), nn.ReLU(), BinaryLinear(9, 3, EDE(), STE())).eval()
    assert torch.equal(*both(linear, torch.randn(5, 70)))
    assert len({id(filters) for _, filters, _ in products}) == 2


def test_tokens():
    net = nn.Sequential(BinaryLinear(20, 6, EDE(), STE()), nn.Flatten()).eval()
    assert torch.equal(*both(net, torch.randn(2, 4, 20)))


def test_frozen_networks(products):
    """As packed ones are; XNOR-Net's factors are no powers of two and stay floats."""
    for method, bits in (("irnet", True), ("proposed", True), ("xnor", False)):
        products.clear()
        net = freeze(lived_in(build_network("vgg_small", METHODS[method], width=0.1)))
        posterior = PosteriorPredictive(net, 1, 1)
        expected = PosteriorPredictive(net, 1, 1, backend="torch")(torch.ones(2, 3, 32, 32)).logits
        assert torch.equal(posterior(torch.ones(2, 3, 32, 32)).logits, expected)
        assert bool(products) == bits or posterior.multiplied[1] == "without AVX2 the kernels are not faster"


@pytest.mark.parametrize("change", ["weight", "data", "normalize", "in place", "estimator"])
def test_changed_weights_are_seen(change):
    torch.manual_seed(0)
    layer = BinaryConv2d(5, 7, 3, EDE(), STE(), padding="same", weight_scale="power_of_two")
    net, x = nn.Sequential(layer, nn.Flatten()).eval(), torch.randn(2, 5, 6, 6)
    assert torch.equal(*both(net, x))
    with torch.no_grad():
        if change == "weight":
            layer.weight = nn.Parameter(torch.randn_like(layer.weight))
        elif change == "data":
            layer.weight.data = torch.randn_like(layer.weight)
        elif change == "normalize":
            layer.weight += 0.05
            layer.normalize = False
        elif change == "in place":
            layer.weight.data.neg_()
        else:
            layer.weight_estimator = nn.Identity()
    if change == "estimator":
        posterior = PosteriorPredictive(net, 1)
        with torch.no_grad():
            assert torch.equal(posterior(x).logits[0], net(x))
    else:
        assert torch.equal(*both(net, x))


class Shifted(STE):
    def forward(self, x):
        return super().forward(x - 1)


class Turned(BinaryConv2d):
    turn = 1.0

    def binary_weight(self):
        return super().binary_weight() * self.turn


class Above(nn.Module):
    least = 0.0

    def forward(self, weight):
        return torch.where(weight >= self.least, 1.0, -1.0)


class Outer(nn.Module):
    """A network that does more with a layer than to call it."""

    def __init__(self, how, layer=None):
        super().__init__()
        self.how, self.layer = how, layer or BinaryConv2d(3, 4, 3, EDE(), STE())
        self.others = {"weight": torch.randn(2, *self.layer.weight.shape)}

    def forward(self, x):
        if self.how == "edited":
            before, first = self.layer.weight.clone(), self.layer(x)
            second = self.layer.weight.neg_() is not None and self.layer(x)
            self.layer.weight.copy_(before)
            y = 2 * first + second
        elif self.how == "other weights":
            y = sum(
                functional_call(self.layer, {"weight": weight}, (x,)) * weight[0, 0, 0, 0]
                for weight in self.others["weight"]
            )
        elif self.how == "mapped weights":
            y = vmap(lambda others: functional_call(self.layer, others, (x,)))(self.others).sum(0)
        elif self.how == "mapped":
            y = vmap(self.layer)(x[:, None])[:, 0]
        elif self.how == "negative":
            y = self.layer(torch._neg_view(x))
        else:
            y = self.layer(x)
        return y.mean((2, 3))


@pytest.mark.parametrize("how", ["edited", "other weights", "mapped weights", "mapped", "negative"])
def test_networks_that_do_more_with_a_layer(how):
    torch.manual_seed(0)
    assert torch.equal(*both(Outer(how).eval(), torch.randn(3, 3, 6, 6)))


def weights_of_norm(layer):
    layer.weight_v.data.normal_()


CHANGES = {
    "weight norm": (lambda: weight_norm(BinaryConv2d(3, 4, 3, EDE(), STE())), weights_of_norm),
    "own weights": (lambda: Turned(3, 4, 3, EDE(), STE()), lambda layer: setattr(layer, "turn", -1.0)),
    "own estimator": (
        lambda: BinaryConv2d(3, 4, 3, Above(), STE()), lambda layer: setattr(layer.weight_estimator, "least", 0.5)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("name", CHANGES)
def test_changes_of_what_is_not_ours_are_seen(name):
    torch.manual_seed(0)
    make, change = CHANGES[name]
    network, x = Outer("", make()).eval(), torch.randn(3, 3, 6, 6)
    found = PosteriorPredictive(network, 1, backend="bits")
    before = found(x).logits
    change(network.layer)
    after = found(x).logits
    assert torch.equal(after, PosteriorPredictive(network, 1, backend="torch")(x).logits)
    assert not torch.equal(after, before)


class Held(BinaryConv2d):
    """Weights as they are, signs or not."""

    def binary_weight(self):
        return self.weight


def test_weights_that_are_no_signs_any_more():
    """Nothing is left for the kernels, although no attribute has changed."""
    layer, x = Held(3, 4, 3, EDE(), STE()), torch.randn(3, 3, 6, 6)
    layer.weight.data.sign_()
    network = Outer("", layer).eval()
    ours, floats = PosteriorPredictive(network, 1), PosteriorPredictive(network, 1, backend="torch")
    for multiplied in ("bits", "torch", "bits"):
        assert torch.equal(ours(x).logits, floats(x).logits)
        assert ours.multiplied[0] == multiplied or not best_level()
        layer.weight.data.copy_(layer.weight.sign() if multiplied == "torch" else torch.randn_like(layer.weight))


def test_another_sign_and_hooks_on_all_modules(products):
    torch.manual_seed(0)
    network, x = Outer("", BinaryConv2d(3, 4, 3, EDE(), Shifted())).eval(), torch.randn(3, 3, 6, 6)
    expected = PosteriorPredictive(network, 1, backend="torch")(x).logits
    assert torch.equal(PosteriorPredictive(network, 1)(x).logits, expected)
    network.layer.input_estimator = STE()
    hook = nn.modules.module.register_module_forward_hook(lambda m, _, y: y + 1 if isinstance(m, STE) else None)
    try:
        ours, floats = (PosteriorPredictive(network, 1, backend=name)(x).logits for name in ("auto", "torch"))
    finally:
        hook.remove()
    assert torch.equal(ours, floats)
    assert not torch.equal(ours, PosteriorPredictive(network, 1, backend="torch")(x).logits)
    assert not products


@pytest.mark.parametrize("what", ["input", "network"])
def test_channels_last_stays_so(what):
    """PyTorch adds up means of channels in another order there."""
    torch.manual_seed(0)
    net, x = lived_in(build_network("resnet20", METHODS["proposed"], width=0.25)), torch.randn(3, 3, 32, 32)
    if what == "input":
        x = x.contiguous(memory_format=torch.channels_last)
    else:
        net = net.to(memory_format=torch.channels_last)
    ours, floats = (PosteriorPredictive(net, 2, 1, backend=name)(x).logits for name in ("auto", "torch"))
    assert torch.equal(ours, floats)


def test_threads_do_not_leave_it_on(products):
    """Whoever begins first ends first."""
    begun, ended = threading.Event(), threading.Event()
    layer, x = BinaryConv2d(3, 4, 3, EDE(), STE()), torch.randn(1, 3, 6, 6)

    def other():
        with bitwise.bitwise(True):
            begun.set()
            ended.wait(60)

    thread = threading.Thread(target=other)
    with bitwise.bitwise(True):
        thread.start()
        begun.wait(60)
    ended.set()
    thread.join()
    with torch.no_grad():
        assert torch.equal(layer(x), torch.nn.functional.conv2d(x.sign(), layer.binary_weight()))
    assert not products


def test_only_in_predictions(products):
    """A plain call, a gradient, autocast and other types of numbers have floats."""
    layer, x = BinaryConv2d(4, 4, 3, EDE(), STE()), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        layer(x)
    with bitwise.bitwise(True):
        layer(x).sum().backward()
        with torch.no_grad():
            layer.double()(x.double())
            layer.float()
            with torch.autocast("cpu", torch.bfloat16):
                layer(x)
            with bitwise.bitwise(False):
                layer(x)
            assert not products
            layer(x)
    assert len(products) == 1


def test_a_sign_that_is_watched_is_taken(products):
    net = nn.Sequential(BinaryConv2d(4, 4, 3, EDE(), STE()), nn.Flatten()).eval()
    seen = []
    net[0].input_estimator.register_forward_hook(lambda *call: seen.append(call))
    posterior = PosteriorPredictive(net, 1)
    posterior(torch.randn(1, 4, 5, 5))
    assert len(seen) >= 1
    assert not products
    assert posterior.multiplied == ("torch", "no layer multiplies signs by signs")


def test_who_asks_for_what_cannot_be_had():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="backend 'bits': no layer multiplies signs"):
        PosteriorPredictive(net, backend="bits")(torch.zeros(1, 4))
    double = nn.Sequential(BinaryLinear(4, 2, EDE(), STE())).double()
    with pytest.raises(ValueError, match=r"take float32 on a CPU, not torch\.float64"):
        PosteriorPredictive(double, backend="bits")(torch.zeros(1, 4, dtype=torch.float64))
