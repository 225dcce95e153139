"""A measured switching curve as a law: its points, linear between them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardware.shapes import Float
from hardware.switching import Number, as_double, require_positive, require_pulse, require_reachable


@dataclass(frozen=True)
class Table:
    """Measured points, linear between them and constant outside.

    >>> round(float(Table((0.8, 0.9), (0.0, 0.5)).voltage(0.25, 1.0)), 6)
    0.85
    """

    voltage_v: tuple[float, ...]
    """increasing voltages, V"""
    probability_at: tuple[float, ...]
    """switching probability at each of them, never falling"""
    pulse_ns: float | None = None
    """pulse of the measurement, ns; ``None``: whatever pulse is asked for"""
    threshold: Number = 1.0
    """voltages of this device over those of the table"""
    slope: Number = 1.0
    """steepness around one half over that of the table"""

    def __post_init__(self) -> None:
        volts, p = (torch.tensor(points, dtype=torch.float64) for points in (self.voltage_v, self.probability_at))
        if len(volts) != len(p) or len(p) < 2 or not bool((volts.diff() > 0).all()) or float(volts[0]) < 0:
            raise ValueError(
                f"a table has two or more increasing voltages and a probability at each, got {self.voltage_v} and "
                f"{self.probability_at}"
            )
        if not bool(((p >= 0) & (p <= 1)).all()) or not bool((p.diff() >= 0).all()) or float(p[0]) == float(p[-1]):
            raise ValueError(f"probabilities of a table lie in [0, 1], rise and never fall, got {self.probability_at}")
        require_positive(self, "threshold", "slope")

    def _points(self) -> tuple[Tensor, Tensor]:
        volts, p = (torch.tensor(points, dtype=torch.float64) for points in (self.voltage_v, self.probability_at))
        return volts, p

    def _half(self) -> Tensor:
        """Voltage around which another slope turns the curve: one half, or the end nearest to it."""
        volts, p = self._points()
        return _interpolate(p.new_tensor(0.5).clamp(p[0], p[-1]), p, volts)

    def probability(self, voltage_v: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        """See :class:`hardware.switching.SwitchingLaw`."""
        require_pulse(self, self.pulse_ns, pulse_ns)
        half = self._half()
        on_table = half + (as_double(voltage_v) / as_double(self.threshold) - half) * as_double(self.slope)
        return _interpolate(on_table, *self._points())

    def voltage(self, p: Number, pulse_ns: float) -> Float[Tensor, "..."]:
        """The smallest one; see :class:`hardware.switching.SwitchingLaw`."""
        require_pulse(self, self.pulse_ns, pulse_ns)
        wanted, half = as_double(p), self._half()
        volts, known = self._points()
        require_reachable(wanted, known[0], known[-1])
        on_table = _interpolate(wanted.clamp(known[0], known[-1]), known, volts)
        return as_double(self.threshold) * (half + (on_table - half) / as_double(self.slope))

    def scaled(self, threshold: Number, slope: Number) -> "Table":
        """See :class:`hardware.switching.SwitchingLaw`."""
        return replace(self, threshold=self.threshold * threshold, slope=self.slope * slope)

    def heated(self, anisotropy: Number, thermal: Number) -> "Table":
        """As :meth:`hardware.switching.Sigmoid.heated`."""
        return self.scaled(anisotropy, 1.0)


def _interpolate(x: Tensor, known_x: Tensor, known_y: Tensor) -> Tensor:
    """Linear between points of non-decreasing x, constant outside; the first point where several have one x."""
    right = torch.searchsorted(known_x, x.contiguous()).clamp(1, len(known_x) - 1)
    left = right - 1
    width = known_x[right] - known_x[left]
    share = torch.where(width > 0, (x - known_x[left]) / width.clamp(min=1e-300), torch.zeros_like(x)).clamp(0, 1)
    return known_y[left] + share * (known_y[right] - known_y[left])
