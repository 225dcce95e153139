"""Sums that go to the next convolution as bits give the bits of pooling, comparing and packing one after the other."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lit_scaledrop.layers.bits import (
    LEVELS,
    Filters,
    Shape,
    Sums,
    Thresholds,
    available,
    best_level,
    can_be_compared,
    compare,
    multiply,
    pack,
)

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")


def signs(*shape):
    return torch.where(torch.randn(*shape) >= 0, 1.0, -1.0)


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 16, 40, 64, 130]),
    filters=st.sampled_from([1, 5, 8, 9, 16, 31, 64, 65, 130]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    border=st.integers(0, 2),
    pool=st.integers(1, 4),
    size=st.tuples(st.integers(1, 17), st.integers(1, 80)),
    batch=st.integers(1, 3),
    rows=st.lists(st.integers(0, 2), max_size=6),
    cases=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_equal_to_one_after_the_other(
    level, channels, filters, kernel, stride, border, pool, size, batch, rows, cases, seed
):
    """Rows in any order, some images more than once, some never; rising, falling, constant channels."""
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")
    assume(all((side + 2 * border - kernel) // stride + 1 >= pool for side in size))
    assume(all(side + 2 * border >= kernel for side in size))
    torch.manual_seed(seed)
    first = Filters(signs(filters, channels, kernel, kernel) * 2.0 ** torch.randint(-2, 2, (filters, 1, 1, 1)))
    following = Filters(signs(2, filters, 3, 3))
    image = tuple(row for row in rows if row < batch)
    threshold = torch.randint(-9, 9, (cases, filters)) / 2
    for number in (torch.nan, -torch.inf, torch.inf):
        threshold[torch.rand(threshold.shape) < 0.05] = number
    direction = torch.randint(-1, 2, threshold.shape).float()
    case = torch.randint(0, cases, (len(image),)) if cases > 1 else torch.zeros(1)
    thresholds = Thresholds(threshold, direction, case)
    packed = pack(
        torch.randn(batch, channels, *size), first, Shape((stride, stride), (border,) * 2, (border,) * 2), level=level
    )
    sums = Sums(packed, first, 1, tuple(range(batch))).pooled(pool).rows(1, image)
    assert len(sums) == len(image)
    one_by_one = F.max_pool2d(multiply(packed, first)[list(image)], pool)
    around = Shape(before=(1, 1), behind=(1, 1))
    expected = pack(one_by_one, following, around, thresholds, level)
    made = compare(sums, following, around, thresholds)
    assert made.bits.tolist() == expected.bits.tolist()
    assert torch.equal(multiply(made, following), multiply(expected, following))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_rows(threads):
    torch.manual_seed(0)
    first, following = Filters(signs(96, 64, 3, 3)), Filters(signs(8, 96, 3, 3))
    around = Shape(before=(1, 1), behind=(1, 1))
    packed = pack(torch.randn(3, 64, 41, 40), first, around)
    sums = Sums(packed, first, 2, (2, 0, 1, 1))
    thresholds = Thresholds(torch.randn(2, 96) * 9, signs(2, 96), torch.tensor([0, 1, 0, 1]))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = compare(sums, following, around, thresholds)
        torch.set_num_threads(threads)
        assert (compare(sums, following, around, thresholds).bits == alone.bits).all()
    finally:
        torch.set_num_threads(before)


def test_rows_of_parts():
    """As prefix sharing copies them: parts of a batch."""
    filters = Filters(signs(1, 1, 1, 1))
    sums = Sums(pack(signs(4, 1, 2, 2), filters, Shape()), filters, 1, (0, 1, 2, 3))
    assert sums.rows(2, [1, 0, 1]).image == (2, 3, 0, 1, 2, 3)
    assert sums.pooled(2).pooled(3).pool == 6


def test_groups_are_not_compared():
    """Their channels do not begin with a byte."""
    plain, grouped = Filters(signs(6, 6, 1, 1)), Filters(signs(6, 3, 1, 1), 2)
    assert can_be_compared(plain, plain)
    assert not can_be_compared(grouped, plain)
    assert not can_be_compared(plain, grouped)
