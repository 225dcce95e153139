"""Every method's hidden layer against its paper's closed form, forward and gradient, in NumPy."""

import math
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lit_scaledrop import LitClassifier
from lit_scaledrop.layers import EDE, DistributionLoss, MCDropout, SpinBayesConv2d, sampling
from lit_scaledrop.layers import stochastic_layers as random_layers
from lit_scaledrop.layers.quantizers import DSQ
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.method import Method
from lit_scaledrop.modules.objective import method_terms
from lit_scaledrop.networks import NETWORKS, build_network
from lit_scaledrop.posterior import draw_plan

T = 0.7  # EDE's t in the middle of a training
BATCH, C_IN, C_OUT, SIDE = 3, 6, 4, 2


@dataclass
class Layer:
    """Closed form of a layer ``y = inputs(x) @ weights(W)``: values, and gradients from those of the values."""

    weights: object = lambda w: w
    weight_grad: object = lambda g, w: g
    inputs: object = lambda x: x
    slope: object = lambda x: np.ones_like(x)


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def inside(x):
    return (np.abs(x) <= 1).astype(float)


def ede(x, t=T):
    return max(1 / t, 1) * t * (1 - np.tanh(t * x) ** 2)


def normalized(w):
    centred = w - w.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True))


def through_normalization(g, w):
    """Backward of :func:`normalized`, which projects and rescales."""
    unit = normalized(w)
    deviation = w.std(1, keepdims=True)
    return (g - g.mean(1, keepdims=True) - unit * (g * unit).mean(1, keepdims=True)) / deviation


def irnet_scale(w):
    return 2.0 ** np.round(np.log2(np.abs(normalized(w)).mean(1, keepdims=True)))


def xnor_grad(g, w):
    alpha = np.abs(w).mean(1, keepdims=True)
    return g * (1 / w.shape[1] + alpha * inside(w))


def laplace_quantile(w, tau=0.85):
    return -np.abs(normalized(w)).mean() * math.log(2 - 2 * tau)


def dsq_slope(x, c, a=0.2):
    k = math.log(2 / a - 1) / (2 * c)
    return np.where(np.abs(x) < c, c * k * (1 - np.tanh(k * x) ** 2) / (1 - a), 0)


