"""Crossbars against the digital layer, bit for bit; what is not ideal shows where it must."""

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hardware.cells import Imperfections, manufacture
from hardware.crossbar import CrossbarLayer
from hardware.mapping import Crossbar, exact_adc_bits, tile_rows
from hardware.network import calibrate, on_crossbar
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import sampling
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.plans import draw_plan
from lit_scaledrop.posterior.posterior import PosteriorPredictive

LAYOUTS = ("unrolled", "kernel_split")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def signs(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    groups=st.sampled_from([1, 1, 2]),
    channels=st.tuples(st.integers(1, 7), st.integers(1, 5)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    rows=st.integers(1, 40),
    layout=st.sampled_from(LAYOUTS),
)
def test_ideal_crossbar_is_the_digital_convolution(
    seed, groups, channels, kernel, stride, padding, dilation, rows, layout
):
    generator = seeded(seed)
    c_in, c_out = (groups * c for c in channels)
    x = signs(2, c_in, 9, 10, generator=generator)
    weight = signs(c_out, c_in // groups, *kernel, generator=generator)
    size = [n + 2 * p - dilation * (k - 1) for n, p, k in zip((9, 10), padding, kernel, strict=True)]
    assert min(size) > 0
    shape = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    crossbar = Crossbar(rows, 3, mapping=layout)
    expected = F.conv2d(x, weight, None, **shape)
    biggest = max(1, min(rows, weight[0].numel() if layout == "unrolled" else weight.shape[1]))
    for bits in (None, exact_adc_bits(biggest)):
        layer = CrossbarLayer(weight, crossbar, Imperfections(adc_bits=bits), **shape)
        assert torch.equal(layer(x), expected)
    # the same devices without the short cut for ideal ones
    layer = CrossbarLayer(weight, crossbar, Imperfections(conductance_cv=1e-12), generator, **shape)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-3)


def by_matrix_products(x, weight, crossbar, imperfect, generator, ranges=None, **shape):
    """A convolution tile by tile in float64 on its unfolded inputs: match and miss lines, converters, partial sums.

    And where a column's value lies on the edge between two codes, so that either is right: that of no driven line may.
    """
    area = weight[0, 0].numel()
    columns = F.unfold(x, weight.shape[2:], **shape)
    order = torch.arange(weight[0].numel())
    if crossbar.mapping == "kernel_split":
        order = order.unflatten(0, (-1, area)).t().flatten()
    sizes = tile_rows(len(order), area, crossbar.rows, crossbar.mapping)
    total, edge = 0, torch.zeros(())
    for tile, places in enumerate(order.split(sizes)):
        cells = manufacture(weight.flatten(1)[:, places], 1, imperfect, generator)
        driven = columns[:, places].double()
        read = cells.match @ (driven > 0).double() + cells.miss @ (driven < 0).double()
        if imperfect.adc_bits is not None:
            low, high = (0, len(places)) if ranges is None else ranges[tile]
            step = max(1, (high - low) / (2**imperfect.adc_bits - 1))
            codes = low + step * torch.arange(2**imperfect.adc_bits).double()
            if step > 1:
                # half of the rows is on a code
                nearest = (codes - len(places) / 2)[(codes - len(places) / 2 - 1e-9).abs().argmin()]
                codes = codes - nearest
            distance = (read[..., None] - codes).abs()
            nearest, second = distance.topk(2, -1, largest=False).values.unbind(-1)
            edge = edge + (second - nearest < 1e-4)
            read = codes[distance.argmin(-1)]
        total = total + 2 * read - driven.abs().sum(1, keepdim=True)
    return total, edge > 0


@settings(max_examples=25)
@example(0, (5, 1), 1, 1, 1, 0.0, 5, 2, False, "unrolled")
@given(
    seed=st.integers(0, 2**31),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 4)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dropped=st.sampled_from([0.0, 0.0, 0.3]),
    rows=st.integers(1, 30),
    bits=st.sampled_from([None, 2, 4]),
    calibrated=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
def test_tiles_are_matrix_products(seed, channels, kernel, stride, padding, dropped, rows, bits, calibrated, layout):
    generator = seeded(seed)
    c_in, c_out = channels
    x = signs(2, c_in, 7, 6, generator=generator)
    x = x * (torch.rand(x.shape, generator=generator) >= dropped)
    weight = signs(c_out, c_in, kernel, kernel, generator=generator)
    shape = {"stride": stride, "padding": padding}
    imperfect = Imperfections(adc_bits=bits, conductance_cv=0.1, stuck_p=0.05, stuck_ap=0.05)
    crossbar = Crossbar(rows, 3, mapping=layout)
    layer = CrossbarLayer(weight, crossbar, imperfect, seeded(seed), **shape)
    ranges = [(-1.0, 0.7 * rows + tile) for tile in range(layer.tiles)] if calibrated else None
    if ranges:
        layer.converters.set_range(ranges)
    expected, edge = by_matrix_products(x, weight, crossbar, imperfect, seeded(seed), ranges, **shape)
    got = layer(x)
    wrong = (got.flatten(2) - expected).abs() > 1e-3
    assert not (wrong & ~edge).any()
    # what is kept of the word lines fits other inputs of the same size, and no others
    wrong = (layer(x[:1]) - got[:1]).abs().flatten(2) > 1e-3
    assert not (wrong & ~edge.expand_as(expected)[:1]).any()
    assert layer(x[..., :5]).shape[3] == F.conv2d(x[..., :5], weight, **shape).shape[3]


def test_same_padding_and_dropped_inputs():
    generator = seeded()
    x = signs(3, 4, 6, 6, generator=generator)
    x = x * (torch.rand(x.shape, generator=generator) < 0.7) * 1.25
    weight = signs(5, 4, 3, 2, generator=generator)
    expected = F.conv2d(x, weight, None, padding="same", dilation=2)
    for layout in LAYOUTS:
        layer = CrossbarLayer(weight, Crossbar(7, mapping=layout), padding="same", dilation=2)
        assert torch.equal(layer(x), expected)
    assert layer(x[:0]).shape == (0, 5, 6, 6)
    assert CrossbarLayer(torch.ones(3, 4))(torch.ones(0, 2, 4)).shape == (0, 2, 3)
    assert torch.equal(CrossbarLayer(weight)(x), F.conv2d(x, weight))
    with pytest.raises(ValueError, match="stride 1"):
        CrossbarLayer(weight, padding="same", stride=2)


@pytest.mark.parametrize("rows", [7, 8, 127, 128])
def test_adc_bits_that_are_needed(rows):
    """All sums of one tile: enough bits tell them apart, one fewer does not."""
    weight = torch.ones(1, rows)
    x = torch.where(torch.arange(rows) < torch.arange(rows + 1)[:, None], 1.0, -1.0)
    need = (rows + 1 - 1).bit_length()
    assert exact_adc_bits(rows) == need
    expected = F.linear(x, weight)
    assert torch.equal(CrossbarLayer(weight, Crossbar(rows), Imperfections(adc_bits=need))(x), expected)
    short = CrossbarLayer(weight, Crossbar(rows), Imperfections(adc_bits=need - 1))(x)
    assert not torch.equal(short, expected)
    # half a step of the converter is at most what is lost, two in the sum for each match
    step = rows / (2 ** (need - 1) - 1)
    assert (short - expected).abs().max() <= step + 1e-4


@pytest.mark.parametrize("method", ["proposed", "irnet", "dorefa", "recu", "spindrop", "spatial_spindrop"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_networks_on_crossbars(method, layout):
    torch.manual_seed(0)
    net = build_network("resnet20", METHODS[method], width=0.125).eval()
    x = torch.randn(2, 3, 32, 32)
    plan = draw_plan(net, 2, 0)
    chip = on_crossbar(net, Crossbar(16, mapping=layout), Imperfections(adc_bits=8))
    assert sum(isinstance(m, CrossbarLayer) for m in chip.modules()) == 18
    with torch.no_grad():
        for draws in ({name: d[:0] for name, d in plan.draws.items()}, plan.single(0), plan.single(1)):
            if draws and not len(next(iter(draws.values()))):
                expected, ours = net(x), chip(x)
            else:
                # the names of random layers stay, so the network's plans are the chip's
                with sampling(net, draws):
                    expected = net(x)
                with sampling(chip, draws):
                    ours = chip(x)
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("method", ["proposed", "mc_dropout_irnet", "spatial_spindrop"])
def test_prefixes_are_shared_through_crossbars(method):
    torch.manual_seed(0)
    net = build_network("lenet5", METHODS[method], width=0.5).eval()
    for layer in net.modules():
        if isinstance(layer, ScaleDropout):
            nn.init.uniform_(layer.scale, 0.3, 1.7)
    chip = on_crossbar(net, Crossbar(32), Imperfections(adc_bits=4, conductance_cv=0.1), seeded())
    x = torch.randn(3, 3, 32, 32)
    loop, shared = (PosteriorPredictive(chip, 8, execution=kind) for kind in ("loop", "shared"))
    work, rows = shared.passes(x), []
    layers = [m for m in chip.modules() if isinstance(m, CrossbarLayer)]
    hooks = [layer.register_forward_hook(lambda _, __, output: rows.append(len(output))) for layer in layers]
    together = shared(x).logits
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(together, loop(x).logits, rtol=1e-4, atol=1e-4)
    # the first layer is the same in all passes, unless its own inputs are dropped; MC-Dropout drops behind the last
    assert (rows[0] == 3) == (method != "spatial_spindrop")
    assert (set(rows) == {3}) == (method == "mc_dropout_irnet")
    assert work < 8


@pytest.mark.parametrize("cause", ["conductance_cv", "stuck_p", "stuck_ap", "wire_ohm_per_cell"])
def test_what_is_not_ideal_grows_with_its_cause(cause):
    generator = seeded()
    x, weight = signs(20, 300, generator=generator), signs(600, 300, generator=generator)
    expected = F.linear(x, weight)
    scale = 20 if cause == "wire_ohm_per_cell" else 1
    layers = [CrossbarLayer(weight, None, Imperfections(**{cause: v * scale}), seeded()) for v in (0.002, 0.02, 0.2)]
    errors = [float((layer(x) - expected).norm() / expected.norm()) for layer in layers]
    assert 0 < errors[0] < errors[1] < errors[2], errors
    if cause == "conductance_cv":
        # n devices a sum, half of them in HRS at 1 / 1.1 of the window and half in LRS at 1 more; the sum counts twice
        n, levels = 300, ((1 / 1.1) ** 2 + (1 + 1 / 1.1) ** 2) / 2
        deviation = (layers[1](x) - expected).std().item()
        assert deviation == pytest.approx(2 * 0.02 * (n * levels) ** 0.5, rel=0.1)


def test_devices_of_a_cell():
    generator = seeded()
    weight = signs(200, 100, generator=generator)
    ideal = manufacture(weight, 1, Imperfections(), generator)
    assert torch.equal(ideal.match, (weight > 0).double())
    assert torch.equal(ideal.match + ideal.miss, torch.ones_like(ideal.match))
    cells = manufacture(weight, 1, Imperfections(stuck_p=0.1, stuck_ap=0.2, tmr=1.0), generator)
    pair = cells.match, cells.miss
    for device, low in zip(pair, (weight > 0, weight < 0), strict=True):
        n = low.sum()
        assert abs(device[low].mean() - 0.8) < 5 * (0.16 / n) ** 0.5
        assert abs(device[~low].mean() - 0.1) < 5 * (0.09 / n) ** 0.5
    noisy = manufacture(weight, 1, Imperfections(conductance_cv=0.05, tmr=1.0), generator).match
    # in units of the window LRS is at 2, HRS at 1: deviations of 5 % of those
    for low, level in ((True, 2.0), (False, 1.0)):
        values = noisy[(weight > 0) == low]
        assert values.mean().item() == pytest.approx(float(low), abs=5 * 0.05 * level / 100)
        assert values.std().item() == pytest.approx(0.05 * level, rel=0.05)


def test_calibrated_range_needs_fewer_bits():
    generator = seeded()
    weight = torch.ones(4, 120)
    x = torch.where(torch.rand(50, 120, generator=generator) < 0.5, 1.0, -1.0)
    chip = nn.Sequential(CrossbarLayer(weight, imperfect=Imperfections(adc_bits=6)))
    expected = F.linear(x, weight)
    before = chip(x)
    calibrate(chip, [x[:25], x[25:]])
    assert not torch.equal(before, expected)
    assert torch.equal(chip(x), expected)
    calibrate(chip, [x], lambda batch: chip(batch[:5]))
    assert not torch.equal(chip(x), expected)
    # what lies outside of the range is cut off
    assert (chip(torch.ones(1, 120)) < 120).all()
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate(chip, [])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no binary layer"):
        on_crossbar(build_network("lenet5", METHODS["fp"]))
    with pytest.raises(ValueError, match="at random"):
        on_crossbar(build_network("lenet5", METHODS["spinbayes"]))
    with pytest.raises(ValueError, match="binary weights"):
        CrossbarLayer(torch.tensor([[1.0, 0.5]]))
    with pytest.raises(ValueError, match="-c, 0 or c"):
        CrossbarLayer(torch.ones(1, 2))(torch.tensor([[1.0, 0.5]]))
    with pytest.raises(ValueError, match="generator"):
        CrossbarLayer(torch.ones(1, 2), imperfect=Imperfections(conductance_cv=0.1))
    for bad in ({"adc_bits": 0}, {"stuck_p": 0.6, "stuck_ap": 0.6}, {"tmr": 0.0}, {"conductance_cv": -0.1}):
        with pytest.raises(ValueError, match="|".join(bad)):
            Imperfections(**bad)


def test_a_chip_is_one_state_of_the_generator():
    weight = torch.ones(3, 5)
    x = torch.ones(1, 5)
    imperfect = Imperfections(conductance_cv=0.2)
    outputs = [CrossbarLayer(weight, None, imperfect, seeded(seed))(x) for seed in (0, 0, 1)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    for layout, rows in itertools.product(LAYOUTS, (2, 5)):
        state = torch.get_rng_state()
        CrossbarLayer(weight, Crossbar(rows, mapping=layout), imperfect, seeded())(x)
        assert torch.equal(state, torch.get_rng_state())


def test_a_layer_in_two_places_is_one_crossbar_and_a_layer_alone_is_one_too():
    torch.manual_seed(0)
    layer, x = METHODS["proposed"].linear_layer(6, 6).eval(), torch.randn(4, 6)
    net = nn.Sequential(layer, nn.Hardtanh(), layer)
    chip = on_crossbar(net)
    assert isinstance(chip[0], CrossbarLayer)
    assert chip[0] is chip[2]
    assert torch.equal(chip(x), net(x))
    alone = on_crossbar(layer)
    assert isinstance(alone, CrossbarLayer)
    assert torch.equal(alone(x), layer(x))
