"""Switching laws against closed forms and measurements, their inverses, what a draw costs, varied devices."""

import math
from dataclasses import replace

import pytest
import torch

from hardware.devices import load_device
from hardware.mtj import MTJ, DeviceVariation, DriveError, NeelBrown, Sigmoid, Table, vary

RETENTIVE = NeelBrown(40.0, 0.1, 1.0)
QUADRATIC = replace(RETENTIVE, delta=4.91, barrier="quadratic")
SOT, SOT_VARIATION = load_device("sot_80nm")
TABLE = Table((0.8, 0.84, 0.9, 0.98), (0.0, 0.1, 0.5, 0.98))
LAWS = [RETENTIVE, QUADRATIC, replace(RETENTIVE, delta=4.91), SOT.law, TABLE]
NAMES = ["retentive", "quadratic", "low", "sigmoid", "table"]
PULSE = 0.75


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(law, pulse=PULSE, **changes) -> MTJ:
    return MTJ(law, pulse, 2.0, 5.0, 1.0, **changes)


def test_neel_brown_by_hand():
    # at the critical voltage there is no barrier left; half of the pulses switch after tau0 ln 2
    assert RETENTIVE.probability(0.1, math.log(2)).item() == pytest.approx(0.5)
    tau = math.exp(40 * (1 - 30 / 50))
    assert RETENTIVE.probability(0.06, 5.0).item() == pytest.approx(1 - math.exp(-5 / tau))
    half = 0.1 * (1 - math.log(5 / math.log(2)) / 40)
    assert RETENTIVE.voltage(0.5, 5.0).item() == pytest.approx(half)
    # dp/dV = ln 2 Delta / (2 V_c0)
    voltage = torch.tensor(half, dtype=torch.float64, requires_grad=True)
    RETENTIVE.probability(voltage, 5.0).backward()
    assert voltage.grad.item() == pytest.approx(math.log(2) * 40 / (2 * 0.1))


def test_quadratic_barrier_by_hand():
    # 1 at rest, zero at (pi - sqrt(pi^2 - 8)) / 4, lowest, 1 - pi^2 / 8, at pi / 4 and beyond
    zero = (math.pi - math.sqrt(math.pi**2 - 8)) / 4
    barriers = torch.tensor([1, 0, 1 - math.pi**2 / 8, 1 - math.pi**2 / 8], dtype=torch.float64)
    drives = torch.tensor([0, zero, math.pi / 4, 2.0], dtype=torch.float64)
    expected = 1 - torch.exp(-3.0 * torch.exp(-4.91 * barriers))
    torch.testing.assert_close(QUADRATIC.probability(0.1 * drives, 3.0), expected)
    assert QUADRATIC.voltage(1 - math.exp(-3.0), 3.0).item() == pytest.approx(0.1 * zero)


@pytest.mark.parametrize(("volts", "shots"), [(0.80, 0), (0.84, 10), (0.90, 50), (0.98, 98)])
def test_sot_80nm_is_its_measurement(volts, shots):
    """Device A, P to AP, 100 shots a point: within the two-sided 95 % of the binomial distribution."""
    p = SOT.probability(volts).item()
    weights = [math.comb(100, k) * p**k * (1 - p) ** (100 - k) for k in range(101)]
    assert min(sum(weights[: shots + 1]), sum(weights[shots:])) > 0.025


def test_sot_80nm_by_its_numbers():
    assert SOT.voltage(0.5).item() == pytest.approx(0.894)
    rise = SOT.probability(0.894 + 1e-6) - SOT.probability(0.894 - 1e-6)
    assert rise.item() / 2e-6 == pytest.approx(11.15)
    # 0.78 pJ at 0.9 V
    assert 0.9**2 / SOT.write_resistance_kohm * SOT.pulse_ns == pytest.approx(0.78, abs=0.005)


