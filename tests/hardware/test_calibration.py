"""Calibrated drives against binomial and DAC closed forms, the loop against its stationary variance, lag and memory."""

import math
from dataclasses import replace

import pytest
import torch

from hardware.calibration import Calibration, Drive, aged, follow, slope_per_v
from hardware.devices import load_device
from hardware.drop_probability import DeviceProbability
from hardware.mtj import DeviceVariation, vary

SOT, SPREAD = load_device("sot_80nm")
CHIPS = 4000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def off_by(cv):
    return DeviceVariation(threshold_cv=cv)


def calibrated(calibration, p, cv, chips=CHIPS, device=SOT):
    wafer = vary(device, off_by(cv), (chips,), seeded())
    wanted = torch.full((chips,), p, dtype=torch.float64)
    return wafer.probability(calibration.voltage(device, wafer, wanted, off_by(cv), seeded(1)))


@pytest.mark.parametrize(("p", "trials"), [(0.5, 100), (0.5, 1000), (0.2, 400), (0.1, 1000)])
def test_the_error_of_many_trials_is_binomial(p, trials):
    got = calibrated(Calibration(trials), p, 0.0224)
    # a spread of 0.9 widths of the curve is not quite linear
    assert got.std().item() == pytest.approx(math.sqrt(p * (1 - p) / trials), rel=0.12)
    assert got.mean().item() == pytest.approx(p, abs=0.004)


@pytest.mark.parametrize("trials", [4, 20, 100])
def test_the_error_of_few_trials_has_the_spread_in_it(trials):
    """A spread of 2 mV, which is linear: 1 / (1 / prior + N / (p q)) in units of p."""
    cv, p = 0.002, 0.5
    prior = (11.15 * 0.894 * cv) ** 2
    expected = math.sqrt(1 / (1 / prior + trials / (p * (1 - p))))
    calibration = Calibration(trials)
    assert calibration.expected_error(SOT, p, off_by(cv)).item() == pytest.approx(expected, rel=1e-3)
    assert calibrated(calibration, p, cv).std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("bits", [8, 10])
def test_the_converter_adds_its_step(bits):
    """1.1 V in 255 and 1023 steps: 4.3 and 1.1 mV."""
    trials, p, cv = 400, 0.5, 0.01
    step = 1.1 / (2**bits - 1)
    # the logistic curve is averaged over a step, which bends where the step is wide
    codes = torch.linspace(-0.5, 0.5, 2001, dtype=torch.float64) * step
    by_step = (torch.sigmoid(44.6 * codes) - 0.5).square().mean().item()
    expected = math.sqrt(p * (1 - p) / trials + by_step)
    assert calibrated(Calibration(trials, bits), p, cv).std().item() == pytest.approx(expected, rel=0.1)
    assert Calibration(trials, bits).expected_error(SOT, p, off_by(cv)).item() == pytest.approx(expected, rel=0.03)


def test_a_drive_has_the_codes_of_its_converter():
    drive = Drive(1.1, 3)
    assert drive.step_v == pytest.approx(1.1 / 7)
    volts = drive.voltage(torch.tensor([-1.0, 0.07, 0.08, 0.5, 3.0], dtype=torch.float64))
    assert (volts / drive.step_v).tolist() == pytest.approx([0, 0, 1, 3, 7])
    assert Drive(1.1).voltage(0.123).item() == 0.123
    assert Drive(1.1).step_v == 0


