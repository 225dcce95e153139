"""Routines give what their operations give one after the other, for any groups of rows, cases, images and threads."""

import os
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lit_scaledrop.layers.bits import (
    LEVELS,
    Cases,
    Digest,
    Filters,
    Groups,
    Routine,
    Shape,
    Thresholds,
    available,
    best_level,
    bits,
    finish,
    in_lanes,
    pack,
    pool,
    routine,
    subsample,
    sums,
)
from lit_scaledrop.layers.bits.build import kernels

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")
AROUND = Shape(before=(1, 1), behind=(1, 1))


def signs(*shape):
    return torch.where(torch.randn(*shape) >= 0, 1.0, -1.0)


def maps(channels, geometry):
    return channels, geometry.out_height, geometry.out_width


def drawn(cases):
    cases.random = True
    return cases


def needs(level):
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
@settings(max_examples=80, derandomize=True, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 16, 40, 64, 130]),
    filters=st.sampled_from([1, 5, 8, 9, 16, 31, 64, 65, 130]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    border=st.integers(0, 2),
    square=st.integers(1, 4),
    size=st.tuples(st.integers(1, 17), st.integers(1, 80)),
    images=st.integers(1, 3),
    source=st.lists(st.integers(0, 1), min_size=1, max_size=5),
    kinds=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_sums_that_are_compared(
    level, channels, filters, kernel, stride, border, square, size, images, source, kinds, seed
):
    """Groups in any order, some more than once, some never; rising, falling and constant channels; squares."""
    needs(level)
    assume(all((side + 2 * border - kernel) // stride + 1 >= square for side in size))
    assume(all(side + 2 * border >= kernel for side in size))
    torch.manual_seed(seed)
    first = Filters(signs(filters, channels, kernel, kernel) * 2.0 ** torch.randint(-2, 2, (filters, 1, 1, 1)))
    following = Filters(signs(2, filters, 3, 3))
    g = first.geometry(size, Shape((stride, stride), (border,) * 2, (border,) * 2))
    to = following.geometry((g.out_height // square, g.out_width // square), AROUND)
    threshold = torch.randint(-9, 9, (kinds, filters)) / 2
    for number in (torch.nan, -torch.inf, torch.inf):
        threshold[torch.rand(threshold.shape) < 0.05] = number
    direction = torch.randint(-1, 2, threshold.shape).float()
    thresholds = Thresholds(threshold, direction)
    case = tuple(int(kind) for kind in torch.randint(0, kinds, (len(source),)))
    groups = [Groups(2), Groups(2), Groups(len(source), tuple(source), None, (case,)), Groups(len(source))]
    shapes = [(channels, *size), g, maps(filters, g), (filters, to.height, to.width), to, maps(2, to)]
    zero = Thresholds(torch.zeros(1, channels), torch.ones(1, channels))
    at_once = [
        pack(0, 1, g, zero), bits(1, 4, first, g, to, drawn(in_lanes(thresholds, first, to)), square),
        sums(4, 5, following, to),
    ]  # fmt: skip
    one_by_one = [
        pack(0, 1, g, zero), sums(1, 2, first, g), pool(2, 3, shapes[2], square, True),
        pack(3, 4, to, drawn(Cases(threshold, direction))), sums(4, 5, following, to),
    ]  # fmt: skip
    x = torch.randn(2 * images, channels, *size)
    (found,) = Routine(at_once, shapes, [0], [5], level)([x], images, [groups[0], *groups[2:]])
    (expected,) = Routine(one_by_one, shapes, [0], [5], level)([x], images, [*groups[:2], *groups[1:]])
    assert found.shape == (len(source) * images, 2, to.out_height, to.out_width)
    assert torch.equal(found, expected)
    each = F.conv2d(torch.where(x >= 0, 1.0, -1.0), weight_of(first), None, stride, border)
    each = each.unflatten(0, (2, images))[source]
    rows, row_of = torch.tensor(case), (slice(None), None, slice(None), None, None)
    positive = (each * direction[rows][row_of] >= threshold[rows][row_of]).float().flatten(0, 1)
    falls = (direction[rows] < 0).repeat_interleave(images, 0)[:, :, None, None]
    # the largest of some numbers is positive if any is, or behind what falls if all are
    after = torch.where(falls, -F.max_pool2d(-positive, square), F.max_pool2d(positive, square)) * 2 - 1
    assert torch.equal(found, F.conv2d(after, weight_of(following), padding=1))


def weight_of(filters):
    """The weights that filters were made of, by their products with single signs."""
    count, channels, height, width = filters.shape
    bits_of = np.unpackbits(
        filters.words.transpose(0, 1, 3, 2).copy().view(np.uint8).reshape(-1, filters.words.shape[2] * 8), axis=1,
        bitorder="little",
    )  # fmt: skip
    taps = bits_of[:count, : height * width * filters.unit * 8].reshape(count, height, width, -1)[..., :channels]
    return (torch.from_numpy(taps.transpose(0, 3, 1, 2).astype(np.float32)) * 2 - 1) * filters.factor.view(-1, 1, 1, 1)


NUMBERS = st.sampled_from([0.0, 1.0, 30.0, 1e-30, 1e30])


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 20)),
    images=st.integers(0, 3),
    shifts=st.tuples(st.booleans(), st.booleans()),
    count=st.integers(0, 2),
    source=st.lists(st.integers(0, 1), min_size=1, max_size=4),
    skipped=st.booleans(),
    clip=st.sampled_from([(-torch.inf, torch.inf), (-1.0, 1.0), (0.0, 6.0), (-torch.inf, 0.5)]),
    size=NUMBERS,
    seed=st.integers(0, 99),
)
def test_each_operation_is_rounded_as_by_itself(level, shape, images, shifts, count, source, skipped, clip, size, seed):
    needs(level)
    torch.manual_seed(seed)
    channels, groups = shape[0], len(source)
    x, skip = size * torch.randn(2 * images, *shape), size * torch.randn(groups * images, *shape)
    tables, cases, expected = [], [], x.unflatten(0, (2, images))[source]
    for shifted in shifts[:count]:
        factor, shift = torch.randn(2, 3, channels).unbind()
        case = torch.randint(0, 3, (groups,))
        tables.append(drawn(Cases(factor, shift if shifted else None)))
        cases.append(tuple(case.tolist()))
        expected = expected * factor[case][:, None, :, None, None]
        if shifted:
            expected = expected + shift[case][:, None, :, None, None]
    expected = expected.flatten(0, 1)
    of = finish(0, 2, shape, tables, [False] * count, 1 if skipped else -1, *clip)
    whole = Routine([of], [shape] * 3, [0, 1], [2], level)
    back = tuple(reversed(range(groups)))
    (found,) = whole([x, skip], images, [Groups(groups, tuple(source), back, tuple(cases))])
    more = skip.unflatten(0, (groups, images)).flip(0).flatten(0, 1) if skipped else 0
    assert torch.equal(found, (expected + more).clamp(*clip))


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_what_is_no_number_stays_so(level):
    needs(level)
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.5] * 4).view(1, 1, 4, 4)
    two = Cases(torch.full((1, 1), 2.0), None)
    for of, expected in (
        (finish(0, 1, (1, 4, 4), [two], [False], low=-1.0, high=1.0), (x * 2).clamp(-1, 1)),
        (pool(0, 1, (1, 4, 4), 2, True), nn.MaxPool2d(2)(x)),
        (pool(0, 1, (1, 4, 4), 3, True), nn.MaxPool2d(3)(x)),
    ):
        (found,) = Routine([of], [(1, 4, 4), tuple(expected.shape[1:])], [0], [1], level)([x], 1)
        assert torch.equal(found.nan_to_num(9), expected.nan_to_num(9))


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_squares(level, size):
    """Added in the order of the rows, as AvgPool2d does; what is left over is left out."""
    needs(level)
    torch.manual_seed(0)
    for shape in ((3, 5, 8, 40), (1, 2, 7, 9), (2, 1, 3, 3), (0, 2, 4, 4)):
        x = torch.randn(shape)
        for largest, module in ((True, nn.MaxPool2d(size)), (False, nn.AvgPool2d(size))):
            expected, of = module(x), pool(0, 1, shape[1:], size, largest)
            (found,) = Routine([of], [shape[1:], tuple(expected.shape[1:])], [0], [1], level)([x], len(x))
            assert torch.equal(found, expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_subsampling(stride):
    x = torch.randn(2, 3, 7, 6)
    expected = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 1, 2))
    shapes = [(3, 7, 6), tuple(expected.shape[1:])]
    (found,) = Routine([subsample(0, 1, (3, 7, 6), stride, 1, 6)], shapes, [0], [1])([x], 2)
    assert torch.equal(found, expected)