def per_example_deviation(x):
    """Of the images that the rows of ``x`` are pixels of; the unbiased one."""
    images = x.reshape(BATCH, -1)
    return np.sqrt(images.var(1, ddof=1) + 1e-5).repeat(len(x) // BATCH)[:, None]


FULL = Layer()
BNN = Layer(sign, lambda g, w: g, sign, inside)
EDE_LAYER = Layer(
    lambda w: sign(normalized(w)), lambda g, w: through_normalization(g * ede(normalized(w)), w), sign, ede
)
POLYNOMIAL = replace(EDE_LAYER, slope=lambda x: np.clip(2 - 2 * np.abs(x), 0, None))
IRNET = Layer(
    lambda w: sign(normalized(w)) * irnet_scale(w),
    lambda g, w: through_normalization(g * irnet_scale(w) * ede(normalized(w)), w),
    sign,
    ede,
)
RECU = Layer(
    lambda w: sign(normalized(w)),
    lambda g, w: through_normalization(math.sqrt(8) * g * (np.abs(normalized(w)) <= laplace_quantile(w)), w),
    sign,
    lambda _: None,  # goes through a division as well: see the end of test_closed_form
)
CLOSED_FORMS = {
    "fp": FULL,
    "mc_dropout_htanh": FULL,
    "mc_dropout_relu": FULL,
    "mc_dropconnect": FULL,
    "deep_ensemble": FULL,
    "bnn": BNN,
    "rad": BNN,
    "xnor": Layer(lambda w: np.abs(w).mean(1, keepdims=True) * sign(w), xnor_grad, sign, inside),
    "dorefa": Layer(
        lambda w: np.abs(w).mean() * sign(w), lambda g, w: g,
        lambda x: (x > 0.5).astype(float), lambda x: ((x >= 0) & (x <= 1)).astype(float),
    ),
    # in front of the first step all curvatures are alike; afterwards see test_lab below
    "lab": Layer(lambda w: np.abs(w).mean() * sign(w), lambda g, w: g, sign, inside),
    "dsq": Layer(
        lambda w: 0.9 * sign(w), lambda g, w: g * dsq_slope(w, 0.9),
        sign, lambda x: dsq_slope(x, 1.0),
    ),
    "irnet": IRNET,
    "deep_ensemble_irnet": IRNET,
    "mc_dropout_irnet": IRNET,
    "tiny_deep_ensemble": IRNET,
    "spindrop": IRNET,
    "spatial_spindrop": IRNET,
    "spinbayes": EDE_LAYER,
    "proposed": EDE_LAYER,
    "proposed_affine": EDE_LAYER,
    "proposed_open": POLYNOMIAL,
    "proposed_affine_open": POLYNOMIAL,
    "recu": RECU,
    "proposed_recu": RECU,
}  # fmt: skip


def rows(x):
    """Pixels as rows, channels as columns."""
    return np.moveaxis(x, 1, 3).reshape(-1, x.shape[1])


def build(method):
    """A 1x1 convolution of the method with its scale, in training mode, and draws for the batch."""
    torch.manual_seed(0)
    conv = METHODS[method].conv_layer(C_IN, C_OUT, 1)
    conv.weight.data.uniform_(-1.2, 1.2)
    if METHODS[method].binary:
        METHODS[method].set_estimators(conv)
    if isinstance(conv.weight_estimator if METHODS[method].binary else None, DSQ):
        assert conv.weight_estimator.log_bound.exp().item() == pytest.approx(conv.weight.abs().max().item())
        conv.weight_estimator.log_bound.data.fill_(math.log(0.9))  # so that some weights are clipped
    scale = METHODS[method].scale_layer(conv)
    net = nn.Sequential(conv, *([] if scale is None else [scale])).train()
    if METHODS[method].norm_sets == 1:  # a layer alone has no norm: tests/layers/test_ensemble_norm.py
        METHODS[method].finish(net, (C_IN, SIDE, SIDE))
    for module in net.modules():
        if isinstance(module, EDE):
            module.t.fill_(T)
            module.k.fill_(max(1 / T, 1))
    draws = {}
    for name, layer in random_layers(net).items():
        if hasattr(layer, "p"):
            layer.p.fill_(0.5)
        count = 1 if layer.mask_per == "batch" else BATCH
        draws[name] = layer.draw(count, torch.Generator().manual_seed(1))
    if scale is not None:
        scale.scale.data.copy_(torch.tensor([0.5, 2.0, 3.0, 4.0]))
        if scale.bias is not None:
            scale.bias.data.copy_(torch.tensor([-1.0, 0.5, 2.0, -3.0]))
    return net, draws


@pytest.mark.parametrize("method", METHODS)
def test_closed_form(method):
    net, draws = build(method)
    form = CLOSED_FORMS[method]
    x = torch.randn(BATCH, C_IN, SIDE, SIDE, generator=torch.Generator().manual_seed(2), requires_grad=True)
    grad = torch.randn(BATCH, C_OUT, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    with ExitStack() as stack:
        if draws:
            stack.enter_context(sampling(net, draws))
        y = net(x)
        (y * grad).sum().backward()

    w = net[0].weight.detach().double().numpy().reshape(C_OUT, C_IN)
    flat, g = rows(x.detach().double().numpy()), rows(grad.double().numpy())
    keep_weight = keep_input = np.ones(())
    if method == "mc_dropconnect":
        keep_weight = next(iter(draws.values()))[0].double().numpy().reshape(C_OUT, C_IN) / 0.5
    if "spindrop" in method:
        mask = next(iter(draws.values())).double().numpy()
        assert mask.shape == (BATCH, C_IN, *((SIDE, SIDE) if method == "spindrop" else (1, 1)))
        keep_input = rows(np.broadcast_to(mask, x.shape)) / 0.5
    shift = 0.0
    if method == "spinbayes":
        index = sum(int(bit) << place for place, bit in enumerate(next(iter(draws.values()))[0]))
        shift = 0.5 * net[0].noise[index].double().numpy().reshape(C_OUT, C_IN)
        form = Layer(
            lambda w: sign(normalized(w) + shift),
            lambda g, w: through_normalization(g * ede(normalized(w) + shift), w), sign, ede,
        )  # fmt: skip
    alpha, beta = np.ones((BATCH, C_OUT)), np.zeros((BATCH, C_OUT))
    if METHODS[method].scale is not None:
        kept = next(iter(draws.values()))[:, 0, 0].numpy()
        assert 0 < kept.mean() < 1
        alpha = np.where(kept[:, None] > 0, np.array([0.5, 2.0, 3.0, 4.0]), 1.0)
        if METHODS[method].scale.bias:
            beta = kept[:, None] * np.array([-1.0, 0.5, 2.0, -3.0])
            np.testing.assert_allclose(
                net[1].bias.grad.numpy(), (kept[:, None] * grad.sum((2, 3)).numpy()).sum(0), rtol=1e-5
            )
    alpha, beta = alpha.repeat(SIDE * SIDE, 0), beta.repeat(SIDE * SIDE, 0)

    values, weights = form.inputs(flat) * keep_input, form.weights(w) * keep_weight
    np.testing.assert_allclose(rows(y.detach().numpy()), values @ weights.T * alpha + beta, rtol=1e-5, atol=1e-5)
    weight_grad = form.weight_grad(((g * alpha).T @ values) * keep_weight, w)
    np.testing.assert_allclose(net[0].weight.grad.reshape(C_OUT, C_IN).numpy(), weight_grad, rtol=2e-4, atol=2e-4)
    slope = form.slope(flat)
    input_grad = ((g * alpha) @ weights) * keep_input
    if slope is None:  # ReCU: Bi-Real's polynomial at x / deviation, then through the division
        deviation = per_example_deviation(flat)
        ratio = flat / deviation
        inner = input_grad * np.clip(2 - 2 * np.abs(ratio), 0, None)
        images, parts = ratio.reshape(BATCH, -1), inner.reshape(BATCH, -1)
        count = images.shape[1]
        mean = flat.reshape(BATCH, -1).mean(1, keepdims=True)
        spread = (flat.reshape(BATCH, -1) - mean) / deviation.reshape(BATCH, -1)[:, :1] / (count - 1)
        input_grad = (parts - (parts * images).sum(1, keepdims=True) * spread) / deviation.reshape(BATCH, -1)[:, :1]
        input_grad = input_grad.reshape(flat.shape)
    else:
        input_grad = input_grad * slope
    np.testing.assert_allclose(rows(x.grad.numpy()), input_grad, rtol=2e-4, atol=2e-4)


def test_every_method_has_a_closed_form():
    assert CLOSED_FORMS.keys() == METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_linear_layers_do_the_same_as_convolutions(method):
    torch.manual_seed(0)
    conv, linear = METHODS[method].conv_layer(C_IN, C_OUT, 1), METHODS[method].linear_layer(C_IN, C_OUT)
    linear.weight.data.copy_(conv.weight.data.flatten(1))
    if METHODS[method].binary:
        METHODS[method].set_estimators(linear)
    x = torch.randn(5, C_IN)
    conv, linear = conv.eval(), linear.eval()
    torch.testing.assert_close(linear(x), conv(x[..., None, None]).flatten(1))


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.feature_dropout])
def test_feature_dropout(method):
    layer = METHODS[method].feature_layer(5)
    assert isinstance(layer, MCDropout)
    x = torch.randn(2, 5, requires_grad=True)
    net = nn.Sequential(layer)
    keep = torch.tensor([[1.0, 0, 1, 0, 1]])
    with sampling(net, {"0": keep}):
        y = net(x)
        y.sum().backward()
    torch.testing.assert_close(y.detach(), x.detach() * keep * 2)
    torch.testing.assert_close(x.grad, keep.expand(2, 5) * 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_random_bits_are_what_the_masks_draw(network, method):
    """In a plan that is drawn before any forward pass, and as the paper counts them."""
    net = build_network(network, METHODS[method], width=0.125)
    drawn = {name: draws[0].numel() for name, draws in draw_plan(net, 1).draws.items()}
    layers = random_layers(net)
    assert bool(drawn) == METHODS[method].stochastic
    drawn = {name: count for name, count in drawn.items() if not layers[name].turns}  # a member is no random bit
    assert drawn == {name: layer.random_bits for name, layer in layers.items() if layer.random_bits}
    assert bool(drawn) == METHODS[method].draws
    convs = [m for m in net.modules() if type(m).__name__ in ("BinaryConv2d", "SpinBayesConv2d", "DropConnectConv2d")]
    linears = [m for m in net.modules() if type(m).__name__ in ("BinaryLinear", "SpinBayesLinear", "DropConnectLinear")]
    expected = {
        "proposed": len(convs + linears),
        "proposed_recu": len(convs + linears),
        "proposed_open": len(convs + linears),
        "proposed_affine": len(convs + linears),
        "proposed_affine_open": len(convs + linears),
        "spinbayes": 2 * len(convs + linears),
        "spatial_spindrop": sum(m.in_channels for m in convs) + sum(m.in_features for m in linears),
        "mc_dropconnect": sum(m.weight.numel() for m in convs + linears),
        "mc_dropout_htanh": net.classifier.in_features,
        "mc_dropout_relu": net.classifier.in_features,
        "mc_dropout_irnet": net.classifier.in_features,
    }
    if method == "spindrop":
        shapes = {}
        for conv in convs:
            conv.register_forward_pre_hook(lambda layer, x: shapes.update({layer: x[0][0].numel()}))
        net.eval()(torch.zeros(1, 3, 32, 32))
        expected[method] = sum(shapes.values()) + sum(m.in_features for m in linears)
    assert sum(drawn.values()) == expected.get(method, 0)


def test_methods_are_what_they_say():
    labels = [method.label for method in METHODS.values()]
    assert len(set(labels)) == len(labels)
    for method in METHODS.values():
        assert (method.bits_w, method.bits_a) == ((1, 1) if method.binary else (32, 32))
        assert method.reference
        if method.member:
            member = METHODS[method.member]
            own = {"label": method.label, "reference": method.reference, "members": method.members}
            assert replace(member, **own, member=method.member) == method


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_dropout": 0.5, "estimator": "ede"}, "full-precision"),
        ({"input_dropout": 0.5}, "binary layers"),
        ({"arrays": 4}, "binary layers"),
        ({"members": 5}, "ensemble needs both"),
        ({"member": "fp"}, "ensemble needs both"),
        ({"weight_dropout": 1.5}, r"\[0, 1\]"),
    ],
)
def test_methods_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        Method("x", "y", **options)


