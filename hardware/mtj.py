r"""A stochastic magnetic tunnel junction: a switching law with the pulse, the resistances and the spread of the device.

The law (:mod:`hardware.switching`) says how likely a write pulse switches; temperature acts on it through the
free layer (:mod:`hardware.thermal`). One draw of a bit is a write pulse, a read, and, where it has switched, a RESET
pulse at the driver's full voltage; the time of the RESET is always taken. Fields of a device may be tensors of one
shape: thousands of devices compute as one. All results are float64.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from hardware.shapes import Float
from hardware.switching import (
    DriveError,
    NeelBrown,
    Number,
    Sigmoid,
    SwitchingLaw,
    as_double,
    require_positive,
    require_reachable,
)
from hardware.switching_table import Table
from hardware.thermal import FreeLayer

__all__ = [
    "MTJ",
    "DeviceVariation",
    "DriveError",
    "NeelBrown",
    "Number",
    "Sigmoid",
    "SwitchingLaw",
    "Table",
    "lognormal",
    "vary",
]


@dataclass(frozen=True)
class MTJ:
    """One device, or many where fields are tensors of one shape.

    >>> device = MTJ(Sigmoid(0.9, 40.0), pulse_ns=1.0, write_resistance_kohm=1.0, resistance_p_kohm=5.0, tmr=1.0)
    >>> round(float(device.probability(device.voltage(0.2))), 12), device.draw_time_ns
    (0.2, 3.0)
    """

    law: SwitchingLaw
    """how likely a pulse switches"""
    pulse_ns: float
    """write pulse, ns"""
    write_resistance_kohm: Number
    """resistance of the write path, kOhm"""
    resistance_p_kohm: Number
    """resistance of the junction in its parallel state, kOhm"""
    tmr: Number
    """tunnel magnetoresistance (R_AP - R_P) / R_P"""
    read_voltage_v: float = 0.25
    read_ns: float = 1.0
    """read pulse, ns"""
    temperature_k: float = 300.0
    """temperature at which ``law`` holds, K"""
    max_voltage_v: float = math.inf
    """largest voltage of the write driver, V, which a RESET takes"""
    free_layer: FreeLayer | None = None
    """how it depends on temperature; ``None``: nothing but the thermal energy k_B T changes"""

    def __post_init__(self) -> None:
        names = [field.name for field in fields(self) if field.name not in ("law", "free_layer", "max_voltage_v")]
        require_positive(self, *names)
        if not self.max_voltage_v > 0:
            raise ValueError(f"max_voltage_v of a device must be above 0, got {self.max_voltage_v}")
        self.law.probability(0.0, self.pulse_ns)  # a pulse that the law says nothing of is refused now

    @property
    def resistance_ap_kohm(self) -> Number:
        """Resistance of the antiparallel state, kOhm."""
        return self.resistance_p_kohm * (1 + self.tmr)

    @property
    def draw_time_ns(self) -> float:
        """Time of one draw: write, read, RESET; ns."""
        return 2 * self.pulse_ns + self.read_ns

    def at(self, temperature_k: Number | None) -> "MTJ":
        """The device at another temperature, which its law then holds at; ``None``: as it is.

        Raises:
            ValueError: for a temperature that the free layer does not stand.
        """
        if temperature_k is None:
            return self
        kelvin = as_double(temperature_k)
        if not bool((torch.isfinite(kelvin) & (kelvin > 0)).all()):
            raise ValueError(f"temperature_k must be above 0, got {temperature_k}")
        energy = as_double(1.0)
        if self.free_layer is not None:
            energy = self.free_layer.anisotropy_energy(kelvin, self.temperature_k)
        return replace(self, law=self.law.heated(energy, kelvin / self.temperature_k))

    def drifted(self, drift: float) -> "MTJ":
        """The device when its critical or threshold voltage has gone up by a share of what it was, e.g. by 0.01.

        Raises:
            ValueError: nothing of the voltage would be left.
        """
        if not -1 < drift < math.inf:
            raise ValueError(f"drift of the critical voltage is a share of it above -1, got {drift}")
        return replace(self, law=self.law.scaled(1 + drift, 1.0)) if drift else self

    def probability(self, voltage_v: Number, temperature_k: Number | None = None) -> Float[Tensor, "..."]:
        """Probability that one write pulse of this voltage (V) switches.

        Shape: that of the arguments and the device's fields, broadcast.
        """
        return self.at(temperature_k).law.probability(voltage_v, self.pulse_ns)

    def voltage(self, p: Number) -> Float[Tensor, "..."]:
        """Write voltage (V) for a wanted switching probability, the inverse of :meth:`probability`.

        Raises:
            DriveError: if a probability is out of reach of the driver; the message has the range.
        """
        within = "" if math.isinf(self.max_voltage_v) else f" up to {self.max_voltage_v:g} V"
        high = self.law.probability(self.max_voltage_v, self.pulse_ns)
        require_reachable(as_double(p), self.law.probability(0.0, self.pulse_ns), high, within)
        return self.law.voltage(p, self.pulse_ns)

    def draw_energies_pj(self, p: Number) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """Energy (pJ) of a draw at the drive for ``p``: write and read where it did not switch, RESET too where it did.

        Raises:
            DriveError: as :meth:`voltage`.
            ValueError: the device has no ``max_voltage_v``, which a RESET takes.
        """
        if math.isinf(self.max_voltage_v):
            raise ValueError("a draw ends with a RESET at max_voltage_v of the device: set it")
        # V^2 ns / kOhm = 1 pJ
        write_pj, reset_pj = (
            as_double(volt) ** 2 / as_double(self.write_resistance_kohm) * self.pulse_ns
            for volt in (self.voltage(p), self.max_voltage_v)
        )
        read_p_pj, read_ap_pj = (
            self.read_voltage_v**2 * self.read_ns / as_double(kohm)
            for kohm in (self.resistance_p_kohm, self.resistance_ap_kohm)
        )
        return write_pj + read_p_pj, write_pj + read_ap_pj + reset_pj

    def draw_energy_pj(self, p: Number) -> Float[Tensor, "..."]:
        """Mean energy of drawing one bit that is 1 with probability ``p``, pJ; see :meth:`draw_energies_pj`."""
        kept_pj, switched_pj = self.draw_energies_pj(p)
        return (1 - as_double(p)) * kept_pj + as_double(p) * switched_pj


@dataclass(frozen=True)
class DeviceVariation:
    """Coefficients of variation (standard deviation over mean) of the parameters."""

    threshold_cv: float = 0.0
    """critical or threshold voltage, device to device"""
    slope_cv: float = 0.0
    """steepness on the scale of the threshold, device to device: thermal stability, or slope times threshold"""
    resistance_cv: float = 0.0
    """resistance of the junction, device to device"""
    tmr_cv: float = 0.0
    """tunnel magnetoresistance, device to device"""
    cycle_cv: float = 0.0
    """critical or threshold voltage, cycle to cycle of one device"""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name} must be 0 or above, got {getattr(self, field.name)}")


def vary(device: MTJ, variation: DeviceVariation, shape: tuple[int, ...], generator: torch.Generator) -> MTJ:
    """Devices of a wafer: parameters log-normal around those of ``device``, which stay the means."""
    threshold, slope, resistance, tmr = (
        lognormal(cv, shape, generator)
        for cv in (variation.threshold_cv, variation.slope_cv, variation.resistance_cv, variation.tmr_cv)
    )
    return replace(
        device,
        law=device.law.scaled(threshold, slope),
        resistance_p_kohm=device.resistance_p_kohm * resistance,
        tmr=device.tmr * tmr,
    )


def lognormal(cv: float, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Positive random factors of mean 1 and standard deviation ``cv``, float64."""
    variance = math.log1p(cv**2)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.exp(math.sqrt(variance) * noise - variance / 2)
