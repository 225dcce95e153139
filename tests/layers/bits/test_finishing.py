"""BatchNorm as one multiplication and one sum for each channel, rounded as PyTorch rounds it."""

import pytest
import torch
from torch import nn

from lit_scaledrop.layers.bits import (
    LEVELS,
    Stage,
    available,
    best_level,
    norm_is_fused,
    scaled,
    stage_of_norm,
)

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_rounded_once(level):
    """A product that a second rounding would lose: (1 + e)^2 - (1 + 2 e) is e^2."""
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")
    e = 2.0**-20
    x, by = torch.full((1, 1, 3, 11), 1 + e), Stage(torch.full((1, 1), 1 + e), torch.full((1, 1), -1 - 2 * e), True)
    assert scaled(x, by, level).unique().tolist() == [e * e]
    assert scaled(x, by._replace(fused=False), level).unique().tolist() == [0.0]


@pytest.mark.parametrize("affine", [True, False])
def test_the_stage_of_a_norm(affine):
    """All sums that a layer of 4,608 products can have, for channels of all sorts."""
    assert norm_is_fused() is not None
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(300, affine=affine).eval()
    norm.running_mean.normal_(0, 100)
    norm.running_var.uniform_(0, 5000)
    norm.running_var[:3] = torch.tensor([0.0, 1e-30, 1e30])
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.weight.data[:4] = torch.tensor([1.0, 0.0, -1e-30, 1e20])
    x = torch.arange(-4608, 4609).float().expand(1, 300, 1, -1).contiguous()
    with torch.no_grad():
        assert torch.equal(scaled(x, stage_of_norm(norm)), norm(x))