@pytest.mark.parametrize("gain", [0.01, 0.04])
def test_the_loops_stationary_variance(gain):
    p, draws = 0.5, 800
    many = vary(SOT, DeviceVariation(), (800,), seeded())
    seen = follow(many, p, torch.full((800,), 0.894), gain, Drive(1.1), torch.ones(draws), seeded())
    late = seen[draws // 2 :]
    assert late.std().item() == pytest.approx(math.sqrt(gain * p * (1 - p) / (2 - gain)), rel=0.05)
    assert late.mean().item() == pytest.approx(p, abs=0.005)


def test_the_loop_forgets_an_offset_and_lags_behind_a_drift():
    p, gain, draws = 0.5, 0.05, 400
    many = vary(SOT, DeviceVariation(), (3000,), seeded())
    slope = slope_per_v(SOT, torch.tensor(0.894, dtype=torch.float64)).item()
    assert slope == pytest.approx(11.15, rel=1e-3)
    off = torch.full((3000,), 0.894 + 0.05 / slope)
    errors = follow(many, p, off, gain, Drive(1.1), torch.ones(60), seeded()).mean(1) - p
    for draw in (0, 10, 30):
        assert errors[draw].item() == pytest.approx(0.05 * (1 - gain) ** draw, abs=0.006)
    # the threshold rises by 0.1 mV a draw: p falls by 0.1 mV x slope
    drift = 1 + 1e-4 / 0.894 * torch.arange(draws, dtype=torch.float64)
    late = follow(many, p, torch.full((3000,), 0.894), gain, Drive(1.1), drift, seeded())[-100:]
    assert late.mean().item() - p == pytest.approx(-1e-4 * slope / gain, rel=0.1)
    # without a loop it would have left
    assert SOT.probability(0.894 / float(drift[-1])).item() < 0.16


def test_what_a_calibration_costs():
    p = torch.tensor([0.1, 0.5])
    calibration = Calibration(200)
    assert calibration.energy_pj(SOT, p) == pytest.approx(200 * (0.8187 + 1.3666), rel=1e-3)
    assert calibration.time_ns(SOT, p) == 200 * 2 * 2.5


def test_a_chip_that_is_calibrated():
    wanted = torch.tensor([0.1, 0.2, 0.5, 0.0, 1.0])
    errors = {}
    for name, calibration in (("none", None), ("once", Calibration(150))):
        population = DeviceProbability(SOT, SPREAD, calibration=calibration)
        chips = torch.stack(
            [population.manufacture(seeded(seed)).probability(wanted, seeded(seed + 100)) for seed in range(40)]
        )
        assert chips[:, 3:].unique(dim=0).tolist() == [[0.0, 1.0]]
        errors[name] = (chips[:, :3] - wanted[:3]).std(0)
    binomial = (wanted[:3] * (1 - wanted[:3]) / 150).sqrt()
    assert (errors["once"] / binomial).tolist() == pytest.approx([1, 1, 1], rel=4 / math.sqrt(80))
    assert (errors["none"] > 2.5 * errors["once"]).all()


def test_temperature_undoes_a_calibration_and_another_one_mends_it():
    wanted = torch.full((2000,), 0.5, dtype=torch.float64)
    hot = {
        kelvin: DeviceProbability(SOT, SPREAD, 330.0, calibration=Calibration(300, temperature_k=kelvin))
        for kelvin in (None, 330.0)
    }
    got = {kelvin: each.probability(wanted, seeded()) for kelvin, each in hot.items()}
    # calibrated at 300 K: as the nominal drive at 330 K
    assert got[None].mean().item() == pytest.approx(SOT.probability(0.894, 330.0).item(), abs=0.02)
    assert got[330.0].mean().item() == pytest.approx(0.5, abs=0.005)
    assert got[330.0].std().item() == pytest.approx(math.sqrt(0.25 / 300), rel=0.1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Calibration(0), "at least one trial"),
        (lambda: Calibration(10, bits=-1), "1 to 24, or 0"),
        (lambda: Drive(math.inf), "largest voltage"),
        (
            lambda: Calibration(10).expected_error(replace(SOT, max_voltage_v=math.inf), 0.5, off_by(0.01)),
            "largest voltage",
        ),
        (lambda: follow(SOT, 0.5, 0.9, 1.0, Drive(1.1), torch.ones(2), seeded()), "gain of a loop"),
    ],
)
def test_what_cannot_be(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_ageing_goes_with_the_logarithm():
    hours = torch.tensor([0.0, 9.0, 99.0, 999.0], dtype=torch.float64)
    assert aged(hours, 0.01).tolist() == pytest.approx([1, 1.01, 1.02, 1.03])


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_a_spread_of_slopes_is_found_as_well(p):
    """Junctions that share their threshold and differ in slope: what is left after N draws is nearly binomial."""
    spread, count = DeviceVariation(threshold_cv=0.001, slope_cv=0.3), 4000
    wafer, wanted = vary(SOT, spread, (count,), seeded(0)), torch.full((count,), p, dtype=torch.float64)
    nominal = wafer.probability(SOT.voltage(wanted))
    calibrated = wafer.probability(Calibration(400).voltage(SOT, wafer, wanted, spread, seeded(1)))
    binomial = math.sqrt(p * (1 - p) / 400)
    # where the slope says nothing, at one half, the nominal drive is as good as any
    off = nominal.std().item()
    assert calibrated.std().item() <= 1.2 * min(off, binomial) + 0.002
    assert (calibrated - p).abs().mean().item() <= (nominal - p).abs().mean().item() + 0.002
