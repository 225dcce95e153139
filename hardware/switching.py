r"""Switching probability of a junction as a function of the write voltage: closed forms and measured curves.

==============  ========================================================================================================
law             where it applies
==============  ========================================================================================================
``NeelBrown``   thermal activation over a barrier (paper eq. 25): pulses much longer than the attempt time, drives below
                the critical one. For pulses of about a nanosecond the magnetization precesses instead, and the measured
                transition is several times steeper or flatter than this law says.
``Sigmoid``     a logistic curve that was fitted to measured or simulated switching, at the pulse of the measurement
``Table``       the measured points themselves, at the pulse of the measurement
==============  ========================================================================================================

Fields may be tensors of one shape: thousands of devices compute as one. All results are float64.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from hardware.shapes import Float

Number = float | Tensor
Barrier = Literal["linear", "quadratic"]


class DriveError(ValueError):
    """No drive within the device's range gives the wanted probability."""


@runtime_checkable
class SwitchingLaw(Protocol):
    """Switching probability of a pulse, its inverse, and how the law of another device or temperature differs."""

    def probability(self, voltage_v: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        """Probability that a pulse of this voltage (V) and length (ns) switches.

        Raises:
            ValueError: for another pulse than that of the measurement.
        """

    def voltage(self, p: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        """Voltage (V) at which a pulse switches with probability ``p``.

        Raises:
            DriveError: if none does; the message has the range.
            ValueError: as :meth:`probability`.
        """

    def scaled(self, threshold: Number, slope: Number) -> "SwitchingLaw":
        """The law with critical voltages times ``threshold``, and as steep as ``slope`` times that on their scale."""

    def heated(self, anisotropy: Number, thermal: Number) -> "SwitchingLaw":
        """The law where the anisotropy energy and the thermal energy are these multiples of what they were."""


@dataclass(frozen=True)
class NeelBrown:
    r"""Thermal activation: $P = 1 - e^{-u}$, $u = (t / \tau_0)\, e^{-\Delta f(h)}$ with $h = V / V_{c0}$.

    The barrier is $f = 1 - h$ (``"linear"``), or $f = 1 - 2h(\pi/2 - h)$ (``"quadratic"``, for spin-orbit torque on a
    perpendicular layer; its minimum $1 - \pi^2/8$ at $h = \pi/4$ bounds what a pulse can reach).

    >>> round(float(NeelBrown(40.0, 1.0, 1.0).probability(1.0, math.log(2))), 6)
    0.5
    """

    delta: Number
    """thermal stability E_b / (k_B T) without a drive"""
    critical_voltage_v: Number
    """critical voltage V_c0 of the write path, V"""
    tau0_ns: float
    """attempt time, ns"""
    barrier: Barrier = "linear"
    """how the drive lowers the barrier"""

    def __post_init__(self) -> None:
        if self.barrier not in get_args(Barrier):
            raise ValueError(f"barrier must be one of {', '.join(get_args(Barrier))}, got {self.barrier!r}")
        require_positive(self, "delta", "critical_voltage_v", "tau0_ns")

    def probability(self, voltage_v: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        """See :class:`SwitchingLaw`."""
        h = as_double(voltage_v) / as_double(self.critical_voltage_v)
        if self.barrier == "linear":
            f = 1 - h
        else:
            h = h.clamp(max=math.pi / 4)  # a stronger torque does not raise the barrier again
            f = 1 - 2 * h * (math.pi / 2 - h)
        return -torch.expm1(-pulse_ns / self.tau0_ns * torch.exp(-as_double(self.delta) * f))

    def voltage(self, p: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        r"""$h = 1 - f$ or $h = (\pi - \sqrt{\pi^2 - 8(1-f)}) / 4$; $f = \ln(t / (\tau_0 (-\ln(1-p)))) / \Delta$."""
        wanted = as_double(p)
        high = 1.0 if self.barrier == "linear" else self.probability(self.critical_voltage_v, pulse_ns)
        require_reachable(wanted, self.probability(0.0, pulse_ns), high)
        f = torch.log(pulse_ns / (self.tau0_ns * -torch.log1p(-wanted))) / as_double(self.delta)
        h = 1 - f if self.barrier == "linear" else (math.pi - (math.pi**2 - 8 * (1 - f)).clamp(min=0).sqrt()) / 4
        return h * as_double(self.critical_voltage_v)

    def scaled(self, threshold: Number, slope: Number) -> "NeelBrown":
        """Critical voltage and thermal stability."""
        return replace(self, critical_voltage_v=self.critical_voltage_v * threshold, delta=self.delta * slope)

    def heated(self, anisotropy: Number, thermal: Number) -> "NeelBrown":
        """Critical voltage and barrier go with the anisotropy energy, the barrier is counted in thermal energies."""
        return self.scaled(anisotropy, anisotropy / thermal)


@dataclass(frozen=True)
class Sigmoid:
    """A logistic curve, fitted at one pulse length.

    >>> float(Sigmoid(0.9, 40.0).probability(0.9, 1.0))
    0.5
    """

    threshold_v: Number
    """voltage at which half of the pulses switch, V"""
    slope_per_v: Number
    """logistic slope, 1/V: four times dp/dV at one half"""
    pulse_ns: float | None = None
    """pulse of the measurement, ns; ``None``: whatever pulse is asked for"""

    def __post_init__(self) -> None:
        require_positive(self, "threshold_v", "slope_per_v")

    def probability(self, voltage_v: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        """See :class:`SwitchingLaw`."""
        require_pulse(self, self.pulse_ns, pulse_ns)
        return torch.sigmoid(as_double(self.slope_per_v) * (as_double(voltage_v) - as_double(self.threshold_v)))

    def voltage(self, p: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        """See :class:`SwitchingLaw`."""
        wanted = as_double(p)
        require_reachable(wanted, self.probability(0.0, pulse_ns), 1.0)
        return as_double(self.threshold_v) + torch.logit(wanted) / as_double(self.slope_per_v)

    def scaled(self, threshold: Number, slope: Number) -> "Sigmoid":
        """A larger threshold stretches the curve, a larger slope makes it steeper around the threshold."""
        return replace(self, threshold_v=self.threshold_v * threshold, slope_per_v=self.slope_per_v * slope / threshold)

    def heated(self, anisotropy: Number, thermal: Number) -> "Sigmoid":
        r"""Threshold and width go with the critical voltage.

        Where the magnetization precesses, a pulse V of length t from a thermal start switches with about
        $\exp(-c\,\Delta\,e^{-2 (V/V_{c0} - 1) t / \tau_D})$: the width is a fixed share of $V_{c0}$, and $\Delta$
        shifts the curve by $\ln \Delta$ times that width alone, which is left out.
        """
        return self.scaled(anisotropy, 1.0)


def as_double(value: Number) -> Float[Tensor, "..."]:
    """A number or tensor in float64."""
    return torch.as_tensor(value, dtype=torch.float64)


def require_positive(owner: object, *names: str) -> None:
    """Refuse a field that is not finite and above 0, by its name.

    Raises:
        ValueError: for one.
    """
    for name in names:
        value = torch.as_tensor(getattr(owner, name))
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise ValueError(f"{name} of a device must be finite and above 0, got {getattr(owner, name)}")


def require_pulse(law: object, measured_ns: float | None, pulse_ns: float) -> None:
    """Refuse another pulse than that of the measurement.

    Raises:
        ValueError: for one.
    """
    if measured_ns is not None and not math.isclose(measured_ns, pulse_ns):
        raise ValueError(
            f"this {type(law).__name__.lower()} law was measured with pulses of {measured_ns:g} ns and is not valid "
            f"at {pulse_ns:g} ns: measure there, or use a Neel-Brown law"
        )


def require_reachable(wanted: Tensor, low: Number, high: Number, within: str = "") -> None:
    """Refuse probabilities outside of what a device reaches.

    Raises:
        DriveError: for one; the message has the range.
    """
    low, high = as_double(low), as_double(high)
    slack = 1e-12  # an end of the range may come back from rounding a little outside of it
    inside = (wanted >= low - slack) & (wanted <= high + slack) & (wanted < 1) & (wanted > 0)
    if not bool(inside.all()):
        given = f"{float(wanted):g}" if wanted.numel() == 1 else f"{float(wanted.min()):g} to {float(wanted.max()):g}"
        raise DriveError(
            f"no voltage{within} gives switching probability {given}: this device reaches "
            f"{float(low.max()):.4g} to {float(high.min()):.4g}. Change the pulse, or take another device"
        )