def test_terms_of_rad_are_taken_once_and_logged_on_their_own():
    torch.manual_seed(0)
    net = build_network("lenet5", METHODS["rad"], width=0.5).train()
    net(torch.randn(8, 3, 32, 32))
    layers = [m for m in net.modules() if isinstance(m, DistributionLoss)]
    losses = [layer.loss for layer in layers]
    assert len(losses) == 4
    terms = method_terms(net, METHODS["rad"])
    assert terms.keys() == {"distribution"}
    weight, term = terms["distribution"]
    assert weight == 2.0
    torch.testing.assert_close(term, torch.stack(losses).mean())
    assert all(layer.loss is None for layer in layers)
    assert method_terms(net, METHODS["bnn"]) == {}
    # evaluation leaves nothing behind
    net.eval()(torch.randn(2, 3, 32, 32))
    assert all(layer.loss is None for layer in layers)


def test_terms_of_spinbayes():
    torch.manual_seed(0)
    net = build_network("lenet5", METHODS["spinbayes"], width=0.5)
    weight, term = method_terms(net, METHODS["spinbayes"])["divergence"]
    assert weight == 1e-2
    # normalized proxies have mean square 1, so only sigma = 0.5 counts
    assert term.item() == pytest.approx((0.25 - math.log(0.25)) / 2, rel=1e-4)
    term.backward()
    sigma = next(m for m in net.modules() if isinstance(m, SpinBayesConv2d)).log_sigma
    assert sigma.grad.abs().min() > 0


