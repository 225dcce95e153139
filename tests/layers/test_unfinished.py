"""Numbers that are put off are those that come at once, whoever asks for them and how."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_scaledrop.layers import unfinished
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.bits import Stage, available
from lit_scaledrop.layers.comparing import compared, pooled
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.unfinished import PuttingOff, Unfinished, can_be_put_off, putting_off, repeated
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")
SHAPE = 2, 6, 4, 4


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(unfinished, "_WORTH", 0)
    with torch.no_grad():
        yield


def norm(channels=6):
    made = nn.BatchNorm2d(channels).eval()
    made.running_mean.normal_()
    made.running_var.uniform_(1, 3)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made


def scale(channels=6, **options):
    made = ScaleDropout(channels, 0.5, **options).eval()
    nn.init.normal_(made.scale)
    return made


USES = {
    "clip": Clip(),
    "hardtanh": nn.Hardtanh(),
    "another range": nn.Hardtanh(-0.5, 2.0),
    "in place": nn.Hardtanh(inplace=True),
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "above": lambda x: x.clamp(min=0.1),
    "below": lambda x: x.clamp(max=0.1),
    "by tensors": lambda x: torch.clamp(x, torch.zeros(1), torch.ones(1)),
    "flatten": lambda x: x.flatten(1),
    "mean": lambda x: torch.mean(x, (2, 3)),
    "rows": lambda x: x[1:],
    "split": lambda x: torch.cat(x.split(1)),
    "convolution": nn.Conv2d(6, 2, 3),
    "pool": nn.MaxPool2d(2),
    "pad": lambda x: F.pad(x, (1, 1)),
    "twice": lambda x: torch.cat([x.clamp(-1, 1), x]),
    "with itself": lambda x: x + x,
    "a list": lambda x: torch.stack([x, x]),
    "numpy": lambda x: torch.from_numpy(x.numpy()),
    "array": lambda x: torch.from_numpy(np.asarray(x) + 1),
    "list": lambda x: torch.tensor(x.tolist()),
    "dlpack": lambda x: torch.from_dlpack(x) * 1,
    "memory": lambda x: torch.zeros(1) + bool(x.data_ptr()) * (x.untyped_storage().nbytes() >= 4 * x.numel()),
    "words": lambda x: torch.tensor(list(repr(x).encode())),
    "copied": lambda x: copy.deepcopy(x),
    "written and read": lambda x: pickle.loads(pickle.dumps(x)),
    "number": lambda x: x.sum().item() + torch.zeros(1),
    "shape": lambda x: torch.zeros(x.shape) + x.size(1) + len(x) + x.dim(),
    "in place sum": lambda x: x.add_(1).clamp(-1, 1),
    "written": lambda x: x.mul_(2) + x,
    "float": lambda x: x.float().double(),
    "deep copy": lambda x: x.clone().add_(1) + x,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("first", ["norm", "scale", "both", "three"])
@pytest.mark.parametrize("skip", ["none", "behind", "in front", "strided", "one row", "in place", "into another"])
def test_whoever_asks(use, first, skip):
    modules = {"norm": [norm()], "scale": [scale()], "both": [scale(bias=True), norm()]}
    modules["three"] = [*modules["both"], norm()]
    x, other = torch.randn(SHAPE), torch.randn(SHAPE)
    if skip == "strided":
        other = other.transpose(2, 3)
    if skip == "one row":
        other = other[:1]

    def run(layers):
        y, more = x.clone(), other.clone() if skip != "strided" else other
        for layer in layers:
            y = layer(y)
        if skip == "into another":
            more += y
            y = more
        elif skip == "in place":
            y += more
        elif skip != "none":
            y = more + y if skip == "in front" else y + more
        return USES[use](y)

    expected = run(modules[first])
    found = run([PuttingOff(module) for module in modules[first]])
    assert type(found.clone()) is torch.Tensor
    assert torch.equal(found, expected)


@pytest.mark.parametrize("use", USES)
def test_rows_that_are_repeated(use):
    """As they are, behind layers, as a skip, and as both; the rows themselves are not written to."""
    x, rows, layers = torch.randn(SHAPE), [1, 0, 1], [scale(), norm()]
    before = x.clone()
    token = putting_off.set(True)
    try:
        made = {
            "as they are": lambda y: y,
            "behind layers": lambda y: PuttingOff(layers[1])(PuttingOff(layers[0])(y)),
            "skip": lambda y: PuttingOff(layers[1])(x[rows].contiguous()) + y,
            "both": lambda y: y + PuttingOff(layers[1])(y),
            "twice": lambda y: y + y,
            "in place": lambda y: y.add_(1),
        }
        for way in made.values():
            y = repeated(x, 1, rows)
            assert isinstance(y, Unfinished)
            found = USES[use](way(y))
            assert type(found.clone()) is torch.Tensor
            assert torch.equal(found, USES[use](way(x[rows].contiguous())))
            assert torch.equal(x, before)
    finally:
        putting_off.reset(token)
    assert repeated(x, 1, rows) is None  # where no comparisons stand for modules


def test_it_is_put_off():
    """Until the clip, with the skip."""
    x, other = torch.randn(2, *SHAPE)
    y = PuttingOff(norm())(PuttingOff(scale())(x))
    assert isinstance(y, Unfinished)
    y = other + y
    assert isinstance(y, Unfinished)
    assert y.skip is other
    assert y.numbers is None
    assert not isinstance(Clip()(y), Unfinished)


@pytest.mark.parametrize("keep", [[1.0], [0.0], [1.0, 0.0]])
def test_rows_have_draws_of_their_own(keep):
    layer, x = scale(bias=True), torch.randn(SHAPE)
    nn.init.normal_(layer.bias)
    layer._planned = torch.tensor(keep).view(-1, 1, 1)
    y = PuttingOff(layer)(x)
    assert isinstance(y, Unfinished)
    assert torch.equal(y.clone(), layer(x))


def test_the_largest_of_what_rises():
    """A negative factor turns the order, and the largest number of a square is another one."""
    x = torch.randn(SHAPE)
    for factor in (torch.rand(1, 6), torch.randn(1, 6)):
        y = Unfinished(x, (Stage(factor, torch.randn(1, 6)),))
        largest = pooled(True, 2, y)
        assert y.rises() == isinstance(largest, Unfinished) == bool((factor >= 0).all())
        assert torch.equal(largest.clone(), nn.MaxPool2d(2)(y.clone()))
        assert not y.rises()  # any more: its numbers are there
        assert torch.equal(pooled(False, 2, y).clone(), nn.AvgPool2d(2)(y.clone()))


def test_which_modules():
    assert can_be_put_off(norm())
    assert can_be_put_off(scale())
    assert not can_be_put_off(norm().double())
    assert not can_be_put_off(scale().bfloat16())
    assert not can_be_put_off(norm().train())
    assert not can_be_put_off(scale().train())
    assert not can_be_put_off(nn.BatchNorm2d(3, track_running_stats=False).eval())
    assert not can_be_put_off(type("Own", (nn.BatchNorm2d,), {})(3).eval())


@pytest.mark.parametrize(
    "x", [torch.randn(2, 6, 4, 4, dtype=torch.float64), torch.randn(2, 4, 4, 6).permute(0, 3, 1, 2)]
)
def test_other_inputs_are_computed_at_once(x):
    """Of another type, or channels last, which layers behind add up in another order."""
    layer = norm().to(x.dtype)
    y = PuttingOff(layer)(x)
    assert type(y) is torch.Tensor
    assert torch.equal(y, layer(x))
    assert y.stride() == layer(x).stride()


@pytest.mark.parametrize("execution", ["loop", "folded", "shared"])
@pytest.mark.parametrize("method", ["proposed", "proposed_affine_open", "irnet", "recu", "bnn"])
@pytest.mark.parametrize("network", ["resnet20", "resnet18"])
def test_networks_with_skips(network, method, execution, monkeypatch):
    """Bit for bit; and the skip is computed with the rest."""
    net = build_network(network, METHODS[method], width=0.125).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 3)
            module.running_var.uniform_(5, 50)
    x = torch.randn(3, 3, 32, 32)
    finished, true = [], Unfinished.finish
    monkeypatch.setattr(Unfinished, "finish", lambda self, *ends: finished.append(self.skip) or true(self, *ends))
    expected = PosteriorPredictive(net, 4, execution=execution, backend="torch")(x).logits
    assert not finished
    assert torch.equal(PosteriorPredictive(net, 4, execution=execution, backend="bits")(x).logits, expected)
    assert any(skip is not None for skip in finished)
    assert not any("forward" in vars(module) for module in net.modules())


def test_afterwards_the_modules_are_what_they_were():
    net = nn.Sequential(norm(), nn.MaxPool2d(2), Clip())
    with compared(net, []):
        assert [("forward" in vars(module)) for module in net] == [True, True, False]
    with pytest.raises(TypeError, match="None"), compared(net, []):
        net(None)
    assert not any("forward" in vars(module) for module in net.modules())


def test_where_a_gradient_is_asked_for_nothing_is_put_off():
    """By a network, say, that looks at gradients while it predicts."""
    layer, x = PuttingOff(norm()), torch.randn(SHAPE)
    with torch.enable_grad():
        x.requires_grad_()
        (grad,) = torch.autograd.grad(layer(x).sum(), x)
    assert torch.equal(grad, torch.autograd.functional.vjp(layer.module, x, torch.ones(SHAPE))[1])
    each = torch.func.vmap(layer, randomness="same")(x.detach()[:, None])
    torch.testing.assert_close(each[:, 0], layer.module(x.detach()))  # which vmap computes by another formula
