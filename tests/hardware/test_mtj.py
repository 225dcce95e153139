"""Switching law, inverse, sensitivity, variation."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from hardware.devices import load_device
from hardware.mtj import (
    MTJ,
    DeviceVariation,
    DriveError,
    Law,
    barrier,
    current_for_probability,
    current_sensitivity,
    delta_sensitivity,
    reachable_probabilities,
    switching_probability,
    vary,
)

LAWS = get_args(Law)
RETENTIVE = MTJ(40.0, 50.0, 1.0, 5.0, 2.0, 5.0, 1.0)
SOT, SOT_VARIATION = load_device("sot_80nm")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_law_by_hand():
    # at the critical current there is no barrier left; half of the pulses switch after tau0 ln 2
    assert switching_probability(RETENTIVE, 50.0, math.log(2)).item() == pytest.approx(0.5)
    tau = math.exp(40 * (1 - 30 / 50))
    assert switching_probability(RETENTIVE, 30.0).item() == pytest.approx(1 - math.exp(-5 / tau))
    # quadratic: 1 at rest, zero at (pi - sqrt(pi^2 - 8)) / 4, lowest at pi / 4
    zero = (math.pi - math.sqrt(math.pi**2 - 8)) / 4
    expected = [1, 0, 1 - math.pi**2 / 8, 1 - math.pi**2 / 8]
    torch.testing.assert_close(
        barrier(torch.tensor([0, zero, math.pi / 4, 2.0], dtype=torch.float64), "quadratic"),
        torch.tensor(expected, dtype=torch.float64),
    )


def test_measured_voltage_at_one_half():
    # V50 = 0.894 V was measured beside the other constants of the set; half a percent of it is theirs to be apart
    voltage = current_for_probability(SOT, 0.5).item() * SOT.write_resistance_kohm * 1e-3
    assert SOT.critical_voltage_v == pytest.approx(0.857)
    assert voltage == pytest.approx(0.894, rel=0.07)
    # 0.78 pJ at 0.9 V
    assert 0.9**2 / SOT.write_resistance_kohm * SOT.pulse_ns == pytest.approx(0.78, abs=0.005)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("device", [SOT, RETENTIVE], ids=["low", "high"])
@pytest.mark.parametrize("kelvin", [250.0, 300.0, 400.0])
def test_inverse(device, law, kelvin):
    low, high = (float(p) for p in reachable_probabilities(device, temperature_k=kelvin, law=law))
    wanted = torch.linspace(max(low, 1e-9) + 1e-6, min(high, 1 - 1e-9) - 1e-6, 101, dtype=torch.float64)
    for pulse in (device.pulse_ns,):
        current = current_for_probability(device, wanted, pulse, kelvin, law)
        torch.testing.assert_close(
            switching_probability(device, current, pulse, kelvin, law), wanted, rtol=1e-9, atol=1e-12
        )
        back = current_for_probability(
            device, switching_probability(device, current, pulse, kelvin, law), pulse, kelvin, law
        )
        torch.testing.assert_close(back, current, rtol=1e-7, atol=1e-7)
    assert (current.diff() > 0).all()


def test_closed_forms_at_one_half():
    expected = 50 * (1 - math.log(5 / math.log(2)) / 40)
    current = current_for_probability(RETENTIVE, 0.5)
    assert current.item() == pytest.approx(expected)
    assert current_sensitivity(RETENTIVE, current).item() == pytest.approx(math.log(2) * 40 / (2 * 50))


@pytest.mark.parametrize("law", LAWS)
def test_sensitivities_are_the_gradients(law):
    delta = torch.linspace(4, 45, 40, dtype=torch.float64, requires_grad=True)
    current = torch.linspace(5, 55, 40, dtype=torch.float64, requires_grad=True)
    device = replace(RETENTIVE, delta=delta)
    p = switching_probability(device, current, 3.0, 350.0, law)
    by_delta, by_current = torch.autograd.grad(p.sum(), [delta, current])
    with torch.no_grad():
        torch.testing.assert_close(delta_sensitivity(device, current, 3.0, 350.0, law), by_delta)
        torch.testing.assert_close(current_sensitivity(device, current, 3.0, 350.0, law), by_current)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("p", [0.0, 1.0, 1e-4, 1.5, float("nan")])
def test_impossible_drives_say_what_is_possible(law, p):
    low, high = reachable_probabilities(SOT, law=law)
    with pytest.raises(DriveError) as error:
        current_for_probability(SOT, torch.tensor([0.5, p], dtype=torch.float64), law=law)
    assert f"{float(low):.4g} to {float(high):.4g}" in str(error.value)


def test_bad_devices_are_refused():
    for name in ("delta", "pulse_ns", "tmr", "critical_current_ua"):
        with pytest.raises(ValueError, match=name):
            replace(SOT, **{name: 0.0})
    with pytest.raises(ValueError, match="temperature_k"):
        switching_probability(SOT, 1.0, temperature_k=0.0)
    with pytest.raises(ValueError, match="delta_cv"):
        DeviceVariation(delta_cv=-0.1)


def test_varied_devices_have_the_asked_spread():
    n = 40_000
    variation = DeviceVariation(0.1, 0.05, 0.2, 0.3)
    wafer = vary(SOT, variation, (n,), seeded())
    for name, cv in (("delta", 0.1), ("critical_current_ua", 0.05), ("resistance_p_kohm", 0.2), ("tmr", 0.3)):
        relative = getattr(wafer, name) / getattr(SOT, name)
        assert abs(relative.mean() - 1) < 5 * cv / math.sqrt(n)
        # a log-normal's fourth moment is larger than a Gaussian's: twice the Gaussian error of the deviation
        assert abs(relative.std() / cv - 1) < 2 * 5 / math.sqrt(2 * n)
        assert (relative > 0).all()
    assert wafer.tau0_ns == SOT.tau0_ns


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_spread_of_p_follows_from_the_devices(law, p):
    small = DeviceVariation(delta_cv=0.01, critical_cv=0.005)
    wafer = vary(SOT, small, (40_000,), seeded())
    current = current_for_probability(SOT, p, law=law)
    actual = switching_probability(wafer, current, law=law)
    by_delta = delta_sensitivity(SOT, current, law=law).item() * SOT.delta * 0.01
    by_current = current_sensitivity(SOT, current, law=law).item() * current.item() * 0.005
    assert actual.std().item() == pytest.approx(math.hypot(by_delta, by_current), rel=0.03)
    # a driver for each device cancels its variation
    own = switching_probability(wafer, current_for_probability(wafer, p, law=law), law=law)
    assert (own - p).abs().max() < 1e-9


def test_global_stream_is_left_alone():
    state = torch.get_rng_state()
    vary(SOT, SOT_VARIATION, (5,), seeded())
    assert torch.equal(state, torch.get_rng_state())
    first, second = (vary(SOT, SOT_VARIATION, (5,), seeded(3)).delta for _ in range(2))
    assert torch.equal(first, second)
