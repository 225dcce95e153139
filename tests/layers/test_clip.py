"""The clip in front of a sign and the window of a straight-through gradient, against PyTorch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.binary import STE, window
from lit_scaledrop.layers.quantizers import DoReFaInput

#: borders, their neighbours, and what rounds to a border when it is added to one
EDGES = [-2.0, -1.0000001, -1.0, -0.9999999, -1e-30, -0.0, 0.0, 1e-30, 0.5, 0.9999999, 1.0, 1.0000001, 1e30]


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 2.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_clip_has_values_and_gradients_of_hardtanh(bounds, dtype):
    x = torch.tensor([*EDGES, *torch.linspace(-4, 4, 401).tolist()], dtype=dtype)
    results = []
    for module in (Clip(*bounds), nn.Hardtanh(*bounds)):
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        y.backward(torch.arange(1.0, len(x) + 1).to(dtype))
        results.append((y.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@given(st.floats(-4, 4, width=32), st.sampled_from([(-1.0, 1.0), (0.0, 1.0)]))
def test_window_is_the_comparison(value, bounds):
    x = torch.tensor([value, *EDGES])
    assert torch.equal(window(x, *bounds), ((x >= bounds[0]) & (x <= bounds[1])).float())


@pytest.mark.parametrize(("module", "low"), [(STE(), -1.0), (DoReFaInput(), 0.0)])
def test_straight_through_gradients_pass_between_the_borders(module, low):
    x = torch.tensor(EDGES, requires_grad=True)
    module(x).sum().backward()
    assert torch.equal(x.grad, ((x >= low) & (x <= 1)).float())
