r"""Actual probability of a dropout module: eq. 24's Gaussian, or that of a junction that differs from the nominal one.

Paper eq. 24: $\hat p \sim \mathcal N(p, \sigma^2)$ within [0, 1], redrawn at each use of a layer. Or the spread follows
from the device: the drive is set for the nominal device, or by a calibration on the chip, and another one answers.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from hardware.calibration import Calibration
from hardware.mtj import MTJ, DeviceVariation, lognormal, vary
from hardware.shapes import Float

Within = Literal["clipped", "truncated"]


@dataclass(frozen=True)
class GaussianProbability:
    """Eq. 24: a Gaussian around the wanted probability, kept within [0, 1].

    ``"clipped"`` moves what falls outside to the bound, which keeps p = 0 and p = 1 possible; ``"truncated"`` is the
    Gaussian on the condition that it falls inside, which has no lumps at the bounds.
    """

    sigma: float
    """standard deviation"""
    within: Within = "clipped"
    """how the probability stays in [0, 1]"""

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"sigma must be 0 or above, got {self.sigma}")
        if self.within not in get_args(Within):
            raise ValueError(f"within must be one of {', '.join(get_args(Within))}, got {self.within!r}")

    def probability(self, p: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
        r"""One $\hat p$ for each entry of ``p``; shape in, shape out, float64.

        Raises:
            ValueError: if an entry of ``p`` is no probability.
        """
        wanted = _probabilities(p)
        if self.sigma == 0:
            return wanted
        if self.within == "clipped":
            noise = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
            return (wanted + self.sigma * noise).clamp(0, 1)
        low, high = (torch.special.ndtr((bound - wanted) / self.sigma) for bound in (0.0, 1.0))
        uniform = torch.rand(wanted.shape, generator=generator, dtype=torch.float64)
        quantile = torch.special.ndtri((low + uniform * (high - low)).clamp(1e-300, 1 - 1e-16))
        return (wanted + self.sigma * quantile).clamp(0, 1)


@dataclass(frozen=True)
class DeviceProbability:
    """The probability that a junction has when the drive was chosen for another one.

    A layer with p of 0 or 1 needs no junction and keeps its p.
    """

    device: MTJ
    """nominal device, for which the drive is chosen"""
    variation: DeviceVariation
    """spread of the devices and of their cycles"""
    temperature_k: float | None = None
    """temperature at run time, K; the drive was chosen at the device's"""
    drift: float = 0.0
    """share that the critical voltages have gone up by at run time, behind the choice of the drive"""
    chip: MTJ | None = field(default=None, repr=False)
    """the one device of a finished chip; ``None``: another device at each use, the population of chips"""
    calibration: Calibration | None = None
    """how the drives are set on the finished chip; ``None``: to those of the nominal device"""

    def manufacture(self, generator: torch.Generator) -> "DeviceProbability":
        """A chip with one device out of the population, the same at every use."""
        return replace(self, chip=vary(self.device, self.variation, (), generator))

    def probability(self, p: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
        r"""One $\hat p$ for each entry of ``p``; shape in, shape out, float64.

        Raises:
            ValueError: if an entry of ``p`` is no probability; as ``DriveError`` if the device cannot reach it.
        """
        wanted = _probabilities(p)
        drawn = (wanted > 0) & (wanted < 1)
        if not bool(drawn.any()):
            return wanted
        inner = wanted[drawn]
        voltage = self.device.voltage(inner)
        actual = self.chip or vary(self.device, self.variation, tuple(inner.shape), generator)
        if self.calibration is not None:
            voltage = self.calibration.voltage(self.device, actual, inner, self.variation, generator)
        if self.variation.cycle_cv:
            voltage = voltage / lognormal(self.variation.cycle_cv, tuple(inner.shape), generator)
        result = wanted.clone()
        result[drawn] = actual.drifted(self.drift).probability(voltage, self.temperature_k)
        return result


def telegraph_correlation(interval_ns: float, dwell_0_ns: float, dwell_1_ns: float) -> float:
    r"""Correlation of a fluctuating junction's state with that an interval ago, $e^{-t (1/\tau_0 + 1/\tau_1)}$.

    Args:
        interval_ns: time between two reads, ns.
        dwell_0_ns: mean time in state 0, ns.
        dwell_1_ns: mean time in state 1, ns.

    >>> round(telegraph_correlation(1.0, 2.0, 2.0), 4)
    0.3679
    """
    return math.exp(-interval_ns * (1 / dwell_0_ns + 1 / dwell_1_ns))


def _probabilities(p: Tensor) -> Tensor:
    wanted = p.detach().to("cpu", torch.float64)
    if not bool(((wanted >= 0) & (wanted <= 1)).all()):
        raise ValueError(f"probabilities must lie in [0, 1], got {p}")
    return wanted
