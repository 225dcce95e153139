r"""Fits switching laws to counts by maximum likelihood.

A point has k of n pulses switched, binomial with the law's P. Both parameters of a law are positive and are estimated
by their logarithms; the covariance is the inverse of the Fisher information
$I_{ab} = \sum n\, \partial_a P\, \partial_b P / (P (1 - P))$, and the 95 % limits are $e^{\theta \pm 1.96\,s}$. The
deviance, twice the log-likelihood that is lost to a curve through all points, is $\chi^2$ with as many degrees of
freedom as there are points less two, where counts scatter as they should; where it is too large for that at 1 %, the
device fluctuates by more than its counts, and all limits are wider by $\sqrt{\text{deviance} / \text{degrees}}$.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from hardware.mtj import NeelBrown, Sigmoid, SwitchingLaw, Table
from hardware.thermal import FreeLayer
from lit_scaledrop.chip.device_data import CurveError, Point

Law = Literal["sigmoid", "neel_brown", "quadratic", "table"]
NAMES = {"sigmoid": ("threshold", "slope"), "neel_brown": ("critical_voltage", "delta"),
         "quadratic": ("critical_voltage", "delta")}  # fmt: skip
"""The two parameters of a law, as constants of a device: a voltage, and what makes the curve steep."""
Z95 = 1.959963984540054
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """What the points of a measurement do not say themselves."""

    pulse_ns: float
    temperature_k: float
    """temperature, K, at which the parameters are wanted"""
    free_layer: FreeLayer | None = None
    """how an activated law changes where points have other temperatures"""


@dataclass(frozen=True)
class Fit:
    """A law that was fitted to the points of one device."""

    device: str
    points: tuple[Point, ...]
    law: SwitchingLaw
    probability: Array
    """of the law at each point"""
    values: tuple[float, ...]
    """parameters, as :data:`NAMES`; none for a table"""
    errors: tuple[float, ...]
    """standard errors of their logarithms, widened where the deviance asks for it"""
    widened: float = 1.0
    """factor by which they are"""

    @property
    def limits(self) -> list[tuple[float, float]]:
        """95 % limits of the parameters."""
        both = zip(self.values, self.errors, strict=True)
        return [(value * math.exp(-Z95 * error), value * math.exp(Z95 * error)) for value, error in both]

    @cached_property
    def deviances(self) -> Array:
        """Deviance of each point."""
        return deviances(self.points, self.probability)

    @property
    def degrees(self) -> int:
        """Points less parameters."""
        return len(self.points) - len(self.values)

    @property
    def residuals(self) -> Array:
        """Signed roots of the deviances."""
        share = np.array([point.switched / point.shots for point in self.points])
        return np.asarray(np.sign(share - self.probability) * np.sqrt(self.deviances))


def deviances(points: Sequence[Point], probability: Array) -> Array:
    """Deviance of each point: twice the log-likelihood ratio of its own share to a probability."""
    from scipy.special import xlogy

    k, n = (np.array([getattr(point, name) for point in points], dtype=float) for name in ("switched", "shots"))
    p = np.clip(probability, 1e-300, 1 - 1e-16)
    best, given = xlogy(k, k / n) + xlogy(n - k, 1 - k / n), xlogy(k, p) + xlogy(n - k, 1 - p)
    return np.asarray(2 * np.maximum(best - given, 0))


def fit_law(device: str, points: Sequence[Point], law: Law, bench: Bench, tau0_ns: float = 1.0) -> Fit:
    """The most likely law of one device.

    Args:
        device: its name, for errors.
        points: counts; a sigmoid or a table needs those of one pulse length and one temperature.
        law: which.
        bench: pulse and temperature where the points do not say them.
        tau0_ns: attempt time of an activated law, which counts of one pulse length cannot tell from delta.

    Raises:
        CurveError: points that no law of this kind is most likely for; the message says why.
    """
    what = f"device {device!r}" if device else "the device"
    _require_curve(what, points)
    settings = {(point.pulse_ns or bench.pulse_ns, point.temperature_k or bench.temperature_k) for point in points}
    if law in ("sigmoid", "table") and len(settings) > 1:
        raise CurveError(
            f"{what} has several pulse durations or temperatures: a {law} is valid for one; use --law neel_brown"
        )
    if law == "table":
        table = isotonic(points)
        made = Table(tuple(v for v, _ in table), tuple(p for _, p in table))
        return Fit(device, tuple(points), made, _predict(made, points, bench), (), ())

    def build(theta: Array) -> SwitchingLaw:
        scale, steep = (math.exp(float(each)) for each in theta)
        if law == "sigmoid":
            return Sigmoid(scale, steep)
        return NeelBrown(steep, scale, tau0_ns, "quadratic" if law == "quadratic" else "linear")

    from scipy.stats import chi2

    def predict(theta: Array) -> Array:
        return _predict(build(theta), points, bench)

    starts = [np.log(start) for start in _starts(points, law, tau0_ns, bench.pulse_ns)]
    theta = _climb(points, predict, min(starts, key=lambda start: float(deviances(points, predict(start)).sum())))
    probability = predict(theta)
    lost = float(deviances(points, probability).sum())
    covariance = np.linalg.inv(_scores(points, predict, theta)[1])
    degrees = len(points) - 2
    wider = 1.0
    if degrees > 0 and chi2.sf(lost, degrees) < 0.01:
        wider = math.sqrt(lost / degrees)
    errors = tuple(float(error) * wider for error in np.sqrt(np.diag(covariance)))
    values = tuple(float(value) for value in np.exp(theta))
    return Fit(device, tuple(points), build(theta), probability, values, errors, wider)


def _require_curve(what: str, points: Sequence[Point]) -> None:
    levels = sorted({point.voltage_v for point in points})
    if len(levels) < 2:
        raise CurveError(f"{what} was measured at {levels[0]:g} V alone: a curve needs several voltages")
    if len(points) < 3:
        raise CurveError(f"{what} has {len(points)} points: two parameters need three or more")
    some = [point.voltage_v for point in points if point.switched]
    not_all = [point.voltage_v for point in points if point.switched < point.shots]
    if not some or not not_all:
        raise CurveError(f"{what} switched {'always' if some else 'never'}: measure around one half")
    if min(some) >= max(not_all):
        raise CurveError(
            f"{what} never switches below {min(some):g} V and always above {max(not_all):g} V: the steeper the law, "
            "the likelier, so no slope is the most likely. Measure more voltages between, or more pulses"
        )
    shots = sum(point.shots for point in points)
    p = sum(point.switched for point in points) / shots
    mean = sum(point.shots * point.voltage_v for point in points) / shots
    if sum((point.switched - point.shots * p) * (point.voltage_v - mean) for point in points) <= 0:
        raise CurveError(f"{what} does not switch more often at higher voltages: is this the column of the drive?")


def _predict(law: SwitchingLaw, points: Sequence[Point], bench: Bench) -> Array:
    """Probability of a law at each point; one call for each run of points of one pulse and temperature."""
    parts = []
    for (pulse, kelvin), same in groupby(points, lambda point: (point.pulse_ns, point.temperature_k)):
        volts = torch.tensor([point.voltage_v for point in same], dtype=torch.float64)
        heated = law
        if kelvin is not None and not isinstance(law, Sigmoid | Table):
            layer = bench.free_layer
            energy = 1.0 if layer is None else float(layer.anisotropy_energy(kelvin, bench.temperature_k))
            heated = law.heated(energy, kelvin / bench.temperature_k)
        parts.append(heated.probability(volts, pulse or bench.pulse_ns))
    return torch.cat(parts).numpy()


def _starts(points: Sequence[Point], law: Law, tau0_ns: float, pulse_ns: float) -> list[Array]:
    """Where the search begins: one half of the isotonic curve, and steep and flat slopes."""
    curve = isotonic(points)
    half = float(np.interp(0.5, [p for _, p in curve], [v for v, _ in curve]))
    if law == "sigmoid":
        return [np.array([half, 40.0 / half])]  # the likelihood has one maximum
    starts = []
    for delta in (4.0, 15.0, 60.0):
        f = math.log(pulse_ns / (tau0_ns * math.log(2))) / delta
        h = max(1 - f, 0.05) if law == "neel_brown" else (math.pi - math.sqrt(max(math.pi**2 - 8 * (1 - f), 0))) / 4
        starts.append(np.array([half / h, delta]))
    return starts


def _climb(points: Sequence[Point], predict: Callable[[Array], Array], theta: Array) -> Array:
    """The most likely logarithms of the parameters from a start, by Fisher scoring with shorter steps where needed."""
    lost = float(deviances(points, predict(theta)).sum())
    for _ in range(200):
        score, information = _scores(points, predict, theta)
        step = np.linalg.lstsq(information, score, rcond=None)[0]
        step *= min(1.0, 1.0 / max(np.abs(step).max(), 1e-300))  # at most a factor of e
        for _ in range(30):
            moved = float(deviances(points, predict(theta + step)).sum())
            if moved <= lost:
                break
            step /= 2
        else:
            return theta
        theta, lost = theta + step, moved
        if np.abs(step).max() < 1e-9:
            return theta
    return theta


def _scores(points: Sequence[Point], predict: Callable[[Array], Array], theta: Array) -> tuple[Array, Array]:
    """Slope of the log-likelihood, and the Fisher information, of the logarithms of the parameters."""
    step = 1e-5
    p = np.clip(predict(theta), 1e-12, 1 - 1e-12)
    slopes = np.stack([(predict(theta + move) - predict(theta - move)) / (2 * step) for move in step * np.eye(2)])
    k, n = (np.array([getattr(point, name) for point in points]) for name in ("switched", "shots"))
    return slopes @ ((k - n * p) / (p * (1 - p))), np.asarray((slopes * (n / (p * (1 - p)))) @ slopes.T)


def isotonic(points: Sequence[Point]) -> list[tuple[float, float]]:
    """The most likely curve that never falls: voltage and probability."""
    from scipy.optimize import isotonic_regression

    volts, place = np.unique([point.voltage_v for point in points], return_inverse=True)
    k, n = (np.bincount(place, [getattr(point, name) for point in points]) for name in ("switched", "shots"))
    curve = isotonic_regression(k / n, weights=n).x
    return list(zip(volts.tolist(), curve.tolist(), strict=True))
