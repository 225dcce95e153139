"""PACT against its closed form, and its gradients against those of the clip that it stands for."""

import numpy as np
import pytest
import torch
from torch import nn

from lit_scaledrop.layers import PACT, BinaryConv2d, pact
from lit_scaledrop.layers.activations import SMALLEST_CLIP
from lit_scaledrop.methods.method import Method
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.modules.objective import clip_regularization, method_terms

CLIP = 2.7
#: borders and their neighbours among ordinary values
VALUES = [-5.0, -1e-30, -0.0, 0.0, 1e-30, CLIP - 1e-6, CLIP, CLIP + 1e-6, 50.0, *np.linspace(-2, 5, 300)]


def quantized(x, clip, bits):
    """The formula, in NumPy."""
    top = 2**bits - 1
    return np.round(np.clip(x, 0, clip) * top / clip) * clip / top


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_closed_form(bits, dtype):
    x = torch.tensor(VALUES, dtype=dtype, requires_grad=True)
    clip = torch.tensor(CLIP, requires_grad=True)
    y = pact(x, clip, bits)
    grad = torch.linspace(1, 2, len(x)).to(dtype)
    y.backward(grad)
    assert y.dtype == x.grad.dtype == dtype
    flat, alpha, g = x.detach().double().numpy(), clip.double().item(), grad.double().numpy()
    # a value next to the middle of two levels may round to either
    code = np.clip(flat, 0, alpha) * (2**bits - 1) / alpha
    decided = np.abs(code % 1 - 0.5) > (0.01 * code if dtype == torch.bfloat16 else 1e-5)
    assert decided.mean() > 0.3
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-6
    np.testing.assert_allclose(y.detach().double().numpy()[decided], quantized(flat, alpha, bits)[decided], tolerance)
    np.testing.assert_array_equal(x.grad.double().numpy(), g * ((flat >= 0) & (flat < alpha)))
    assert clip.grad.item() == pytest.approx((g * (flat >= alpha)).sum(), rel=1e-3)


def test_gradients_are_those_of_the_clip():
    """With 16 bits the rounding is finer than the differences that are taken."""
    torch.manual_seed(0)
    x = torch.randn(200, dtype=torch.float64) * 3
    x = x[((x - CLIP).abs() > 0.1) & (x.abs() > 0.1)].requires_grad_()
    clip = torch.tensor(CLIP, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(len(x), dtype=torch.float64)
    (pact(x, clip, 16) * weight).sum().backward()
    h = 0.05
    with torch.no_grad():
        to_clip = (weight * (pact(x, clip + h, 16) - pact(x, clip - h, 16))).sum() / (2 * h)
        to_x = weight * (pact(x + h, clip, 16) - pact(x - h, clip, 16)) / (2 * h)
    torch.testing.assert_close(clip.grad, to_clip, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(x.grad, to_x, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_most_two_to_the_bits_levels_for_any_clip(dtype):
    x = torch.linspace(-1, 12, 20_000).to(dtype)
    for clip in (0.013, 0.37, 1.0, 3.0, 7.77):
        levels = PACT(4, clip)(x).unique()
        assert len(levels) <= 16
        assert levels[0] == 0
        assert levels[-1].item() == pytest.approx(clip, rel=1e-2)
    assert len(PACT(4)(x.float()).unique()) == 16


def test_a_clip_below_zero_stays_finite_and_comes_back():
    layer = PACT(4)
    layer.clip.data.fill_(-1.0)
    x = torch.tensor([0.5, 1.0], requires_grad=True)
    y = layer(x)
    assert y.tolist() == pytest.approx([SMALLEST_CLIP] * 2)
    (-y.sum()).backward()
    assert layer.clip.grad.item() == -2  # a step of descent raises it


def test_under_autocast():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), PACT(4, clip=1.0))
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(4, 2, 8, 8))
    assert y.dtype == torch.bfloat16
    assert len(y.unique()) <= 16
    y.float().square().sum().backward()
    assert net[2].clip.grad.dtype == torch.float32
    assert net[2].clip.grad.item() > 0


def test_bad_arguments():
    with pytest.raises(ValueError, match="1 to 16 bits, got bits=0"):
        PACT(0)
    with pytest.raises(ValueError, match="above 0"):
        PACT(4, clip=0.0)


def test_the_objective_has_a_term_on_the_clips():
    net = nn.Sequential(PACT(4, 2.0), nn.ReLU(), PACT(4, 3.0))
    assert clip_regularization(net).item() == 13
    assert clip_regularization(nn.ReLU()).item() == 0
    weight, term = method_terms(net, SEGMENTATION_METHODS["proposed"])["clip"]
    assert weight == 5e-5
    term.backward()
    assert [net[0].clip.grad.item(), net[2].clip.grad.item()] == [4, 6]
    assert method_terms(net, SEGMENTATION_METHODS["fp"]) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits_a": 4, "activation": "pact", "estimator": "ede"}, r"sign\(pact\(x\)\) is constant"),
        ({"bits_a": 4, "activation": "relu"}, "2 to 16 bits"),
        ({"bits_a": 32, "activation": "pact"}, "2 to 16 bits"),
        ({"clip_decay": 1e-4}, "clip_decay"),
        ({"block_dropout": 1.5}, r"block_dropout.*\[0, 1\]"),
    ],
)
def test_methods_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        Method("x", "y", **options)


def test_binary_layers_take_the_codes_as_they_are():
    torch.manual_seed(0)
    method = SEGMENTATION_METHODS["proposed"]
    conv = method.conv_layer(3, 5, 1)
    assert isinstance(conv, BinaryConv2d)
    assert isinstance(method.activation_layer(), PACT)
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    y = conv(x)
    w = conv.weight.detach().double().numpy()[:, :, 0, 0]
    signs = np.where(w >= w.mean(1, keepdims=True), 1.0, -1.0)
    expected = np.einsum("oc,nchw->nohw", signs, x.detach().double().numpy())
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(signs.sum(0)[:, None, None], x.shape), rtol=1e-5)
