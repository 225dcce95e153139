"""Sign estimators and binary layers against closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from lit_scaledrop.layers.binary import (
    EDE,
    STE,
    BinaryConv2d,
    BinaryLinear,
    binary_sign,
    normalize_weight,
    power_of_two_scale,
)


def test_sign_has_two_values_even_at_zero():
    x = torch.tensor([-2.0, -0.0, 0.0, 1e-30, 3.0])
    assert binary_sign(x).tolist() == [-1, 1, 1, 1, 1]


def test_ste_gradient_is_the_clipped_identity():
    x = torch.tensor([-1.5, -1.0, -0.2, 0.0, 1.0, 1.01], requires_grad=True)
    upstream = torch.arange(1.0, 7.0)
    STE()(x).backward(upstream)
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("t_min", [1e-3, 1e-1])
def test_ede_gradient_and_schedule(progress, t_min):
    estimator = EDE(t_min, 10.0)
    estimator.set_progress(progress)
    t = 10 ** (math.log10(t_min) + (1 - math.log10(t_min)) * progress)
    k = max(1 / t, 1.0)
    x = torch.linspace(-2, 2, 41, requires_grad=True)
    out = estimator(x)
    assert torch.equal(out, binary_sign(x))
    out.backward(torch.full_like(x, 3.0))
    # the derivative of k * tanh(t x), by autograd: an independent route to the same function
    y = x.detach().double().requires_grad_()
    (3 * k * torch.tanh(t * y)).sum().backward()
    torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=1e-4)


def test_ede_refuses_a_range_that_does_not_grow():
    with pytest.raises(ValueError, match="t_min"):
        EDE(1.0, 0.1)


@given(st.integers(0, 10_000))
def test_normalized_weight_has_mean_zero_and_power_one_per_channel(seed):
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed)) * 5 + 2
    normalized = normalize_weight(weight)
    torch.testing.assert_close(normalized.mean((1, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.square().mean((1, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)


def test_normalization_of_a_constant_channel_is_finite():
    weight = torch.ones(2, 3, 1, 1, requires_grad=True)
    normalize_weight(weight).sum().backward()
    assert torch.isfinite(weight.grad).all()


def test_power_of_two_scale():
    weight = torch.tensor([[0.3, -0.3], [3.1, -3.1], [1.0, 1.0]])
    assert power_of_two_scale(weight).flatten().tolist() == [0.25, 4.0, 1.0]


def test_convolution_equals_one_of_signs():
    torch.manual_seed(0)
    layer = BinaryConv2d(3, 5, 3, STE(), STE(), stride=2, padding=1)
    x = torch.randn(2, 3, 7, 7)
    weight = layer.weight - layer.weight.mean((1, 2, 3), keepdim=True)
    expected = F.conv2d(torch.where(x >= 0, 1.0, -1.0), torch.where(weight >= 0, 1.0, -1.0), stride=2, padding=1)
    assert torch.equal(layer(x), expected)
    assert layer.binary_weight().unique().tolist() == [-1, 1]


def test_gradient_passes_through_the_normalization():
    torch.manual_seed(0)
    layer = BinaryLinear(6, 2, STE(), STE())
    layer(torch.randn(4, 6)).square().sum().backward()
    # normalized weights do not change when a channel is shifted or scaled: the gradient is orthogonal to both
    torch.testing.assert_close(layer.weight.grad.sum(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close((layer.weight.grad * layer.weight).sum(1), torch.zeros(2), atol=1e-4, rtol=0)


def test_power_of_two_weights_scale_the_output():
    torch.manual_seed(0)
    plain, scaled = BinaryLinear(8, 3, STE(), STE()), BinaryLinear(8, 3, STE(), STE(), weight_scale="power_of_two")
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(4, 8)
    factor = power_of_two_scale(normalize_weight(plain.weight)).flatten()
    torch.testing.assert_close(scaled(x), plain(x) * factor)