@pytest.mark.parametrize(("method", "name"), [("rad", "loss/distribution"), ("spinbayes", "loss/divergence")])
def test_a_training_step_adds_and_logs_the_term(method, name, monkeypatch):
    torch.manual_seed(0)
    model = LitClassifier(network="lenet5", method=method, width=0.5).train()
    logged = {}
    monkeypatch.setattr(model, "log_dict", lambda terms, **_: logged.update(terms))
    model._trainer = SimpleNamespace(is_last_batch=True, world_size=1)
    batch = torch.randn(8, 3, 32, 32), torch.arange(8)
    loss = model.training_step(batch, 0)
    model.on_train_batch_end(loss, batch, 0)
    weight = {"rad": 2.0, "spinbayes": 1e-2}[method]
    expected = logged["loss/task"] + 0.01 * logged["loss/scale"] + 5e-5 * logged["loss/weight"] + weight * logged[name]
    torch.testing.assert_close(logged["loss/total"], expected)
    torch.testing.assert_close(loss.detach(), expected - 5e-5 * logged["loss/weight"])
    assert logged[name] > 0


def test_shortcut_is_an_argument_of_the_classifier():
    by_default, conv = LitClassifier("resnet18", width=0.125), LitClassifier("resnet18", width=0.125, shortcut="conv")
    names = {name for name, _ in conv.named_parameters()} - {name for name, _ in by_default.named_parameters()}
    assert {name.split(".shortcut.")[0] for name in names} == {f"network.blocks.{block}" for block in (2, 4, 6)}
    pool = LitClassifier("resnet18", width=0.125, shortcut="pool")
    assert pool.state_dict().keys() == by_default.state_dict().keys()
    with pytest.raises(
        ValueError, match=r"'vgg_small' has no option shortcut.*these networks have it: resnet18, resnet20"
    ):
        LitClassifier("vgg_small", width=0.125, shortcut="pool")


