"""Scale, BatchNorm, skip and clip in one go give the numbers that PyTorch's own operations give, to the last bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lit_scaledrop.layers.bits import (
    LEVELS,
    Stage,
    add_squares,
    available,
    best_level,
    finish,
    norm_is_fused,
    stage_of_norm,
)

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")
NUMBERS = st.sampled_from([0.0, 1.0, 30.0, 1e-30, 1e30])


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 5), st.integers(1, 20)),
    a_row=st.tuples(st.booleans(), st.booleans()),
    shifts=st.tuples(st.booleans(), st.booleans()),
    count=st.integers(0, 2),
    skip=st.booleans(),
    clip=st.sampled_from([(-torch.inf, torch.inf), (-1.0, 1.0), (0.0, 6.0), (-torch.inf, 0.5)]),
    size=NUMBERS,
    seed=st.integers(0, 99),
)
def test_each_operation_is_rounded_as_by_itself(level, shape, a_row, shifts, count, skip, clip, size, seed):
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")
    torch.manual_seed(seed)
    rows, channels = shape[:2]
    x, other = size * torch.randn(shape), size * torch.randn(shape) if skip else None
    stages, expected = [], x
    for each, shifted in list(zip(a_row, shifts, strict=True))[:count]:
        factor = torch.randn(rows if each else 1, channels)
        shift = torch.randn(rows if each and seed % 2 else 1, channels) if shifted else None
        stages.append(Stage(factor, shift))
        expected = expected * factor[:, :, None, None]
        if shift is not None:
            expected = expected + shift[:, :, None, None]
    expected = expected if other is None else expected + other
    assert torch.equal(finish(x, stages, other, *clip, level), expected.clamp(*clip))


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_rounded_once(level):
    """A product that a second rounding would lose: (1 + e)^2 - (1 + 2 e) is e^2."""
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")
    e = 2.0**-20
    x, by = torch.full((1, 1, 3, 11), 1 + e), Stage(torch.full((1, 1), 1 + e), torch.full((1, 1), -1 - 2 * e), True)
    assert finish(x, [by], level=level).unique().tolist() == [e * e]
    assert finish(x, [by._replace(fused=False)], level=level).unique().tolist() == [0.0]
    assert finish(x, [Stage(torch.ones(1, 1)), by], level=level).unique().tolist() == [e * e]


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_what_is_no_number_stays_so(level):
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.5] * 5).view(1, 1, 4, 5)
    expected = (x * 2).clamp(-1, 1)
    assert torch.equal(
        finish(x, [Stage(torch.full((1, 1), 2.0))], None, -1.0, 1.0, level).nan_to_num(9), expected.nan_to_num(9)
    )


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
        assert torch.equal(finish(x, [stage_of_norm(norm)]), norm(x))


def test_threads_share_the_work():
    before = torch.get_num_threads()
    x, skip = torch.randn(2, 3, 64, 40, 40)
    by = [Stage(torch.randn(3, 64), torch.randn(1, 64))]
    alone = finish(x, by, skip, -1.0, 1.0)
    try:
        torch.set_num_threads(3)
        assert torch.equal(finish(x, by, skip, -1.0, 1.0), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("stages", "match"),
    [
        ([Stage(torch.ones(1, 2))], r"2 rows of 3 channels .* not \(1, 2\)"),
        ([Stage(torch.ones(1, 3), torch.ones(3, 3))], r"not \(3, 3\)"),
        ([Stage(torch.ones(1, 3))] * 3, "computes 2 stages, not 3"),
    ],
)
def test_no_memory_of_others_is_read(stages, match):
    with pytest.raises(ValueError, match=match):
        finish(torch.ones(2, 3, 4, 4), stages)


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_squares(level, size):
    """Added in the order of the rows, as AvgPool2d does; what is left over is left out."""
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")
    torch.manual_seed(0)
    for shape in ((3, 5, 8, 40), (1, 2, 7, 9), (2, 1, 3, 3), (0, 2, 4, 4)):
        x = torch.randn(shape)
        assert torch.equal(add_squares(x, size, level) / size**2, nn.AvgPool2d(size)(x))


@pytest.mark.parametrize("skipped", [False, True])
def test_rows_that_are_made_of_others(skipped):
    torch.manual_seed(0)
    x, skip, rows = torch.randn(3, 4, 5, 6), torch.randn(2, 4, 5, 6), torch.tensor([2, 0, 0, 1, 2], dtype=torch.int32)
    stage, others = Stage(torch.randn(5, 4), torch.randn(1, 4)), torch.tensor([1, 1, 0, 1, 0], dtype=torch.int32)
    expected = x[rows.long()] * stage.factor[:, :, None, None] + stage.shift[:, :, None, None]
    if skipped:
        expected = expected + skip[others.long()]
    for level in range(best_level() + 1):
        made = finish(x, [stage], skip if skipped else None, -1.0, 1.0, level, rows, others if skipped else None)
        assert torch.equal(made, expected.clamp(-1, 1))
    with pytest.raises(ValueError, match=r"a skip of \(2, 4, 5, 6\) cannot be added to \(5, 4, 5, 6\)"):
        finish(x, [stage], skip, rows=rows)
