"""Sums of signs by XOR and popcount are those of F.conv2d, at every level of instructions that this processor has."""

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lit_scaledrop.layers.bits import (
    LEVELS,
    Filters,
    Routine,
    Shape,
    Thresholds,
    at_least_zero,
    available,
    best_level,
    bits,
    build,
    conv2d,
    pack,
    routine,
    sums,
)

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def some(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    x[x.abs() < 0.1] = 0.0
    return x


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    channels=st.one_of(st.integers(1, 130), st.sampled_from([192, 512, 700])),
    groups=st.integers(1, 3),
    filters=st.integers(1, 19),
    kernel=PAIRS,
    stride=PAIRS,
    dilation=PAIRS,
    before=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    behind=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 70)),
    batch=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_equal_to_floats(level, channels, groups, filters, kernel, stride, dilation, before, behind, size, batch, seed):
    if level > best_level():
        pytest.skip(f"this processor has no {LEVELS[level]}")
    windows = [
        n + a + b >= d * (k - 1) + 1 for n, a, b, d, k in zip(size, before, behind, dilation, kernel, strict=True)
    ]
    assume(all(windows) and channels * size[1] < 20_000)
    x = some(batch, groups * channels, *size, seed=seed)
    weight = signs(some(groups * filters, channels, *kernel, seed=seed + 1))
    padded = F.pad(signs(x), (before[1], behind[1], before[0], behind[0]))
    expected = F.conv2d(padded, weight, None, stride, 0, dilation, groups)
    assert torch.equal(
        conv2d(x, Filters(weight, groups), Shape(stride, before, behind, dilation), level=level), expected
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_pixels(threads):
    x, weight = some(3, 64, 40, 40), signs(some(96, 64, 3, 3, seed=1))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = conv2d(x, Filters(weight), Shape(before=(1, 1), behind=(1, 1)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(ours, F.conv2d(signs(x), weight, padding=1))


def test_thresholds_by_channel():
    """Rising and falling channels, always and never."""
    x = torch.arange(-4.0, 4).view(1, 1, 2, 4).repeat(3, 5, 1, 1)
    threshold = torch.tensor([[0.0, 2.0, -1.0, -torch.inf, torch.inf]])
    direction = torch.tensor([[1.0, -1.0, -1.0, 1.0, 1.0]])
    by_hand = torch.where(x * direction[0, :, None, None] >= threshold[0, :, None, None], 1.0, -1.0)
    filters = Filters(torch.eye(5)[:, :, None, None] * 2 - 1)
    expected = F.conv2d(by_hand, torch.eye(5)[:, :, None, None] * 2 - 1)
    for level in range(best_level() + 1):
        assert torch.equal(conv2d(x, filters, thresholds=Thresholds(threshold, direction), level=level), expected)


def test_longest_counts():
    """More words than a byte of the AVX2 kernel can count, all signs unequal, then all equal."""
    x = torch.ones(5, 4096, 3, 3)
    for weight, total in ((-torch.ones(9, 4096, 3, 3), -36864.0), (torch.ones(9, 4096, 3, 3), 36864.0)):
        for level in range(best_level() + 1):
            assert conv2d(x, Filters(weight), level=level).unique().tolist() == [total]


def test_what_counts_as_positive():
    """As the layers have it: +1 where x >= 0, so for both zeros, and -1 for what is no number."""
    x = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-45, -1e-45]).view(-1, 1, 1, 1)
    sums = conv2d(x, Filters(torch.ones(1, 1, 1, 1)))
    assert sums.flatten().tolist() == [1, 1, 1, -1, -1, 1, -1]


def test_other_memory_formats():
    x, weight = some(2, 20, 7, 9), signs(some(5, 20, 3, 3, seed=1))
    expected = F.conv2d(signs(x), weight)
    assert torch.equal(conv2d(x.contiguous(memory_format=torch.channels_last), Filters(weight)), expected)
    assert torch.equal(conv2d(x.expand(2, -1, -1, -1)[:, :, ::1], Filters(weight)), expected)


def test_factors_are_powers_of_two():
    x, weight = some(2, 9, 6, 6), signs(some(4, 9, 3, 3, seed=1))
    scaled = weight * torch.tensor([0.25, 1.0, 2.0, 2.0**-9]).view(-1, 1, 1, 1)
    assert torch.equal(
        conv2d(x, Filters(scaled), Shape(before=(1, 1), behind=(1, 1))), F.conv2d(signs(x), scaled, padding=1)
    )
    assert not Filters(weight * 0.3).exact
    assert not Filters(torch.zeros(1, 1, 1, 1)).exact
    uneven = weight.clone()
    uneven[0, 0, 0, 0] *= 2
    assert not Filters(uneven).exact
    with pytest.raises(ValueError, match="a power of two"):
        conv2d(x, Filters(uneven))


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.zeros(1, 3, 5, 5), "4 channels on the CPU are needed, got torch.float32 \\(1, 3, 5, 5\\)"),
        (torch.zeros(1, 4, 5, 5, dtype=torch.float64), "got torch.float64"),
        (torch.zeros(1, 4, 2, 5), "does not fit into"),
    ],
)
def test_what_does_not_fit_is_refused(x, match):
    with pytest.raises(ValueError, match=match):
        conv2d(x, Filters(torch.ones(2, 4, 3, 3)))


