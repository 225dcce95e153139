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
    Shape,
    Sums,
    Thresholds,
    available,
    best_level,
    build,
    compare,
    conv2d,
    convolution,
    multiply,
    pack,
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


def test_thresholds_by_channel_and_image():
    """Rising and falling channels, always and never; images of two cases."""
    x = torch.arange(-4.0, 4).view(1, 1, 2, 4).repeat(3, 5, 1, 1)
    threshold = torch.tensor([[0.0, 2.0, -1.0, -torch.inf, torch.inf], [1.0, -3.0, 0.5, 0.0, 0.0]])
    direction = torch.tensor([[1.0, 1.0, -1.0, 1.0, 1.0], [1.0, -1.0, 1.0, 1.0, -1.0]])
    case = torch.tensor([0, 1, 0])
    by_hand = torch.where(x * direction[case][:, :, None, None] >= threshold[case][:, :, None, None], 1.0, -1.0)
    filters = Filters(torch.eye(5)[:, :, None, None] * 2 - 1)
    expected = F.conv2d(by_hand, torch.eye(5)[:, :, None, None] * 2 - 1)
    for level in range(best_level() + 1):
        assert torch.equal(conv2d(x, filters, thresholds=Thresholds(threshold, direction, case), level=level), expected)


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
static uint64_t state = 88172645463325252u;
static int64_t draw(int64_t most)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state % most;
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
        int64_t images = 1 + draw(2), plane = g.out_height * g.out_width, all = g.groups * g.filters;
        int64_t blocks = (g.filters + FILTERS - 1) / FILTERS, every = g.groups * g.channels;
        int64_t inputs = images * every * g.height * g.width;
        float *x = malloc(inputs * sizeof *x), *out = malloc(images * all * plane * sizeof *out);
        int64_t lanes = g.groups * blocks * FILTERS, around = 1 + draw(3);
        float *factor = malloc(lanes * sizeof *factor), *border = malloc(2 * lanes * sizeof *border);
        float *least = malloc(2 * every * sizeof *least), *bound = malloc(2 * lanes * sizeof *bound);
        int32_t of_image[2] = {0, 1};
        uint8_t *in = calloc(images * g.padded_height * g.padded_width * g.groups * g.unit + 8, 1);
        uint64_t *filters = malloc(g.groups * blocks * g.words * FILTERS * sizeof *filters);
        int32_t *position = malloc(plane * sizeof *position);
        Operands of = {in, filters, position, border, factor, lanes};
        /* the next input: rows of images, not in their order */
        int64_t least_side = g.out_height < g.out_width ? g.out_height : g.out_width;
        Next next = {.pool = 1 + draw(least_side < 3 ? least_side : 3)};
        Geometry to = {.channels = g.filters, .groups = 1, .height = g.out_height / next.pool};
        to.width = g.out_width / next.pool; to.top = to.left = around;
        to.padded_height = to.height + 2 * around; to.padded_width = to.width + 2 * around;
        to.unit = to.channels <= 8 ? 1 : to.channels <= 16 ? 2 : to.channels <= 32 ? 4 : 8;
        int32_t begins[3] = {0, images == 1 ? 3 : 1, 3}, row[3] = {1, 2, 0}, of_row[3] = {0, 1, 1};
        uint8_t *falling = calloc(2, to.unit), *bits = calloc(3 * to.padded_height * to.padded_width, to.unit);
        next.geometry = &to; next.threshold = next.direction = bound; next.falling = falling;
        next.first = begins; next.row = row; next.of_row = of_row; next.out = bits;
        for (int64_t i = 0; i < inputs; i++) x[i] = draw(3) - 1;
        for (int64_t i = 0; i < g.groups * blocks * g.words * FILTERS; i++) filters[i] = state + draw(1000);
        for (int64_t i = 0; i < lanes; i++) factor[i] = 1;
        for (int64_t i = 0; i < 2 * lanes; i++) border[i] = bound[i] = 1;
        for (int64_t i = 0; i < 2 * every; i++) least[i] = 1;
        for (int64_t i = 0; i < plane; i++) position[i] = draw(2);
        for (int level = 0; level <= bits_best(); level++) {
            bits_pack(&g, level, x, least, least, of_image, in, 0, images * g.height);
            if (bits_sums(&g, level, &of, out, 0, 0, images * plane)) return 2;
            if (g.groups == 1 && bits_sums(&g, level, &of, 0, &next, 0, images * to.height)) return 3;
            float *by = malloc(images * all * sizeof *by), *sums = malloc(images * all * plane * sizeof *sums);
            for (int64_t i = 0; i < images * all; i++) by[i] = 1;
            Stage stages[2] = {{by, draw(2) ? factor : 0, all, 0, draw(2)}, {draw(2) ? factor : 0, 0, 0, 0, draw(2)}};
            int32_t swapped[2] = {(int32_t)images - 1, 0};
            Rows rows = {out, draw(2) ? swapped : 0};
            bits_finish(level, all, plane, &rows, stages, draw(2) ? &rows : 0, -1, 1, sums, 0, images * all);
            free(by); free(sums);
        }
        free(x); free(out); free(factor); free(border); free(in); free(filters); free(position); free(least);
        free(bound); free(falling); free(bits);
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
    source.write_text(re.sub(r'__attribute__\(\(target\("avx.*?"\)\)\)', "", text))
    command = ["cc", "-O2", "-w", "-mavx2", "-shared", "-fPIC", "-o", made, source, *build.LIBRARIES]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("SIMDe wants another compiler")
    emulator = ctypes.CDLL(str(made))
    monkeypatch.setattr(convolution, "library", lambda: emulator)
    for channels, filters in ((3, 20), (16, 16), (64, 9), (130, 33)):
        x, weight = some(2, 2 * channels, 9, 40), signs(some(2 * filters, channels, 3, 3, seed=1))
        ours = conv2d(x, Filters(weight, 2), Shape(before=(1, 1), behind=(1, 1)), level=2)
        assert torch.equal(ours, F.conv2d(signs(x), weight, padding=1, groups=2))
        one, following = Filters(signs(some(filters, 2 * channels, 3, 3))), Filters(signs(some(2, filters, 3, 3)))
        packed, half = pack(x, one, Shape(), level=2), torch.full((1, filters), 0.5)
        thresholds = Thresholds(half, torch.ones_like(half), torch.zeros(1))
        bits = compare(Sums(packed, one, 2, (1, 0)), following, Shape(), thresholds)
        pooled = F.max_pool2d(multiply(packed, one)[[1, 0]], 2)
        assert bits.bits.tolist() == pack(pooled, following, Shape(), thresholds, 2).bits.tolist()


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
