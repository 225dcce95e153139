r"""A stochastic spin-orbit-torque magnetic tunnel junction (SOT-MTJ): switching law, inverse, sensitivity, variation.

A write pulse of current $I$ and length $t$ switches the free layer with probability (paper eq. 25)

$$ P = 1 - e^{-u}, \qquad u = \frac{t}{\tau_0} e^{-\Delta(T) f(h)}, \qquad h = I / I_{c0}, \quad
   \Delta(T) = \Delta\, T_{ref} / T $$

with the barrier $f(h) = 1 - h$ (``"neel_brown"``) or $f(h) = 1 - 2h(\pi/2 - h)$ (``"quadratic"``, in use for
spin-orbit torque on a perpendicular layer; its minimum $1 - \pi^2/8$ at $h = \pi/4$ bounds what a pulse can reach).
Fields of a device may be tensors: thousands of devices compute as one. All results are float64.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from hardware.shapes import Float

Law = Literal["neel_brown", "quadratic"]
Number = float | Tensor


class DriveError(ValueError):
    """No drive within the device's range gives the wanted probability."""


@dataclass(frozen=True)
class MTJ:
    """One device, or many where fields are tensors of one shape."""

    delta: Number
    """thermal stability E_b / (k_B T) at ``temperature_k``"""
    critical_current_ua: Number
    """critical current I_c0 of the write path, uA"""
    tau0_ns: float
    """attempt time, ns"""
    pulse_ns: float
    """write pulse, ns"""
    write_resistance_kohm: Number
    """resistance of the write path, kOhm"""
    resistance_p_kohm: Number
    """resistance of the junction in its parallel state, kOhm"""
    tmr: Number
    """tunnel magnetoresistance (R_AP - R_P) / R_P"""
    read_voltage_v: float = 0.25
    """read voltage, V"""
    read_ns: float = 1.0
    """read pulse, ns"""
    temperature_k: float = 300.0
    """temperature at which ``delta`` holds, K"""
    max_drive: float = 2.5
    """largest current of the write driver, in critical currents"""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = torch.as_tensor(getattr(self, field.name))
            if not bool((torch.isfinite(value) & (value > 0)).all()):
                raise ValueError(
                    f"{field.name} of a device must be finite and above 0, got {getattr(self, field.name)}"
                )

    @property
    def resistance_ap_kohm(self) -> Number:
        """Resistance of the antiparallel state, kOhm."""
        return self.resistance_p_kohm * (1 + self.tmr)

    @property
    def critical_voltage_v(self) -> Number:
        """Critical voltage of the write path, V."""
        return self.critical_current_ua * self.write_resistance_kohm * 1e-3


def as_double(value: Number) -> Float[Tensor, "..."]:
    """A number or tensor in float64."""
    return torch.as_tensor(value, dtype=torch.float64)


def barrier(drive: Number, law: Law = "neel_brown") -> Float[Tensor, "..."]:
    """Energy barrier over its height at rest, at a drive in critical currents; see the module.

    Raises:
        ValueError: for an unknown law.
    """
    h = as_double(drive)
    if law == "neel_brown":
        return 1 - h
    if law == "quadratic":
        h = h.clamp(max=math.pi / 4)  # a stronger torque does not raise the barrier again
        return 1 - 2 * h * (math.pi / 2 - h)
    raise ValueError(f"law must be one of {', '.join(get_args(Law))}, got {law!r}")


def switching_probability(
    device: MTJ,
    current_ua: Number,
    pulse_ns: Number | None = None,
    temperature_k: Number | None = None,
    law: Law = "neel_brown",
) -> Float[Tensor, "..."]:
    """Probability that one pulse switches, eq. 25.

    Args:
        device: one device or many.
        current_ua: write current, uA (a voltage over ``write_resistance_kohm``, in mV).
        pulse_ns: pulse, ns; by default the device's.
        temperature_k: temperature, K; by default the device's.
        law: barrier.

    Shape: that of the arguments and the device's fields, broadcast.

    >>> device = MTJ(40.0, 100.0, 1.0, math.log(2), 1.0, 5.0, 1.0)
    >>> round(float(switching_probability(device, 100.0)), 6)
    0.5
    """
    return -torch.expm1(-_attempts(device, current_ua, pulse_ns, temperature_k, law)[0])