def long_routine(level=None):
    """Convolutions, a skip, groups that part, memory that is used again; from two inputs to two outputs."""
    torch.manual_seed(0)
    filters = [Filters(signs(24, 24, 3, 3)) for _ in range(3)]
    shape = 24, 9, 10
    g = filters[0].geometry(shape[1:], AROUND)
    at_zero = Thresholds(torch.zeros(1, 24), torch.ones(1, 24))
    kept = [drawn(Cases(torch.randn(2, 24), torch.randn(2, 24))) for _ in range(2)]
    compared = drawn(in_lanes(Thresholds(torch.randn(2, 24) * 9, signs(2, 24)), filters[1], g))
    operations = [
        pack(0, 2, g, at_zero), sums(2, 3, filters[0], g), finish(3, 4, shape, kept[:1], [False], 1, -1.0, 1.0),
        pack(4, 5, g, at_zero), bits(5, 6, filters[1], g, g, compared), sums(6, 7, filters[2], g),
        finish(7, 8, shape, kept[1:], [True], 4),
    ]  # fmt: skip
    shapes = [shape, shape, g, shape, shape, g, g, shape, shape]
    return Routine(operations, shapes, [0, 1], [4, 8], level)


GROUPS = [
    Groups(1), Groups(1), Groups(2, (0, 0), (0, 0), ((0, 1),)), Groups(2), Groups(3, (0, 1, 1), None, ((1, 0, 1),)),
    Groups(3), Groups(4, (0, 1, 2, 2), (0, 1, 1, 1), ((0, 0, 1, 0),)),
]  # fmt: skip


