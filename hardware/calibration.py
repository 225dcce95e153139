r"""Calibration of a chip's drives by counting bits, run-time tracking, and their cost.

One trial at voltage V gives a bit b of mean P(V), with slope $s = dP/dV$ and variance $p(1-p)$ near the wanted p. A
Kalman filter of gain $K = P s / (s^2 P + p(1-p))$ moves the drive by $-K(b - p)$; from a drive that is off by the
spread of devices, $\sigma_V$, N trials leave a variance of the drive, and with the DAC's step $\delta$ one of p, of

$$ v_N = \Bigl(\frac{1}{\sigma_V^2} + \frac{N s^2}{p(1-p)}\Bigr)^{-1}, \qquad
   \operatorname{var} \hat p = s^2 v_N + s^2 \delta^2 / 12 , $$

the binomial $p(1-p)/N$ where N is large. A loop at run time has a constant gain, $V \leftarrow V - (g/s)(b - p)$: its
probability has the stationary variance $g\,p(1-p) / (2 - g)$, forgets an offset in 1/g draws, and lags behind a drift
of r a draw by r/g. Both are linear: they hold while P(V) is, within a few tenths around p.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hardware.mtj import MTJ, DeviceVariation
from hardware.shapes import Float
from hardware.switching import Number, as_double


@dataclass(frozen=True)
class Drive:
    """A write driver: continuous, or with a digital-to-analogue converter.

    Raises:
        ValueError: for a negative number of bits, or no range.
    """

    high_v: float
    """largest voltage, V; the smallest is 0"""
    bits: int = 0
    """bits of the converter; 0: any voltage"""

    def __post_init__(self) -> None:
        if not 0 <= self.bits <= 24:
            raise ValueError(f"bits of a drive's converter lie in 1 to 24, or 0 for none, got {self.bits}")
        if not 0 < self.high_v < math.inf:
            raise ValueError(f"a drive needs its largest voltage, high_v, got {self.high_v}")

    @property
    def step_v(self) -> float:
        """Voltage between two codes, V."""
        return self.high_v / (2**self.bits - 1) if self.bits else 0.0

    def voltage(self, wanted_v: Number) -> Float[Tensor, "..."]:
        """The nearest voltage that the driver has, V."""
        volts = as_double(wanted_v).clamp(0.0, self.high_v)
        return torch.round(volts / self.step_v) * self.step_v if self.bits else volts


@dataclass(frozen=True)
class Calibration:
    """A calibration of N trials for each probability of a chip, with the gains of the nominal device.

    Raises:
        ValueError: for no trial.
    """

    trials: int
    """draws for each probability"""
    bits: int = 0
    """of the drive's converter; 0: any voltage"""
    temperature_k: float | None = None
    """temperature of the calibration, K; ``None``: that of the device"""
    drift: float = 0.0
    """share that the actual critical voltages have gone up by until the calibration"""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"a calibration takes at least one trial, got {self.trials}")
        Drive(1.0, self.bits)

    def drive(self, nominal: MTJ) -> Drive:
        """The driver, which ends at the device's ``max_voltage_v``.

        Raises:
            ValueError: the device has none.
        """
        return Drive(nominal.max_voltage_v, self.bits)

    def voltage(
        self, nominal: MTJ, actual: MTJ, p: Float[Tensor, "..."], spread: DeviceVariation, generator: torch.Generator
    ) -> Float[Tensor, "..."]:
        """Drive (V) for each wanted probability, found by drawing from the actual device.

        Args:
            nominal: device from which the first drive and the gains come.
            actual: device of the chip, or one for each probability.
            p: wanted probabilities.
            spread: of the devices, which the first drive is off by.
            generator: of the trials' bits.

        Raises:
            DriveError: the nominal device cannot reach a probability.
            ValueError: the device has no ``max_voltage_v``.
        """
        drive, wanted = self.drive(nominal), as_double(p)
        # the filter knows the temperature, and so the nominal drive at it
        start = nominal.at(self.temperature_k)
        volts = start.voltage(wanted)
        slope, noise = slope_per_v(start, volts), wanted * (1 - wanted)
        variance = prior_variance(start, wanted, spread)
        here = actual.at(self.temperature_k).drifted(self.drift)
        for _ in range(self.trials):
            chance = here.probability(drive.voltage(volts))
            bits = torch.rand(chance.shape, generator=generator, dtype=torch.float64) < chance
            gain = variance * slope / (slope**2 * variance + noise)
            volts = (volts - gain * (bits.double() - wanted)).clamp(0.0, drive.high_v)
            variance = variance * noise / (slope**2 * variance + noise)
        return drive.voltage(volts)

    def expected_error(self, nominal: MTJ, p: Number, spread: DeviceVariation) -> Float[Tensor, "..."]:
        """Standard deviation of the calibrated probability; see the module."""
        wanted = as_double(p)
        volts = nominal.voltage(wanted)
        slope, prior = slope_per_v(nominal, volts), prior_variance(nominal, wanted, spread)
        left = 1 / (1 / prior + self.trials * slope**2 / (wanted * (1 - wanted)))
        return slope * (left + self.drive(nominal).step_v ** 2 / 12).sqrt()

    def energy_pj(self, nominal: MTJ, p: Number) -> float:
        """Energy of calibrating a chip for these probabilities, pJ."""
        return self.trials * float(nominal.draw_energy_pj(p).sum())

    def time_ns(self, nominal: MTJ, p: Number) -> float:
        """Time of calibrating one junction for these probabilities one after another, ns."""
        return self.trials * as_double(p).numel() * nominal.draw_time_ns


