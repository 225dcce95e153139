"""Converters, noise and a real reference column against closed forms."""

import pytest
import torch

from hardware.cells import Imperfections, cells_of, manufacture
from hardware.constants import Preset
from hardware.crossbar import CrossbarLayer
from hardware.mapping import Crossbar, exact_adc_bits
from hardware.network import calibrate
from hardware.presets import components

ROWS = 128


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def signs(*shape, seed=0):
    return torch.randint(0, 2, shape, generator=seeded(seed)) * 2.0 - 1


def matches(layer, x):
    return (layer(x) + x.shape[-1]) / 2


def error(imperfect, x, weight, crossbar=None, seed=3):
    """What a layer's sums are off, in matches."""
    made = CrossbarLayer(weight, crossbar, imperfect, seeded(seed), seeded(seed + 1))
    return matches(made, x) - matches(CrossbarLayer(weight, crossbar), x)


def test_offsets_are_drawn_once_for_each_converter():
    x, weight = signs(50, ROWS), signs(4096, ROWS, seed=1)
    off = error(Imperfections(adc_offset_matches=2.0), x, weight)
    assert off.std(0).max() < 1e-4  # the same at every read
    of_converter = off[0].unflatten(0, (-1, 8))
    assert (of_converter - of_converter[:, :1]).abs().max() < 1e-4  # eight columns share one
    assert of_converter[:, 0].std().item() == pytest.approx(2.0, rel=3 / (2 * 512) ** 0.5)
    # blocks of 10 columns take three converters each, of 4, 4 and 2 columns
    off = error(Imperfections(adc_offset_matches=2.0), x, weight[:20], Crossbar(columns=10, columns_per_adc=4))[0]
    borders = ((off[1:] - off[:-1]).abs() > 1e-3).nonzero().flatten() + 1
    assert borders.tolist() == [4, 8, 10, 14, 18]


def test_gain_errors_are_in_proportion():
    x, weight = signs(50, ROWS), signs(4096, ROWS, seed=1)
    gain = error(Imperfections(adc_gain_cv=0.03), x, weight) / matches(CrossbarLayer(weight), x)
    assert gain.std(0).max() < 1e-5
    assert gain[0, ::8].std().item() == pytest.approx(0.03, rel=3 / (2 * 512) ** 0.5)


def test_bow_is_that_of_the_whole_range():
    """Inputs from no to all matches: a parabola of so many steps, which ends where it began."""
    x = torch.where(torch.arange(240) < torch.arange(241)[:, None], 1.0, -1.0)
    made = CrossbarLayer(torch.ones(1, 240), Crossbar(240), Imperfections(adc_bits=4, adc_inl_steps=2.0), seeded())
    ((low, step),) = made.converters.scale
    bow = made.converters.bow.item()
    assert abs(bow) > 0.1
    y = (torch.arange(241) - low) / step
    bent = y + 4 * bow * (y / 15) * (1 - y / 15)
    codes = (matches(made, x)[:, 0] - low) / step
    assert (codes - codes.round()).abs().max() < 1e-4
    away = (bent - bent.floor() - 0.5).abs() > 1e-3
    assert torch.equal(codes.round()[away], bent.round().clamp(0, 15)[away])
    spread = CrossbarLayer(torch.ones(8192, 8), None, Imperfections(adc_bits=4, adc_inl_steps=2.0), seeded())
    assert spread.converters.bow[0, ::8].std().item() == pytest.approx(2.0, rel=3 / (2 * 1024) ** 0.5)


@pytest.mark.parametrize("bits", [5, 6])
def test_quantization_noise(bits):
    """Sums far wider than a step: the error is uniform within a step, its deviation step / sqrt(12)."""
    share = torch.rand(4000, 1, generator=seeded())
    x = torch.where(torch.rand(4000, ROWS, generator=seeded(1)) < share, 1.0, -1.0)
    step = ROWS / (2**bits - 1)
    off = error(Imperfections(adc_bits=bits), x, torch.ones(1, ROWS))
    assert off.abs().max() <= step / 2 + 1e-4
    assert off.std().item() == pytest.approx(step / 12**0.5, rel=0.03)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("rows", [72, 127, 128])
def test_half_of_the_rows_lies_on_a_code(bits, rows):
    made = CrossbarLayer(torch.ones(1, rows), Crossbar(rows), Imperfections(adc_bits=bits))
    for low_high in ((0.0, float(rows)), (rows * 0.21, rows * 0.83)):
        made.converters.set_range([low_high])
        ((low, step),) = made.converters.scale
        place = (rows / 2 - low) / step
        if step > 1:
            assert place == pytest.approx(round(place), abs=1e-6)
            assert low == pytest.approx(low_high[0], abs=step / 2 + 1e-6)
        if bits >= exact_adc_bits(rows):
            assert (low, step) == (low_high[0], 1)