def _attempts(
    device: MTJ, current_ua: Number, pulse_ns: Number | None, temperature_k: Number | None, law: Law
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected number of switchings u in a pulse, the barrier f, and the thermal stability at the temperature."""
    pulse = as_double(device.pulse_ns if pulse_ns is None else pulse_ns)
    delta = _stability(device, temperature_k)
    f = barrier(as_double(current_ua) / as_double(device.critical_current_ua), law)
    return pulse / device.tau0_ns * torch.exp(-delta * f), f, delta


def _stability(device: MTJ, temperature_k: Number | None) -> Tensor:
    kelvin = as_double(device.temperature_k if temperature_k is None else temperature_k)
    if not bool((kelvin > 0).all()):
        raise ValueError(f"temperature_k must be above 0, got {temperature_k}")
    return as_double(device.delta) * device.temperature_k / kelvin


def reachable_probabilities(
    device: MTJ, pulse_ns: Number | None = None, temperature_k: Number | None = None, law: Law = "neel_brown"
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Smallest (without current) and largest (at ``max_drive``) switching probability of a pulse."""
    low, high = (
        switching_probability(device, as_double(device.critical_current_ua) * h, pulse_ns, temperature_k, law)
        for h in (0.0, device.max_drive)
    )
    return low, high


def current_for_probability(
    device: MTJ,
    p: Number,
    pulse_ns: Number | None = None,
    temperature_k: Number | None = None,
    law: Law = "neel_brown",
) -> Float[Tensor, "..."]:
    r"""Write current (uA) for a wanted switching probability, the inverse of :func:`switching_probability`.

    $f = \ln\bigl(t / (\tau_0 (-\ln(1-p)))\bigr) / \Delta$, solved for h: $h = 1 - f$, or
    $h = \bigl(\pi - \sqrt{\pi^2 - 8(1 - f)}\bigr) / 4$.

    Raises:
        DriveError: if a probability is out of reach; the message has the range.
    """
    wanted = as_double(p)
    low, high = reachable_probabilities(device, pulse_ns, temperature_k, law)
    # an end of the range may come back from rounding a little outside of it
    slack = 1e-12
    if not bool(((wanted >= low - slack) & (wanted <= high + slack) & (wanted < 1)).all()):
        given = f"{float(wanted):g}" if wanted.numel() == 1 else f"{float(wanted.min()):g} to {float(wanted.max()):g}"
        raise DriveError(
            f"no current gives switching probability {given}: within 0 and {device.max_drive:g} critical currents this "
            f"device reaches {float(low.max()):.4g} to {float(high.min()):.4g} ({law}). Change pulse or temperature, "
            "or take a device with another delta"
        )
    pulse = as_double(device.pulse_ns if pulse_ns is None else pulse_ns)
    f = torch.log(pulse / (device.tau0_ns * -torch.log1p(-wanted))) / _stability(device, temperature_k)
    root = torch.sqrt((math.pi**2 - 8 * (1 - f)).clamp(min=0))
    h = 1 - f if law == "neel_brown" else (math.pi - root) / 4
    return h * as_double(device.critical_current_ua)


def delta_sensitivity(
    device: MTJ,
    current_ua: Number,
    pulse_ns: Number | None = None,
    temperature_k: Number | None = None,
    law: Law = "neel_brown",
) -> Float[Tensor, "..."]:
    r"""Slope of the switching probability with the thermal stability, $dp/d\Delta = -(1 - p)\, u f\, T_{ref}/T$."""
    u, f, delta = _attempts(device, current_ua, pulse_ns, temperature_k, law)
    return -torch.exp(-u) * u * f * delta / as_double(device.delta)


def current_sensitivity(
    device: MTJ,
    current_ua: Number,
    pulse_ns: Number | None = None,
    temperature_k: Number | None = None,
    law: Law = "neel_brown",
) -> Float[Tensor, "..."]:
    r"""Slope with the current, per uA: $dp/dI = -(1 - p)\, u \Delta f'(h) / I_{c0}$."""
    u, _, delta = _attempts(device, current_ua, pulse_ns, temperature_k, law)
    critical = as_double(device.critical_current_ua)
    h = as_double(current_ua) / critical
    slope = -torch.ones_like(h) if law == "neel_brown" else (4 * h - math.pi).clamp(max=0)
    return -torch.exp(-u) * u * delta * slope / critical


@dataclass(frozen=True)
class DeviceVariation:
    """Coefficients of variation (standard deviation over mean) of the parameters."""

    delta_cv: float = 0.0
    """thermal stability, device to device"""
    critical_cv: float = 0.0
    """critical current, device to device"""
    resistance_cv: float = 0.0
    """resistance of the junction, device to device"""
    tmr_cv: float = 0.0
    """tunnel magnetoresistance, device to device"""
    cycle_cv: float = 0.0
    """critical current, cycle to cycle of one device"""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name} must be 0 or above, got {getattr(self, field.name)}")


def vary(device: MTJ, variation: DeviceVariation, shape: tuple[int, ...], generator: torch.Generator) -> MTJ:
    """Devices of a wafer: parameters log-normal around those of ``device``, which stay the means.

    Args:
        device: nominal device.
        variation: its device-to-device part.
        shape: shape of the fields of the result.
        generator: where the randomness comes from.
    """

    def around(mean: Number, cv: float) -> Tensor:
        return as_double(mean) * lognormal(cv, shape, generator)

    return replace(
        device,
        delta=around(device.delta, variation.delta_cv),
        critical_current_ua=around(device.critical_current_ua, variation.critical_cv),
        resistance_p_kohm=around(device.resistance_p_kohm, variation.resistance_cv),
        tmr=around(device.tmr, variation.tmr_cv),
    )


def lognormal(cv: float, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Positive random factors of mean 1 and standard deviation ``cv``, float64."""
    variance = math.log1p(cv**2)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.exp(math.sqrt(variance) * noise - variance / 2)
