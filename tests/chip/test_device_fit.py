"""Switching laws from counts: against logistic regression, simulated devices, coverage, and the public curve."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import chi2
from sklearn.isotonic import IsotonicRegression

from hardware.calibration import Calibration
from hardware.devices import load_device
from hardware.mtj import NeelBrown, Sigmoid, Table
from hardware.thermal import FreeLayer
from lit_scaledrop.__main__ import main
from lit_scaledrop.chip.device_data import Point, read_curves
from lit_scaledrop.chip.device_fit import Bench, fit_law, isotonic
from lit_scaledrop.chip.device_population import population
from lit_scaledrop.results.units import in_unit

BENCH = Bench(0.75, 300.0)
SOT = Sigmoid(0.894, 44.6)
PUBLIC = read_curves(Path(__file__).parents[2] / "docs" / "sot_80nm.csv", 0.776)


def simulated(law, seed, volts, shots=100, **setting):
    pulse = setting.get("pulse_ns", 0.75)
    p = law.probability(torch.as_tensor(volts), pulse).numpy()
    counts = np.random.default_rng(seed).binomial(shots, p)
    return [Point(float(v), int(k), shots, **setting) for v, k in zip(volts, counts, strict=True)]


def public(device):
    return [replace(point, pulse_ns=None) for point in PUBLIC[device]]


def logistic_regression(points):
    """Iteratively reweighted least squares: threshold, slope, and the covariance of both."""
    v, k, n = (np.array([getattr(p, name) for p in points]) for name in ("voltage_v", "switched", "shots"))
    x, beta = np.stack([np.ones_like(v), v - 0.9], 1), np.array([0.0, 40.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ beta))
        beta = beta + np.linalg.solve((x.T * (n * p * (1 - p))) @ x, x.T @ (k - n * p))
    covariance = np.linalg.inv((x.T * (n * p * (1 - p))) @ x)
    jacobian = np.array([[-1 / beta[1], beta[0] / beta[1] ** 2], [0, 1]])
    return 0.9 - beta[0] / beta[1], beta[1], jacobian @ covariance @ jacobian.T


@pytest.mark.parametrize("points", [public("A"), simulated(SOT, 0, np.linspace(0.8, 1.0, 9))], ids=["public", "made"])
def test_a_sigmoid_is_logistic_regression(points):
    fit = fit_law("", points, "sigmoid", BENCH)
    threshold, slope, covariance = logistic_regression(points)
    assert fit.values == pytest.approx((threshold, slope), rel=1e-5)
    assert fit.widened == 1
    errors = np.sqrt(np.diag(covariance)) / np.array([threshold, slope])
    assert fit.errors == pytest.approx(tuple(errors), rel=1e-3)


def test_a_curve_of_46_points_gives_its_parameters_back():
    points = simulated(SOT, 1, np.linspace(0.78, 1.02, 46))
    fit = fit_law("", points, "sigmoid", BENCH)
    for value, error, truth in zip(fit.values, fit.errors, (0.894, 44.6), strict=True):
        assert abs(math.log(value / truth)) < 3 * error < 0.1
    assert 0.5 < fit.deviances.sum() / fit.degrees < 1.5


def test_the_public_curve():
    fit = fit_law("A", public("A"), "sigmoid", BENCH)
    for (low, high), value in zip(fit.limits, (0.894, 44.6), strict=True):
        assert low < value < high
    # it scatters by more than 100 pulses a point should, and a Neel-Brown law is worse
    assert fit.deviances.sum() / fit.degrees == pytest.approx(2.24, abs=0.01)
    activated = fit_law("A", public("A"), "neel_brown", BENCH)
    assert activated.deviances.sum() > 3 * fit.deviances.sum()
    assert activated.widened == pytest.approx(math.sqrt(activated.deviances.sum() / 10))
    assert activated.widened > 2


@pytest.mark.parametrize("law", ["sigmoid", "neel_brown"])
def test_limits_cover_what_is_true(law):
    truth = SOT if law == "sigmoid" else NeelBrown(22.0, 0.9, 1.0)
    values = (0.894, 44.6) if law == "sigmoid" else (0.9, 22.0)
    repetitions, inside, deviance = 200, np.zeros(2), 0.0
    for seed in range(repetitions):
        fit = fit_law("", simulated(truth, seed, np.linspace(0.82, 0.98, 9)), law, BENCH)
        inside += [low < value < high for (low, high), value in zip(fit.limits, values, strict=True)]
        deviance += fit.deviances.sum() / fit.degrees / repetitions
    # three standard errors of a share of 0.95
    assert np.abs(inside / repetitions - 0.95).max() < 3 * math.sqrt(0.95 * 0.05 / repetitions)
    assert deviance == pytest.approx(1, abs=0.12)


def test_scatter_beyond_counts_widens_the_limits():
    """Thresholds that wander by 12 mV from point to point: 15 times the variance of 100 counts."""
    rng = np.random.default_rng(0)
    volts = np.linspace(0.82, 0.98, 17)
    points = [point for v in volts for point in simulated(Sigmoid(0.894 + rng.normal(0, 0.012), 44.6), 7, [v], 1000)]
    fit = fit_law("", points, "sigmoid", BENCH)
    ratio = fit.deviances.sum() / fit.degrees
    assert chi2.sf(fit.deviances.sum(), fit.degrees) < 0.01
    assert fit.widened == pytest.approx(math.sqrt(ratio))
    assert fit.widened > 2


def test_activated_laws_over_pulses_and_temperatures():
    layer, truth = FreeLayer(1120.0, 2.18, 0.5), NeelBrown(35.0, 0.5, 1.0)
    bench, points = Bench(10.0, 300.0, layer), []
    for seed, (pulse, kelvin) in enumerate([(5.0, 300.0), (50.0, 300.0), (500.0, 300.0), (50.0, 350.0)]):
        law = truth.heated(float(layer.anisotropy_energy(kelvin, 300.0)), kelvin / 300)
        volts = law.voltage(torch.tensor([0.05, 0.2, 0.5, 0.8, 0.95], dtype=torch.float64), pulse).tolist()
        points += simulated(law, seed, volts, 400, pulse_ns=pulse, temperature_k=kelvin)
    fit = fit_law("", sorted(points, key=lambda point: point.voltage_v), "neel_brown", bench)
    for value, error, wanted in zip(fit.values, fit.errors, (0.5, 35.0), strict=True):
        assert abs(math.log(value / wanted)) < 3 * error < 0.05
    assert fit.widened == 1
    # without the free layer the hot points do not fit
    assert fit_law("", points, "neel_brown", Bench(10.0, 300.0)).widened > 2


def test_a_quadratic_barrier():
    truth = NeelBrown(12.0, 0.9, 0.1, "quadratic")
    volts = truth.voltage(torch.linspace(0.05, 0.95, 12, dtype=torch.float64), 0.75).tolist()
    fit = fit_law("", simulated(truth, 0, volts, 1000), "quadratic", BENCH, tau0_ns=0.1)
    for value, error, wanted in zip(fit.values, fit.errors, (0.9, 12.0), strict=True):
        assert abs(math.log(value / wanted)) < 3 * error < 0.3


def test_a_table_is_the_isotonic_regression():
    points = [*public("A"), Point(0.9, 30, 50), Point(0.94, 70, 100)]
    curve = isotonic(points)
    x, share, n = (
        np.array(each) for each in zip(*((p.voltage_v, p.switched / p.shots, p.shots) for p in points), strict=True)
    )
    expected = IsotonicRegression().fit(x, share, sample_weight=n).predict([v for v, _ in curve])
    assert [p for _, p in curve] == pytest.approx(list(expected), abs=1e-6)
    fit = fit_law("", public("A"), "table", BENCH)
    assert isinstance(fit.law, Table)
    # 98 and 94 of 100 are pooled
    assert fit.law.probability(0.98, 0.75).item() == fit.law.probability(1.0, 0.75).item() == pytest.approx(0.96)


def test_spread_between_devices():
    """40 devices whose thresholds spread by 2 % and whose slopes by 30 %, from 12 points of 200 pulses each."""
    rng, fits = np.random.default_rng(0), []
    for seed in range(40):
        threshold, relative = 0.9 * math.exp(rng.normal(0, 0.02)), 40 * math.exp(rng.normal(0, 0.294))
        law = Sigmoid(threshold, relative / threshold)
        fits.append(fit_law(str(seed), simulated(law, seed, np.linspace(0.78, 1.02, 13), 200), "sigmoid", BENCH))
    found = population(fits, "sigmoid")
    assert found.spreads == pytest.approx((0.02, 0.3), rel=3 / math.sqrt(2 * 39))
    assert found.values[0] == pytest.approx(0.9, abs=3 * 0.9 * 0.02 / math.sqrt(40))
    assert population(fits[:1], "sigmoid").spreads is None
    # devices that are alike have no spread beyond the errors of their fits
    alike = [fit_law("", simulated(SOT, seed, np.linspace(0.8, 1.0, 9)), "sigmoid", BENCH) for seed in range(30)]
    assert max(population(alike, "sigmoid").spreads) < 0.05


# --- the command ---


def write(path, lines, header="voltage_v,switched,shots"):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_from_a_file_to_a_device(tmp_path, capsys):
    lines = [f"{name},{p.voltage_v * 1000:g},750,{p.switched},100" for name in "AB" for p in public(name)]
    curve = write(tmp_path / "curve.csv", ["# measured", *lines], "device,voltage_mv,pulse_ps,switched,shots")
    output, picture = tmp_path / "lab.yaml", tmp_path / "lab.png"
    assert main(["device", "fit", str(curve), "--output", str(output), "--picture", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "threshold 0.8974 V, 95 % limits 0.893 to 0.9018" in told
    assert "2 devices: their thresholds vary by 0.08%" in told
    assert "from sot_80nm" not in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    device, variation = load_device(str(output))
    fits = [fit_law("", public(name), "sigmoid", BENCH) for name in "AB"]
    assert device.law.threshold_v == pytest.approx(math.sqrt(fits[0].values[0] * fits[1].values[0]), rel=1e-5)
    # the driver's largest voltage is not what was measured: 1.02 V at most
    assert (device.pulse_ns, device.max_voltage_v) == (0.75, 1.1)
    calibration = Calibration(400)
    error, energy_pj = calibration.expected_error(device, 0.5, variation), calibration.energy_pj(device, 0.5)
    words = f"p = 0.5: a calibration by 400 draws takes {in_unit(energy_pj)} and 1 us and leaves p"
    assert f"{words} ± {float(error):.3f}" in told
    assert variation.slope_cv == pytest.approx(0.458, abs=0.001)
    assert yaml.safe_load(output.read_text())["lab"]["threshold"]["source"] == (
        "sigmoid fit of curve.csv: 21 points, 2100 pulses"
    )


def test_a_driver_that_went_higher_than_its_base(tmp_path, capsys):
    lines = [f"{p.voltage_v},{p.switched},100" for p in public("A")]
    curve, output = write(tmp_path / "curve.csv", [*lines, "1.3,100,100"]), tmp_path / "lab.yaml"
    assert main(["device", "fit", str(curve), "--out", str(output)]) == 0
    assert "from sot_80nm: what one device's counts do not tell" in capsys.readouterr().out
    assert load_device(str(output))[0].max_voltage_v == 1.3
    said = yaml.safe_load(output.read_text())["lab"]
    assert said["max_voltage"]["source"] == "largest voltage of curve.csv"
    assert "pulse" not in said


@pytest.mark.parametrize("law", ["sigmoid", "table"])
@pytest.mark.parametrize("other", ["5,300", "1,350"])
def test_devices_at_several_settings_have_no_law_in_common(tmp_path, capsys, law, other):
    """A at 1 ns and 300 K, B at another pulse or temperature."""
    lines = [f"{name},{line},{where}" for name, where in (("A", "1,300"), ("B", other)) for line in GOOD]
    curve = write(tmp_path / "curve.csv", lines, "device,voltage_v,switched,shots,pulse_ns,temperature_k")
    assert main(["device", "fit", str(curve), "--law", law]) == 1
    told = capsys.readouterr().err
    assert f"several pulse durations or temperatures: a {law} is valid for one" in told
    assert len(told.splitlines()) <= 2


@pytest.mark.parametrize("law", ["neel_brown", "quadratic", "table"])
def test_other_laws_and_currents(tmp_path, capsys, law):
    """The same points as currents through 0.776 kOhm, and as shares."""
    volts = write(tmp_path / "v.csv", [f"{p.voltage_v},{p.switched},100" for p in public("A")])
    amperes = [f"{p.voltage_v / 0.776 * 1000},{p.switched / 100},100" for p in public("A")]
    write(tmp_path / "i.csv", amperes, "current_ua,probability,shots")
    made = []
    for name in ("v", "i"):
        output = tmp_path / f"{name}.yaml"
        assert main(["device", "fit", str(tmp_path / f"{name}.csv"), f"--law={law}", "--output", str(output)]) == 0
        made.append(load_device(str(output))[0])
    assert volts.is_file()
    for p in (0.2, 0.5, 0.9):
        assert made[0].voltage(p).item() == pytest.approx(made[1].voltage(p).item(), rel=1e-4)
    points = public("A")
    assert made[0].probability(0.9).item() == pytest.approx(fit_law("", points, law, BENCH).probability[5], abs=1e-3)


def test_a_base_of_ones_own(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump({"mine": {"like": "sot_80nm", "tmr": 2.0, "write_resistance": "1 kOhm"}}))
    curve = write(tmp_path / "curve.csv", [f"{p.voltage_v * 1000},{p.switched},100" for p in public("A")],
                  "current_ua,switched,shots")  # fmt: skip
    output = tmp_path / "elsewhere" / "lab.yaml"
    assert main(["device", "fit", str(curve), f"--like={base}", f"--output={output}", "--name=x"]) == 0
    base.unlink()
    device = load_device(f"{output}:x")[0]
    assert (device.tmr, device.write_resistance_kohm) == (2.0, 1.0)
    assert device.law.threshold_v == pytest.approx(0.8974, abs=1e-4)


GOOD = ["0.8,0,100", "0.88,30,100", "0.9,50,100", "1.0,99,100"]


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["0.8,101,100", *GOOD], None, "line 2: 101 of 100 pulses cannot have switched"),
        (["0.8,-1,100", *GOOD], None, "line 2: -1 of 100 pulses cannot have switched"),
        (["0.8,1.5,100", *GOOD], None, "line 2: 1.5 of 100"),
        (["0.8,0,0", *GOOD], None, "at least 1, not 0"),
        (["0.8,none,100", *GOOD], None, "switched is a number, not 'none'"),
        (["0.8,1", *GOOD], None, "line 2 has 2 values for 3 columns"),
        (["-0.8,0,100", *GOOD], None, "voltage_v cannot be -0.8"),
        ([], None, "needs a header and a line for each voltage"),
        (["0.9,50,100"] * 4, None, "measured at 0.9 V alone"),
        (["0.9,50,100", "0.8,0,100"], None, "2 points: two parameters need three"),
        (["0.8,0,100", "0.85,0,100", "0.9,100,100"], None, "never switches below 0.9 V and always above 0.85 V"),
        (["0.8,0,100", "0.85,50,100", "0.9,100,100"], None, "so no slope is the most likely"),
        (["0.8,0,100", "0.85,0,100", "0.9,0,100"], None, "switched never: measure around one half"),
        (["0.8,100,100", "0.85,50,100", "0.9,10,100"], None, "does not switch more often at higher voltages"),
        (GOOD, "voltage,switched,shots", "unknown column 'voltage'"),
        (GOOD, "switched,switched,shots", "a column twice"),
        (GOOD, "temperature_k,switched,shots", "needs one column of the drive, voltage_v or current_ua, but has 0"),
        (GOOD, "voltage_v,current_ua,shots", "but has 2"),
        (GOOD, "voltage_v,switched,pulse_ns", "needs the columns shots and either switched or probability"),
        (["0.8,0,100,1", "0.9,9,100,2", "1.0,99,100,3"], "voltage_v,switched,shots,pulse_ns", "use --law neel_brown"),
    ],
)
def test_what_no_law_can_be_fitted_to(tmp_path, capsys, lines, header, message):
    curve = write(tmp_path / "curve.csv", lines, header or "voltage_v,switched,shots")
    assert main(["device", "fit", str(curve)]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) <= 2


def test_a_table_is_of_one_device_and_files_must_be_there(tmp_path, capsys):
    lines = [f"{name},{line}" for name in "AB" for line in GOOD]
    curve = write(tmp_path / "curve.csv", lines, "device,voltage_v,switched,shots")
    assert main(["device", "fit", str(curve), "--law=table"]) == 1
    assert main(["device", "fit", str(tmp_path / "none.csv")]) == 1
    assert main(["device", "fitt"]) == 1
    told = capsys.readouterr().err
    assert "a table describes one device" in told
    assert "cannot read" in told
    assert "scaledrop device fit CURVE.csv is the only form of this command, not 'fitt'" in told