DRIVER = r"""
#include "KERNELS"
#include <stdio.h>
#include <stdlib.h>
static uint64_t state = 88172645463325252u;
static int64_t draw(int64_t most)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state % most;
}
static float *numbers(int64_t count)
{
    float *made = malloc(count * sizeof *made + 1); /* none may be read behind them */
    for (int64_t i = 0; i < count; i++) made[i] = draw(3) - 1;
    return made;
}
static int32_t *integers(int64_t count, int64_t most)
{
    int32_t *made = malloc(count * sizeof *made + 1);
    for (int64_t i = 0; i < count; i++) made[i] = draw(most);
    return made;
}
int main(void)
{
    for (int round = 0; round < 400; round++) {
        Geometry g = {.channels = 1 + draw(140), .groups = 1 + draw(2), .filters = 1 + draw(20)};
        g.unit = g.channels <= 8 ? 1 : g.channels <= 16 ? 2 : g.channels <= 32 ? 4 : 8 * ((g.channels + 63) / 64);
        g.kernel_height = 1 + draw(3); g.kernel_width = 1 + draw(3);
        g.stride_height = 1 + draw(2); g.stride_width = 1 + draw(2);
        g.dilation_height = 1 + draw(2); g.dilation_width = 1 + draw(2);
        g.top = draw(2); g.left = draw(2);
        g.height = 5 + draw(4); g.width = 5 + draw(70);
        g.padded_height = g.height + g.top + draw(2); g.padded_width = g.width + g.left + draw(2);
        g.out_height = (g.padded_height - g.dilation_height * (g.kernel_height - 1) - 1) / g.stride_height + 1;
        g.out_width = (g.padded_width - g.dilation_width * (g.kernel_width - 1) - 1) / g.stride_width + 1;
        g.words = (g.kernel_height * g.kernel_width * g.unit + 7) / 8;
        g.products = g.channels * g.kernel_height * g.kernel_width;
        int64_t plane = g.out_height * g.out_width, all = g.groups * g.filters, every = g.groups * g.channels;
        int64_t blocks = (g.filters + FILTERS - 1) / FILTERS, lanes = g.groups * blocks * FILTERS, around = 1 + draw(3);
        /* what follows: rows of groups of images, in any order */
        int64_t least_side = g.out_height < g.out_width ? g.out_height : g.out_width;
        int64_t pool = 1 + draw(least_side < 3 ? least_side : 3), images = 1 + draw(3), from = 1 + draw(2);
        int64_t rows = images * from, made = 3 * images, batch = images + draw(3);
        Geometry to = {.channels = g.filters, .groups = 1, .height = g.out_height / pool, .width = g.out_width / pool};
        to.top = to.left = around;
        to.padded_height = to.height + 2 * around; to.padded_width = to.width + 2 * around;
        to.unit = to.channels <= 8 ? 1 : to.channels <= 16 ? 2 : to.channels <= 32 ? 4 : 8;
        int64_t size = g.height * g.width, high = (g.height + 1) / 2, wide = (g.width + 1) / 2;
        int64_t bytes[] = {
            4 * every * size, 4 * every * size, bytes_of(&g), 4 * all * plane, 4 * all * plane, bytes_of(&to),
            4 * all * (g.out_height / pool) * (g.out_width / pool), 4 * (every + 3) * high * wide, 4 * all * plane,
        };
        int64_t count[] = {from * batch, rows, rows, rows, made, made, rows, rows, 3 * batch};
        Value values[9];
        int64_t workspace = 0;
        for (int i = 0; i < 9; i++) {
            values[i] = (Value){bytes[i], workspace, 0};
            if (i == 0 || i == 8) values[i].at = (uint8_t *)numbers(bytes[i] * count[i] / 4);
            workspace += values[i].at ? 0 : bytes[i] * count[i] + 8 * (i == 2 || i == 5);
        }
        uint64_t *filters = malloc(g.groups * blocks * g.words * FILTERS * sizeof *filters);
        for (int64_t i = 0; i < g.groups * blocks * g.words * FILTERS; i++) filters[i] = state + draw(1000);
        int32_t *position = integers(plane, 2), *cases = integers(2 * made, 2), *other = integers(made, rows);
        int32_t *first = calloc(rows + 1, sizeof *first), *row = malloc(made * sizeof *row);
        int32_t *own = integers(rows, rows);
        for (int64_t i = 0, k = 0; i < rows; i++) {
            for (int64_t j = 0; j < made; j++)
                if (other[j] == i) row[k++] = j;
            first[i + 1] = k;
        }
        float *factor = numbers(lanes), *border = numbers(2 * lanes), *least = numbers(2 * every);
        float *bound = numbers(2 * lanes), *by = numbers(2 * all);
        uint8_t *falling = calloc(2, to.unit);
        Operands of = {0, filters, position, border, factor, lanes};
        Operation list[] = {
            {.kind = FETCH, .in = 0, .out = 1, .groups = from, .skip = -1},
            {.kind = PACK, .in = 1, .out = 2, .rows = rows, .geometry = &g, .from = draw(2) ? own : 0, .cases = {0, -1},
             .table = {least, least, 0, every}},
            {.kind = SUMS, .in = 2, .out = 3, .rows = rows, .geometry = &g, .operands = of},
            {.kind = FINISH, .in = 3, .out = 4, .rows = made, .from = other, .from_skip = other,
             .skip = draw(2) ? 3 : -1, .cases = {made, draw(2) ? 0 : -1},
             .finish = {all, plane, {{{by, draw(2) ? by : 0, 0, all}, draw(2)},
             {{by, 0, 0, all}, draw(2)}}, -1, 1}},
            {.kind = POOL, .in = 3, .out = 6, .rows = rows, .squares = {all, pool, g.out_height, g.out_width, draw(2)}},
            {.kind = SUBSAMPLE, .in = 1, .out = 7, .rows = rows,
             .subsample = {every, 2, g.height, g.width, 1, every + 3}},
            {.kind = DELIVER, .in = 4, .out = 8, .groups = 3, .skip = -1},
            {.kind = BITS, .in = 2, .out = 5, .rows = rows, .geometry = &g, .operands = of, .cases = {0, -1},
             .next = {&to, pool, {bound, bound, 0, lanes}, falling, first, row, 0}},
        };
        Call call = {values, 0, cases, 0, images, images, batch, 0};
        Team none = {0, 0, 0, 0};
        int64_t windows = 8 * (CHUNK * g.words + 8);
        int64_t marks = made * (pool * g.out_width > CHUNK ? pool * g.out_width : CHUNK) * to.unit;
        for (int level = 0; level <= bits_best(); level++) {
            uint8_t *memory = malloc(workspace + windows + marks);
            Job job = {level, 1, 0, &none, &call, list, 7 + (g.groups == 1), memory, 0, workspace, workspace + windows};
            bits_run(&job);
            free(memory);
            /* without groups each thread has some images */
            Operation alone[] = {list[1], list[2]};
            alone[0].in = 0; alone[0].from = 0; alone[0].cases[0] = -1; alone[0].rows = alone[1].rows = 1;
            Call each = {values, 0, cases, 0, from * batch, 1, from * batch, 0};
            memory = malloc(3 * (workspace + windows));
            Job two = {level, 3, 0, &none, &each, alone, 2, memory, workspace + windows, workspace, workspace};
            bits_run(&two);
            free(memory);
            const uint8_t *where[] = {values[0].at, (uint8_t *)filters};
            int64_t sizes[] = {bytes[0] * count[0], 8 * g.groups * blocks * g.words * FILTERS};
            bits_digest(level, where, sizes, 2);
        }
        free(values[0].at); free(values[8].at); free(filters); free(position); free(cases); free(other); free(first);
        free(row); free(own); free(factor); free(border); free(least); free(bound); free(by); free(falling);
    }
    puts("clean");
}
"""