def divide_even_little(monkeypatch):
    monkeypatch.setattr(routine, "_WORTH_THREADS_NS", 0)
    monkeypatch.setattr(routine, "_WORTH_WAITING_NS", 0)


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("images", [1, 2, 7, 64])
def test_threads_and_images_at_a_time(threads, images, monkeypatch):
    """As many images at a time as there is memory for, and each operation divided where there are too few."""
    whole, x, y = long_routine(), torch.randn(images, 24, 9, 10), torch.randn(images, 24, 9, 10)
    expected = whole([x, y], images, GROUPS)
    one_by_one = [whole([a, b], 1, GROUPS) for a, b in zip(x.split(1), y.split(1), strict=True)]
    for found, parts in zip(expected, zip(*one_by_one, strict=True), strict=True):
        assert torch.equal(found.unflatten(0, (-1, images)), torch.stack(parts, 1))
    before = torch.get_num_threads()
    divide_even_little(monkeypatch)
    torch.set_num_threads(threads)
    try:
        for memory in (1, 1 << 16, 1 << 30):
            monkeypatch.setattr(routine, "_WORKSPACE", memory)
            for team in (routine.openmp, lambda: (0, 0, 0, 0)):
                with monkeypatch.context() as patch:
                    patch.setattr(routine, "openmp", team)
                    assert all(map(torch.equal, whole([x, y], images, GROUPS), expected))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_all_images_take_the_case_of_a_call(threads, monkeypatch):
    """Those that are left over as well, be they more than are computed at a time otherwise."""
    whole, cases = long_routine(), np.array([0, 1, 1], np.int32)
    before = torch.get_num_threads()
    divide_even_little(monkeypatch)
    torch.set_num_threads(threads)
    try:
        for memory in (1, 1 << 16, 1 << 17, 1 << 30):
            monkeypatch.setattr(routine, "_WORKSPACE", memory)
            for images in range(1, 24):
                x = torch.randn(images, 24, 9, 10)
                found = whole([x, x], images, None, cases)
                expected = whole([x, x], images, None, np.repeat(cases[:, None], images, 1))
                assert all(map(torch.equal, found, expected))
    finally:
        torch.set_num_threads(before)


FEWER = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_routine import GROUPS, long_routine, routine
torch.manual_seed(0)
whole, x = long_routine(), torch.randn(7, 24, 9, 10)
torch.set_num_threads(1)
expected = [whole([x[:n], x[:n]], n, GROUPS) for n in (1, 2, 7)]
routine._WORTH_THREADS_NS = routine._WORTH_WAITING_NS = 0
for threads in (2, 3, 5):
    torch.set_num_threads(threads)
    found = [whole([x[:n], x[:n]], n, GROUPS) for n in (1, 2, 7)]
    assert all(torch.equal(a, b) for n, m in zip(found, expected) for a, b in zip(n, m)), threads