def test_a_table_is_its_points():
    volts = torch.tensor([0.5, 0.8, 0.82, 0.84, 0.87, 0.98, 1.2], dtype=torch.float64)
    expected = torch.tensor([0, 0, 0.05, 0.1, 0.3, 0.98, 0.98], dtype=torch.float64)
    torch.testing.assert_close(TABLE.probability(volts, PULSE), expected)
    # where points share a probability the smallest voltage counts
    flat = Table((0.8, 0.9, 1.0, 1.1), (0.0, 0.5, 0.5, 1.0))
    assert flat.voltage(0.5, PULSE).item() == pytest.approx(0.9)
    assert flat.voltage(0.75, PULSE).item() == pytest.approx(1.05)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_inverse(law):
    low, high = (float(law.probability(volts, PULSE)) for volts in (0.0, 10.0))
    wanted = torch.linspace(max(low, 1e-9) + 1e-6, min(high, 1 - 1e-9) - 1e-6, 101, dtype=torch.float64)
    voltage = law.voltage(wanted, PULSE)
    torch.testing.assert_close(law.probability(voltage, PULSE), wanted, rtol=1e-9, atol=1e-12)
    assert (voltage.diff() > 0).all()
    device = made(law)
    torch.testing.assert_close(device.probability(device.voltage(wanted)), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("p", [0.0, 1.0, 1.5, float("nan")])
def test_impossible_probabilities_say_what_is_possible(law, p):
    device = made(law, max_voltage_v=0.95)
    low, high = (float(device.probability(volts)) for volts in (0.0, 0.95))
    wanted = torch.tensor([(low + high) / 2, p], dtype=torch.float64)
    with pytest.raises(DriveError, match=f"up to 0.95 V gives.*reaches {low:.4g} to {high:.4g}"):
        device.voltage(wanted)
    with pytest.raises(DriveError, match=f"reaches {low:.4g} to"):
        law.voltage(wanted, PULSE)


def test_the_driver_bounds_the_range():
    assert SOT.voltage(0.9998).item() == pytest.approx(1.085, abs=0.005)
    with pytest.raises(DriveError, match=r"up to 1 V gives switching probability 0.9998: .* to 0.9912"):
        replace(SOT, max_voltage_v=1.0).voltage(0.9998)


def test_measured_curves_hold_for_their_pulse():
    with pytest.raises(ValueError, match=r"sigmoid law was measured with pulses of 0.75 ns and is not valid at 5 ns"):
        replace(SOT, pulse_ns=5.0)
    with pytest.raises(ValueError, match="table law"):
        replace(TABLE, pulse_ns=1.0).probability(0.9, 2.0)
    assert made(NeelBrown(5.0, 0.9, 1.0), pulse=5.0).pulse_ns == 5.0


@pytest.mark.parametrize("law", [RETENTIVE, QUADRATIC, SOT.law, TABLE], ids=["nb", "quadratic", "sigmoid", "table"])
def test_scaled_laws(law):
    """A threshold stretches the curve; a slope turns it around one half, on the threshold's scale."""
    inside = torch.linspace(0.2, 0.8, 13, dtype=torch.float64) * float(law.probability(10.0, PULSE))
    volts = law.voltage(inside, PULSE)
    torch.testing.assert_close(law.scaled(1.1, 1.0).probability(1.1 * volts, PULSE), inside)
    if isinstance(law, NeelBrown):
        assert law.scaled(1.1, 0.5) == replace(
            law, delta=law.delta / 2, critical_voltage_v=law.critical_voltage_v * 1.1
        )
    else:
        half = law.voltage(0.5, PULSE)
        steeper = law.scaled(1.1, 2.0)
        assert steeper.voltage(0.5, PULSE).item() == pytest.approx(1.1 * half.item())
        torch.testing.assert_close(steeper.probability(1.1 * (half + (volts - half) / 2), PULSE), inside)
        torch.testing.assert_close(steeper.voltage(inside, PULSE), 1.1 * (half + (volts - half) / 2))


def test_what_a_draw_costs():
    device = MTJ(Sigmoid(0.9, 40.0), 2.0, 0.5, 4.0, 1.0, read_voltage_v=0.2, read_ns=3.0, max_voltage_v=1.2)
    # write 0.9^2 / 0.5 mW for 2 ns; RESET 1.2^2 / 0.5 mW for 2 ns after half; read 0.2 V at 4 or 8 kOhm for 3 ns
    expected = 0.81 / 0.5 * 2 + 0.5 * 1.44 / 0.5 * 2 + 3 * 0.04 * (0.5 / 4 + 0.5 / 8)
    assert device.draw_energy_pj(0.5).item() == pytest.approx(expected)
    assert device.draw_time_ns == 7.0
    assert SOT.draw_time_ns == 2.5
    with pytest.raises(ValueError, match="RESET at max_voltage_v"):
        made(TABLE).draw_energy_pj(0.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: replace(SOT, tmr=0.0), "tmr of a device"),
        (lambda: replace(SOT, pulse_ns=-1.0), "pulse_ns of a device"),
        (lambda: replace(SOT, max_voltage_v=float("nan")), "max_voltage_v of a device"),
        (lambda: NeelBrown(0.0, 1.0, 1.0), "delta of a device"),
        (lambda: Sigmoid(0.9, float("inf")), "slope_per_v of a device"),
        (lambda: Table((0.8,), (0.5,)), "two or more"),
        (lambda: Table((0.9, 0.8), (0.1, 0.5)), "increasing voltages"),
        (lambda: Table((0.8, 0.9), (0.5, 0.1)), "never fall"),
        (lambda: Table((0.8, 0.9), (0.5, 0.5)), "rise"),
        (lambda: SOT.at(0.0), "temperature_k"),
        (lambda: DeviceVariation(slope_cv=-0.1), "slope_cv"),
    ],
)
def test_bad_devices_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_varied_devices_have_the_asked_spread():
    n = 40_000
    variation = DeviceVariation(0.05, 0.1, 0.2, 0.3)
    wafer = vary(SOT, variation, (n,), seeded())
    slope = wafer.law.slope_per_v * wafer.law.threshold_v / (44.6 * 0.894)
    for values, cv in (
        (wafer.law.threshold_v / 0.894, 0.05),
        (slope, 0.1),
        (wafer.resistance_p_kohm / SOT.resistance_p_kohm, 0.2),
        (wafer.tmr / SOT.tmr, 0.3),
    ):
        assert abs(values.mean() - 1) < 5 * cv / math.sqrt(n)
        # a log-normal's fourth moment is larger than a Gaussian's: twice the Gaussian error of the deviation
        assert abs(values.std() / cv - 1) < 2 * 5 / math.sqrt(2 * n)
        assert (values > 0).all()
    assert wafer.pulse_ns == SOT.pulse_ns


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_spread_of_p_follows_from_the_devices(p):
    """To first order dp = p (1 - p) (k V dln(slope) - k V dln(threshold)), with k V_th = 44.6 x 0.894."""
    small = DeviceVariation(threshold_cv=0.001, slope_cv=0.01)
    wafer = vary(SOT, small, (40_000,), seeded())
    voltage = SOT.voltage(p)
    by_slope = p * (1 - p) * 44.6 * (voltage - 0.894).item() * 0.01
    by_threshold = p * (1 - p) * 44.6 * voltage.item() * 0.001
    assert wafer.probability(voltage).std().item() == pytest.approx(math.hypot(by_slope, by_threshold), rel=0.03)
    # a driver for each device cancels its variation
    assert (wafer.probability(wafer.voltage(p)) - p).abs().max() < 1e-9


def test_global_stream_is_left_alone():
    state = torch.get_rng_state()
    vary(SOT, SOT_VARIATION, (5,), seeded())
    assert torch.equal(state, torch.get_rng_state())
    first, second = (vary(SOT, SOT_VARIATION, (5,), seeded(3)).law.threshold_v for _ in range(2))
    assert torch.equal(first, second)