@pytest.mark.slow
def test_no_byte_outside_is_touched(tmp_path):
    """The kernels under the address and undefined-behaviour sanitizers, 400 geometries."""
    source, program = tmp_path / "driver.c", tmp_path / "driver"
    source.write_text(DRIVER.replace("KERNELS", str(build.SOURCE)))
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment"]
    made = subprocess.run(
        ["cc", *flags, "-o", program, source, *build.LIBRARIES], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no sanitizers here: {made.stderr.splitlines()[-1]}")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "clean\n", "")


@pytest.mark.slow
def test_avx512_on_other_processors(tmp_path, monkeypatch):
    """The kernel for AVX-512, its instructions one by one in plain C (SIMDe)."""
    if not Path("/usr/include/simde/x86/avx512.h").is_file():
        pytest.skip("no SIMDe: apt-get install libsimde-dev")
    emulated = "#define SIMDE_ENABLE_NATIVE_ALIASES\n#include <simde/x86/avx512.h>"
    text = build.SOURCE.read_text().replace("#include <immintrin.h>", emulated)
    source, made = tmp_path / "kernels.c", tmp_path / "kernels.so"
    source.write_text(re.sub(r'target\("avx.*?"\),? ?', "", text))
    command = ["cc", "-O2", "-w", "-mavx2", "-shared", "-fPIC", "-o", made, source, *build.LIBRARIES]
    subprocess.run(command, check=True)
    emulator = build.declared(ctypes.CDLL(str(made)))
    monkeypatch.setattr(routine, "kernels", lambda: emulator)
    for channels, filters in ((3, 20), (16, 16), (64, 9), (130, 33)):
        x, weight = some(2, 2 * channels, 9, 40), signs(some(2 * filters, channels, 3, 3, seed=1))
        ours = conv2d(x, Filters(weight, 2), Shape(before=(1, 1), behind=(1, 1)), level=2)
        assert torch.equal(ours, F.conv2d(signs(x), weight, padding=1, groups=2))
        one, weight = Filters(signs(some(filters, 2 * channels, 3, 3))), signs(some(2, filters, 3, 3))
        following = Filters(weight)
        g, half = one.geometry((9, 40), Shape()), Thresholds(torch.full((1, filters), 0.5), torch.ones(1, filters))
        to = following.geometry((3, 19), Shape())
        operations = [
            pack(0, 1, g, at_least_zero(2 * channels)),
            bits(1, 2, one, g, to, half, 2),
            sums(2, 3, following, to),
        ]
        (found,) = Routine(operations, [(2 * channels, 9, 40), g, to, (2, 1, 17)], [0], [3], 2)([x], 2)
        pooled = F.max_pool2d(conv2d(x, one, level=2), 2)
        assert torch.equal(found, F.conv2d(signs(pooled - 0.5), weight))


def test_sums_that_floats_do_not_hold():
    """More than 2^24 signs, and factors whose sums are infinite."""
    many = torch.ones(1, 1, 1, 1)
    assert Filters(many.expand(1, 1, 1 << 12, 1 << 12)[:, :, :, :8] * 2.0**110).exact
    assert not Filters(many.expand(1, 1, 1 << 12, 1 << 12)[:, :, :, :8] * 2.0**115).exact
    assert not Filters(many.expand(1, 1, (1 << 24) + 1, 1)).exact


def test_borders_of_many_sizes_are_not_kept():
    """Images of all sizes would fill the memory."""
    filters, one = Filters(torch.ones(2, 3, 3, 3)), Shape(before=(1, 1), behind=(1, 1))
    for side in (*range(3, 40), 3):
        x = some(1, 3, side, side)
        assert torch.equal(conv2d(x, filters, one), F.conv2d(signs(x), torch.ones(2, 3, 3, 3), padding=1))
    assert len(filters._borders) <= 16


def test_words_of_a_filter():
    """Bit c of a unit is channel c; taps follow each other; filters alternate in blocks of eight."""
    weight = -torch.ones(9, 3, 1, 2)
    weight[1, 0, 0, 0] = weight[1, 2, 0, 1] = weight[8, 1, 0, 0] = 1
    words = Filters(weight).words
    assert words.shape == (1, 2, 1, 8)
    assert np.flatnonzero(words).tolist() == [1, 8]
    assert words.flat[1] == 1 + (4 << 8)
    assert words.flat[8] == 2


def test_the_package_has_the_source():
    assert Path(build.__file__).parent / "kernels.c" == build.SOURCE
    assert build.SOURCE.is_file()