def test_noise_is_another_at_each_read_and_as_strong_as_asked_for():
    x, weight = signs(1, ROWS).expand(2000, -1), signs(16, ROWS, seed=1)
    noise = error(Imperfections(adc_noise_matches=0.7), x, weight)
    assert noise.std().item() == pytest.approx(0.7, rel=0.02)
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < 0.12
    count = matches(CrossbarLayer(weight), x)[0]
    cv, high = 0.02, 1 / 1.1
    read = error(Imperfections(read_noise_cv=cv), x, weight)
    expected = cv * (count * (1 + high) ** 2 + (ROWS - count) * high**2 + ROWS * high**2) ** 0.5
    torch.testing.assert_close(read.std(0), expected, rtol=0.08, atol=0)
    assert (read.mean(0).abs() < 5 * expected / 2000**0.5).all()
    both = error(Imperfections(read_noise_cv=cv, adc_noise_matches=0.7), x, weight)
    torch.testing.assert_close(both.std(0), (expected**2 + 0.49) ** 0.5, rtol=0.08, atol=0)
    # nothing conducts where no line is on
    assert not CrossbarLayer(weight, None, Imperfections(read_noise_cv=cv), None, seeded())(0 * x).any()


def test_noise_needs_and_uses_its_own_generator():
    weight, x = signs(4, 9), signs(2, 9, seed=1)
    with pytest.raises(ValueError, match="generator of its own: noise="):
        CrossbarLayer(weight, None, Imperfections(adc_noise_matches=0.1), seeded())
    with pytest.raises(ValueError, match="need a generator"):
        CrossbarLayer(weight, None, Imperfections(adc_offset_matches=0.1))
    with pytest.raises(ValueError, match="give adc_bits"):
        Imperfections(adc_inl_steps=0.5)
    state = torch.get_rng_state()
    made = CrossbarLayer(weight, None, Imperfections(adc_noise_matches=0.1), None, seeded(5))
    again = CrossbarLayer(weight, None, Imperfections(adc_noise_matches=0.1), None, seeded(5))
    first = made(x)
    assert torch.equal(first, again(x))
    assert not torch.equal(first, made(x))
    assert torch.equal(state, torch.get_rng_state())


def test_the_reference_column_is_made_of_the_same_devices():
    """At 10 % the columns of a tile have 1.03 matches in common: sqrt(128) devices of 0.1 / TMR."""
    x, weight = signs(1, ROWS), signs(64 * 300, ROWS, seed=1)
    crossbar = Crossbar(columns=64)
    varied = Imperfections(conductance_cv=0.1, real_reference=True)
    off = error(varied, x, weight, crossbar)[0].unflatten(0, (300, 64))
    high, count = 1 / 1.1, ROWS / 2
    own = 0.1 * (count * (1 + high) ** 2 + count * high**2) ** 0.5
    common = 0.1 * (ROWS * high**2) ** 0.5
    assert common == pytest.approx(1.03, abs=0.005)
    assert own == pytest.approx(1.69, abs=0.005)
    # each block's mean has the reference and a 64th of its columns' variance
    assert off.mean(1).std().item() == pytest.approx((common**2 + own**2 / 64) ** 0.5, rel=0.15)
    assert off.std(1).mean().item() == pytest.approx(own, rel=0.02)
    ideal = error(Imperfections(conductance_cv=0.1), x, weight, crossbar)[0].unflatten(0, (300, 64))
    assert ideal.mean(1).std().item() == pytest.approx(own / 8, rel=0.15)
    # stuck in LRS, it takes off what no column has
    off = error(Imperfections(stuck_p=0.1, real_reference=True), x, weight, crossbar)[0].unflatten(0, (300, 64))
    assert off.mean().item() == pytest.approx(0.1 * count - 0.1 * ROWS, rel=0.05)


def test_the_reference_leaves_the_other_devices_as_they_were():
    weight = signs(20, 30)
    with_it, without = (
        manufacture(weight, 2, Imperfections(conductance_cv=0.2, real_reference=real), seeded())
        for real in (True, False)
    )
    assert torch.equal(with_it.match, without.match)
    assert torch.equal(with_it.miss, without.miss)
    assert with_it.reference.shape == (2, 2, 30)
    assert not without.reference.any()


def test_trimmed_converters_are_those_without_error():
    x, weight = signs(50, ROWS), signs(64, ROWS, seed=1)
    wrong = Imperfections(adc_bits=5, adc_offset_matches=3.0, adc_gain_cv=0.05)
    made = CrossbarLayer(weight, None, wrong, seeded())
    ideal = CrossbarLayer(weight, None, Imperfections(adc_bits=5))
    for layer in (made, ideal):
        calibrate(layer, [x])
    assert not torch.equal(made(x), ideal(x))
    made.converters.trim()
    calibrate(made, [x])
    assert torch.equal(made(x), ideal(x))


def test_cells_are_those_of_the_constants():
    """The defaults of a chip are those of components.yaml, so that energy and simulation have the same cells."""
    preset = components()
    assert cells_of(preset) == Imperfections()
    assert cells_of(preset, adc_bits=4).adc_bits == 4
    other = {name: constant for name, constant in preset.constants.items() if name != "cell_tmr"}
    changed = preset.constants["cell_tmr"].__class__(2.0, "1", "mine", "assumed")
    made = cells_of(Preset("mine", {**other, "cell_tmr": changed}))
    assert (made.tmr, made.resistance_p_kohm) == (2.0, 1000.0)
