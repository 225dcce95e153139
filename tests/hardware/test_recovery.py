"""What a chip is given back: nothing where nothing is wrong, and all of what is constant."""

import copy

import pytest
import torch
from torch import nn

from hardware.cells import Imperfections
from hardware.crossbar import CrossbarLayer
from hardware.mapping import Crossbar
from hardware.network import calibrate, crossbar_layers, on_crossbar
from hardware.recovery import correct_norms, recover, replace_columns
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network():
    """LeNet-5 with statistics of its own images, as if it were trained."""
    torch.manual_seed(0)
    made = build_network("lenet5", METHODS["proposed"])
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(layer.bias, std=0.3)
        made.train()
        for _ in range(20):
            made(images())
    return made.eval()


def images(seed=0, count=64):
    return torch.randn(count, 3, 32, 32, generator=seeded(seed))


def posterior(network):
    return PosteriorPredictive(network, 4)


def test_an_ideal_chip_stays_as_it_is(network):
    chip = on_crossbar(network, Crossbar(32, 32), Imperfections(adc_bits=6))
    before = {name: value.clone() for name, value in chip.state_dict().items()}
    recover(chip, network, [images()], posterior(chip), posterior(network), spare_columns=4, generator=seeded())
    after = chip.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    # of other images some sums may lie below the ranges that were set
    assert torch.equal(posterior(chip)(images()).logits, posterior(network)(images()).logits)


def test_a_constant_of_each_column_is_taken_off(network):
    """Offsets in front of BatchNorm, and a factor, which is what a gain is: sums come out as they were."""
    chip = copy.deepcopy(on_crossbar(network))
    for seed, layer in enumerate(crossbar_layers(chip)):
        shape = [len(layer.factor)] if layer.linear else [len(layer.factor), 1, 1]
        offset = 9 * torch.randn(shape, generator=seeded(seed))
        gain = 1 + 0.2 * torch.rand(shape, generator=seeded(seed))
        layer.register_forward_hook(lambda _, __, out, offset=offset, gain=gain: out * gain + offset)
    x = images(1)
    expected = posterior(network)(x).logits
    assert not torch.allclose(posterior(chip)(x).logits, expected, atol=0.05)
    correct_norms(chip, network, [images()], posterior(chip), posterior(network))
    got = posterior(chip)(x).logits
    # the scales are 1, kept or dropped; rounding flips a sign here and there
    assert (got - expected).abs().gt(1e-3).double().mean() < 0.02
    statistics = {name: value.clone() for name, value in chip.state_dict().items()}
    correct_norms(chip, network, [images()], posterior(chip), posterior(network))
    again = chip.state_dict()
    assert all(torch.allclose(value, again[name], rtol=1e-3, atol=1e-3) for name, value in statistics.items())


def test_all_rows_at_once_or_pass_by_pass(network):
    """The chip runs once, or once for each BatchNorm: with the same statistics."""
    wrong = Imperfections(conductance_cv=0.1, real_reference=True)
    found, calls = [], []
    for how in ({"execution": "loop"}, {"execution": "folded", "row_budget": 256}):
        chip = on_crossbar(network, None, wrong, seeded())
        run, digital_run = (PosteriorPredictive(made, 4, **how) for made in (chip, network))
        first = crossbar_layers(chip)[0]
        hook = first.register_forward_hook(lambda *_: calls.append(0))
        correct_norms(chip, network, [images()], run, digital_run)
        hook.remove()
        found.append(chip.state_dict())
        calls.append(-1)
    assert calls == [0] * 4 * 4 + [-1, 0, -1]  # four BatchNorms in four passes
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-3)


def test_offsets_and_gains_of_converters_leave_no_trace(network):
    wrong = Imperfections(adc_bits=6, adc_offset_matches=4.0, adc_gain_cv=0.1)
    chip, ideal = (on_crossbar(network, None, what, seeded()) for what in (wrong, Imperfections(adc_bits=6)))
    for made in (chip, ideal):
        calibrate(made, [images()])
    x = images(1)
    assert not torch.equal(chip(x), ideal(x))
    recover(chip, network, [images()])
    recover(ideal, network, [images()])
    assert torch.equal(chip(x), ideal(x))


@pytest.mark.parametrize(
    "wrong",
    [
        Imperfections(adc_bits=8, conductance_cv=0.1, real_reference=True),
        Imperfections(adc_bits=8, wire_ohm_per_cell=10.0),
        Imperfections(adc_bits=8, adc_offset_matches=2.0, adc_gain_cv=0.05),
    ],
)
def test_channels_behind_batchnorm_come_nearer(network, wrong):
    """Paired: the first layer on a crossbar, the same devices before and after."""
    chip = on_crossbar(network, None, wrong, seeded())
    first = next(name for name, layer in chip.named_modules() if isinstance(layer, CrossbarLayer))
    norm = first.rpartition(".")[0] + ".norm"

    def behind(made):
        seen = []
        hook = made.get_submodule(norm).register_forward_hook(lambda _, __, out: seen.append(out))
        made(images(1))
        hook.remove()
        return seen[0]

    expected = behind(network)
    before = (behind(chip) - expected).square().mean()
    recover(chip, network, [images()], spare_columns=4, generator=seeded(5))
    assert (behind(chip) - expected).square().mean() < 0.7 * before


def test_spare_columns_replace_the_worst():
    generator = seeded()
    weight = torch.randint(0, 2, (2, 40, 60), generator=generator)[0] * 2.0 - 1
    imperfect = Imperfections(conductance_cv=0.2, stuck_p=0.02)
    chip = nn.Sequential(CrossbarLayer(weight, Crossbar(60, 20), imperfect, seeded(1)))
    layer = chip[0]
    x = torch.randint(0, 2, (4000, 60), generator=generator) * 2.0 - 1
    exact = x @ weight.T

    def errors():
        return (layer(x) - exact).square().mean(0)

    before, devices = errors(), layer.cells[0][0]
    replaced = replace_columns(chip, 3, seeded(2))
    after = errors()
    changed = (before - after).abs() > 1e-3 * before
    assert int(changed.sum()) == replaced > 0
    assert (after[changed] < before[changed]).all()
    for block in (slice(0, 20), slice(20, 40)):
        worst = before[block].argsort(descending=True)[:4]  # measured, so that neighbours may have changed places
        assert set(changed[block].nonzero().flatten().tolist()) <= set(worst.tolist())
    others = ~changed
    assert torch.equal(layer.cells[0][0].match[others], devices.match[others])
    nominal = nn.Sequential(CrossbarLayer(weight, Crossbar(60, 20)))
    assert replace_columns(nominal, 3, seeded()) == 0


def test_what_cannot_be_corrected_is_refused(network):
    chip = on_crossbar(network)
    with pytest.raises(ValueError, match="at least one batch"):
        correct_norms(chip, network, [])
    with pytest.raises(ValueError, match="another network"):
        correct_norms(chip, nn.Sequential(nn.BatchNorm2d(3)), [images()])