def test_a_network_is_one_compiled_graph_with_the_gradients_of_the_eager_one():
    """The layers of every method; `test_networks` has every network. In a process without type checks.

    torch 2.11 compiles some custom gradients to zero, see `binary.signs_of`.
    """
    program = """
import copy, torch
from torch import nn
from lit_scaledrop.methods import METHODS
for name, method in METHODS.items():
    if method.members > 1:
        continue
    torch.manual_seed(0)
    torch._dynamo.reset()
    hidden = (method.conv_block(2, 4, 3, t_min=0.1), method.activation_layer(), nn.Flatten())
    head = (method.linear_block(16, 8, t_min=0.1), method.activation_layer(), method.feature_layer(8))
    eager = method.finish(nn.Sequential(*hidden, *head), (2, 4, 4)).train()
    compiled = copy.deepcopy(eager)
    compiled.compile(dynamic=False, backend="eager", fullgraph=True)
    x, target = torch.randn(8, 2, 4, 4), torch.arange(8)
    for network in (eager, compiled):
        torch.manual_seed(1)
        nn.functional.cross_entropy(network(x), target).backward()
    grads = [[p.grad for p in network.parameters() if p.grad is not None] for network in (eager, compiled)]
    assert len(grads[0]) == len(grads[1]) > 5, name
    for ours, theirs in zip(*grads):
        torch.testing.assert_close(theirs, ours, msg=lambda text: f"{name}: {text}")
    if name in ("proposed", "mc_dropout_htanh", "spindrop", "spatial_spindrop"):
        torch.testing.assert_close(compiled.eval()(x), eager.eval()(x), msg=lambda text: f"{name}: {text}")
print("checked")
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert "checked" in subprocess.run(command, check=True, timeout=900, capture_output=True, text=True).stdout
