"""``scaledrop device fit``: fits a switching law to counts of junctions, draws it and writes a device file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from hardware.calibration import Calibration
from hardware.devices import DEVICE_UNITS, devices, find_device, load_device
from hardware.mtj import MTJ, DeviceVariation, Table
from lit_scaledrop.chip.device_data import CurveError, read_curves
from lit_scaledrop.chip.device_figure import draw_fits
from lit_scaledrop.chip.device_fit import NAMES, Bench, Fit, Law, fit_law
from lit_scaledrop.chip.device_population import population
from lit_scaledrop.cli.command import call
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.units import in_unit

_UNITS = {"threshold": "V", "slope": "/V", "critical_voltage": "V", "delta": "1"}
PROBABILITIES, DRAWS = (0.1, 0.2, 0.5), 400
"""What a calibration is described for."""


def main(argv: list[str]) -> int:
    """Run ``scaledrop device`` with ``argv`` behind it."""
    if argv and argv[0] not in ("fit", "-h", "--help"):
        raise ValueError(f"scaledrop device fit CURVE.csv is the only form of this command, not {argv[0]!r}")
    return int(call(fit, argv[1:] if argv[:1] == ["fit"] else argv, "scaledrop device fit"))


def fit(
    curve: Path,
    *,
    law: Law = "sigmoid",
    like: str = "sot_80nm",
    name: str | None = None,
    write_resistance_kohm: float | None = None,
    tau0_ns: float = 1.0,
    output: Annotated[Path | None, "--out"] = None,
    picture: Path | None = None,
) -> int:
    """Fit the switching law of magnetic tunnel junctions to switching counts by maximum likelihood.

    The file has a header and one line per setting: voltage_v (or voltage_mv, current_ua, ...), shots, switched or
    probability, and, if known, pulse_ns, temperature_k and device. Limits are 95 % confidence limits from the Fisher
    information, widened where the points scatter more than binomial noise.

    Args:
        curve: CSV file.
        law: sigmoid or table (a curve at one pulse length), neel_brown or quadratic (thermal activation).
        like: device whose other values are used, by name or file.
        name: name of the device in the output (default: the file's).
        write_resistance_kohm: resistance of the write path, which converts a current to a voltage (default: that of
            like).
        tau0_ns: attempt time of thermal activation.
        output: write a device file for --mtj.
        picture: draw data, laws and residuals into this file (.png, .svg, .pdf).
    """
    base, _ = load_device(like)
    kohm = write_resistance_kohm or float(base.write_resistance_kohm)
    curves = read_curves(curve, kohm)
    every = [point for points in curves.values() for point in points]
    if law in ("sigmoid", "table") and len({(point.pulse_ns, point.temperature_k) for point in every}) > 1:
        raise CurveError(
            f"{curve} has several pulse durations or temperatures: a {law} is valid for one. Leave the others out, "
            f"or use --law neel_brown"
        )
    measured = {key: {getattr(point, key) for point in every} - {None} for key in ("pulse_ns", "temperature_k")}
    # of several settings the parameters are those at the base's
    pulse, kelvin = (only.copy().pop() if len(only) == 1 else None for only in measured.values())
    bench = Bench(pulse or base.pulse_ns, kelvin or base.temperature_k, base.free_layer)
    fits = [fit_law(device, points, law, bench, tau0_ns) for device, points in curves.items()]
    for one in fits:
        print(_summary(one, law))
    source = f"{law} fit of {curve.name}: {len(every)} points, {sum(point.shots for point in every)} pulses"
    told = {key: (value, unit, source) for key, (value, unit) in _law_constants(fits, law, tau0_ns).items()}
    if len(fits) == 1:
        print(f"from {like}: what one device's counts do not tell, such as the spread from device to device")
    if (largest := max(point.voltage_v for point in every)) > base.max_voltage_v:
        told["max_voltage"] = (largest, "V", f"largest voltage of {curve.name}")
    # what is not measured, or at several settings, is as in the base
    if pulse:
        told["pulse"] = (pulse, "ns", f"pulses of {curve.name}")
    if kelvin:
        told["temperature"] = (kelvin, "K", f"temperature of {curve.name}")
    if write_resistance_kohm:
        told["write_resistance"] = (kohm, "kOhm", "--write-resistance-kohm of the fit")
    if output is not None:
        write_atomic(output, _device_file(name or output.stem, like, law, told))
        print(f"{output}: a device for --mtj {output}")
        print("\n".join(_calibrations(*load_device(str(output)))))
    if picture is not None:
        draw_fits(fits, bench, f"{curve.name}: {law.replace('_', '-')}").savefig(picture, dpi=150)
        print(f"{picture}: points with 95 % intervals, laws, residuals")
    return 0


def _summary(one: Fit, law: Law) -> str:
    """What was found of one device, in lines."""
    who = one.device or "device"
    if not one.values:
        return f"{who}: {len(one.points)} points, deviance {one.deviances.sum():.1f} to a curve that never falls"
    lines = [f"{who}: {len(one.points)} points of {sum(point.shots for point in one.points)} pulses"]
    for key, value, (low, high) in zip(NAMES[law], one.values, one.limits, strict=True):
        unit = "" if _UNITS[key] == "1" else f" {_UNITS[key]}"
        lines.append(f"  {key} {value:.4g}{unit}, 95 % limits {low:.4g} to {high:.4g}")
    per = one.deviances.sum() / one.degrees
    lines.append(f"  deviance {one.deviances.sum():.1f} on {one.degrees} degrees of freedom, {per:.2f} each")
    if one.widened > 1:
        lines.append(f"  the points scatter more than binomial noise: limits are {one.widened:.2f} times as wide")
    worst = max(zip(one.deviances, one.points, strict=True), key=lambda pair: pair[0])
    lines.append(f"  largest deviation: {worst[1].voltage_v:.4g} V, {worst[1].switched} of {worst[1].shots}")
    return "\n".join(lines)


def _calibrations(device: MTJ, spread: DeviceVariation) -> list[str]:
    """What setting the drive of a finished junction by counting its bits takes, and what it leaves of p."""
    calibration, lines = Calibration(DRAWS), []
    for p in PROBABILITIES:
        try:
            left = float(calibration.expected_error(device, p, spread))
            energy_pj, time_ns = calibration.energy_pj(device, p), calibration.time_ns(device, p)
        except ValueError as error:
            lines.append(f"p = {p:g}: {error}")
        else:
            lines.append(
                f"p = {p:g}: a calibration by {DRAWS} draws takes {in_unit(energy_pj)} and {time_ns / 1e3:.3g} us and "
                f"leaves p ± {left:.3f}"
            )
    return lines


def _law_constants(fits: Sequence[Fit], law: Law, tau0_ns: float) -> dict[str, tuple[Any, str]]:
    """Constants of the law, with their units, and the spread of several devices."""
    if law == "table":
        if len(fits) > 1:
            raise CurveError("a table describes one device: leave the other devices out, or use another law")
        table = fits[0].law
        assert isinstance(table, Table)
        points = {round(volts * 1000): p for volts, p in zip(table.voltage_v, table.probability_at, strict=True)}
        return {"probability_at_mv": (points, "1")}
    together = population(fits, law)
    told: dict[str, tuple[Any, str]] = {
        key: (value, _UNITS[key]) for key, value in zip(NAMES[law], together.values, strict=True)
    }
    if law != "sigmoid":
        told["tau0"] = (tau0_ns, "ns")
    if together.spreads is not None:
        threshold, slope = together.spreads
        print(f"{len(fits)} devices: their thresholds vary by {threshold:.2%}, their slopes by {slope:.1%}")
        told |= {"threshold_cv": (threshold, "1"), "slope_cv": (slope, "1")}
    return told


def _device_file(name: str, like: str, law: Law, told: dict[str, tuple[Any, str, str]]) -> str:
    import yaml

    rest: dict[str, Any] = {"like": like}
    if like not in devices():  # another file, which need not lie where this one is read
        rest = {key: asdict(constant) for key, constant in find_device(like).constants.items() if key not in told}
        rest = {key: constant for key, constant in rest.items() if key in DEVICE_UNITS[law]}
    own = {
        key: {"value": _rounded(value), "unit": unit, "source": source, "status": "derived"}
        for key, (value, unit, source) in told.items()
    }
    return str(yaml.safe_dump({name: {**rest, "law": law, **own}}, sort_keys=False, width=120))


def _rounded(value: Any) -> Any:
    """Six digits, which no counts tell more of."""
    return {key: _rounded(each) for key, each in value.items()} if isinstance(value, dict) else float(f"{value:.6g}")