print("equal")
"""


@pytest.mark.parametrize("limit", [{}, {"OMP_THREAD_LIMIT": "1"}, {"OMP_THREAD_LIMIT": "2"}, {"OMP_DYNAMIC": "true"}])
def test_openmp_may_give_fewer_threads_than_are_asked_for(limit):
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", FEWER, str(folder)], cwd=folder.parents[2], env={**os.environ, **limit},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout == "equal\n", done.stderr[-2000:]


def test_a_fork_has_threads_of_its_own(monkeypatch):
    """Those of OpenMP stay with the parent."""
    whole, x = long_routine(), torch.randn(6, 24, 9, 10)
    before = torch.get_num_threads()
    divide_even_little(monkeypatch)
    torch.set_num_threads(2)
    try:
        expected = whole([x, x], 6, GROUPS)
        child = os.fork()
        if not child:
            found = whole([x, x], 6, GROUPS)  # compared without PyTorch, whose threads stay there as well
            same = [a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(found, expected, strict=True)]
            os._exit(0 if all(same) else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(before)


def test_every_image_has_a_case():
    """As where passes are folded into one batch."""
    whole, x = long_routine(), torch.randn(5, 24, 9, 10)
    cases = torch.randint(0, 2, (3, 5), generator=torch.Generator().manual_seed(1)).int().numpy()
    found = whole([x, x], 5, None, cases)
    for image in range(5):
        alone = whole([x[image : image + 1]] * 2, 1, None, cases[:, image])
        assert all(torch.equal(one[image : image + 1], other) for one, other in zip(found, alone, strict=True))
    assert len({tuple(row) for row in cases.T}) > 2


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_levels_agree(level):
    needs(level)
    x = torch.randn(3, 24, 9, 10)
    assert all(map(torch.equal, long_routine(level)([x, x], 3, GROUPS), long_routine(0)([x, x], 3, GROUPS)))


@pytest.mark.parametrize(
    ("x", "found"),
    [(torch.zeros(2, 3, 4, 5), r"torch\.float32 \(2, 3, 4, 5\)"), (torch.zeros(2, 3, 4, 4).double(), "float64")],
)  # fmt: skip
def test_other_maps_are_refused(x, found):
    whole = Routine([pool(0, 1, (3, 4, 4), 2, False)], [(3, 4, 4), (3, 2, 2)], [0], [1])
    with pytest.raises(ValueError, match=rf"float32 maps of \(3, 4, 4\) are needed, got .*{found}"):
        whole([x], 2)


def test_much_memory_is_not_kept(monkeypatch):
    whole, x = long_routine(), torch.randn(2, 24, 9, 10)
    expected = whole([x, x], 2)
    vars(routine._local).clear()
    monkeypatch.setattr(routine, "_MEMORY", 1000)
    assert all(map(torch.equal, whole([x, x], 2), expected))
    assert not vars(routine._local)
    monkeypatch.setattr(routine, "_MEMORY", 1 << 20)
    assert all(map(torch.equal, whole([x, x], 2), expected))
    assert len(routine._local.memory) < 1 << 20


def test_what_was_prepared_is_kept_for_some_groups():
    whole, x = long_routine(), torch.randn(1, 24, 9, 10)
    for number in range(80):
        cases = [((number >> k) & 1, 0, 1, 0) for k in range(7)]
        groups = [group._replace(cases=tuple(case[: group.out] for _ in group.cases))
                  for group, case in zip(GROUPS, cases, strict=True)]  # fmt: skip
        whole([x, x], 1, groups)
    assert len(whole._prepared) <= 64


@pytest.mark.parametrize("shape", [(1,), (7,), (64,), (65, 3), (300, 11), (0,)])
def test_a_digest_sees_each_change(shape):
    torch.manual_seed(0)
    tensors = [torch.randn(3), torch.randn(shape), torch.tensor(2, dtype=torch.int16)]
    digest = Digest(tensors)
    assert digest.same()
    flat = tensors[1].view(-1)
    for places in ([0], [-1], [0, -1], list(accumulate([1] * min(9, len(flat))))) if len(flat) > 8 else ():
        places = [place % len(flat) for place in places]
        flat[places] *= -1  # only the highest bits change
        assert not digest.same()
        flat[places] *= -1
        assert digest.same()
    tensors[2] += 1
    assert not digest.same()
    tensors[2] -= 1
    tensors[0].data = tensors[0].data.clone()  # other memory, whose contents are known to nobody
    assert not digest.same()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 255, 256, 257, 1000, 8191])
def test_all_levels_give_one_digest(size):
    """Of bytes that do not begin where words do."""
    held = np.random.default_rng(size).integers(0, 256, size + 3, np.uint8)
    where, sizes = np.array([held[3:].ctypes.data, held.ctypes.data]), np.array([size, 3])
    arguments = where.ctypes.data, sizes.ctypes.data, 2
    found = {kernels().bits_digest(level, *arguments) for level in range(best_level() + 1)}
    assert len(found) == 1
    held[-1] ^= 1
    assert kernels().bits_digest(0, *arguments) not in found


def test_two_words_do_not_make_up_for_each_other():
    """All pairs of signs in a row of numbers; a sum or a product of words would miss some."""
    x = torch.randn(200)
    digest = Digest([x])
    for first in range(0, 200, 7):
        for second in range(first + 1, 200):
            x[[first, second]] *= -1
            assert not digest.same(), (first, second)
            x[[first, second]] *= -1