def prior_variance(nominal: MTJ, p: Float[Tensor, "..."], spread: DeviceVariation) -> Float[Tensor, "..."]:
    """Variance (V^2) of devices' right drives around the nominal one, by their thresholds and by their slopes."""
    volts = nominal.voltage(p)
    steeper = nominal.law.scaled(1.0, 1 + spread.slope_cv).voltage(p, nominal.pulse_ns)
    # below a millionth of the drive there is nothing to find
    return ((volts * spread.threshold_cv) ** 2 + (steeper - volts) ** 2).clamp(min=(1e-6 * volts) ** 2)


def slope_per_v(device: MTJ, voltage_v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Slope of the switching probability with the voltage, 1/V, by central differences over 2 mV."""
    return (device.probability(voltage_v + 1e-3) - device.probability(voltage_v - 1e-3)) / 2e-3


def follow(
    device: MTJ,
    p: float,
    start_v: Number,
    gain: float,
    drive: Drive,
    drift: Float[Tensor, " draws"],
    generator: torch.Generator,
) -> Float[Tensor, "draws ..."]:
    """Probabilities that a loop at run time gives, draw after draw.

    Args:
        device: one device or many, each with a loop of its own.
        p: wanted probability.
        start_v: drive at the beginning, V, of each loop.
        gain: share g of an error that one draw corrects, in (0, 1).
        drive: driver.
        drift: factor on the critical voltage at each draw, e.g. of :func:`aged`.
        generator: of the bits.

    Raises:
        ValueError: for a gain out of range.
    """
    if not 0 < gain < 1:
        raise ValueError(f"gain of a loop must lie in (0, 1), got {gain}")
    volts = as_double(start_v)
    per_bit = gain / slope_per_v(device, device.voltage(p))
    seen = []
    for factor in drift.tolist():
        # a threshold that is higher by a factor sees a drive that is lower by it
        chance = device.probability(drive.voltage(volts) / factor)
        bits = torch.rand(chance.shape, generator=generator, dtype=torch.float64) < chance
        volts = volts - per_bit * (bits.double() - p)
        seen.append(chance)
    return torch.stack(seen)


def aged(hours: Number, per_decade: float, start_h: float = 1.0) -> Float[Tensor, "..."]:
    """Factor on the critical voltage after a time: a drift that goes with its logarithm, 1 at the beginning.

    >>> float(aged(9.0, 0.01))
    1.01
    """
    return 1 + per_decade * torch.log10(1 + as_double(hours) / start_h)
