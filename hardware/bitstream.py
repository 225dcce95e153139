r"""Random bits from junctions: the SET, read, RESET cycle with its energy and time, and telegraph noise.

A *cycled* device is written at random, read and reset; its bits are independent, since every cycle starts from the
parallel state. A *free-running* superparamagnetic device switches by itself and is only read. With dwell times
$\tau_1, \tau_0$ of its two states the correlation of two reads a time $s$ apart is $e^{-s(1/\tau_1 + 1/\tau_0)}$, so
reads faster than about twice the dwell time repeat themselves (arXiv:1911.11204).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hardware.mtj import (
    MTJ,
    DeviceVariation,
    Law,
    Number,
    as_double,
    current_for_probability,
    lognormal,
    switching_probability,
)
from hardware.shapes import Bool, Float

#: a RESET fails once in a million cycles
RESET_PROBABILITY = 1 - 1e-6


@dataclass(frozen=True)
class BitStream:
    """Bits of cycled devices.

    Attributes:
        bits: whether the SET pulse switched, ``(cycles, *devices)``.
        energy_pj: energy of each cycle, ``(cycles, *devices)``.
        cycle_ns: SET, read and RESET together, ns.
    """

    bits: Bool[Tensor, "cycles ..."]
    energy_pj: Float[Tensor, "cycles ..."]
    cycle_ns: float

    @property
    def power_mw(self) -> Float[Tensor, "..."]:
        """Mean power of each device, mW (pJ a ns)."""
        return self.energy_pj.mean(0) / self.cycle_ns


def bit_stream(
    device: MTJ,
    current_ua: Number,
    cycles: int,
    generator: torch.Generator,
    *,
    variation: DeviceVariation | None = None,
    temperature_k: Number | None = None,
    law: Law = "neel_brown",
    reset_ns: float | None = None,
) -> BitStream:
    """Run the SET, read, RESET cycle.

    Energies: $I^2 R_{SOT} t$ for SET and RESET, $V^2 t / R$ for the read, with R of the state that is read. RESET has
    the current that switches the device with probability ``RESET_PROBABILITY``, and is taken as certain.

    Args:
        device: one device or many (see :func:`hardware.mtj.vary`).
        current_ua: SET current.
        cycles: length of the stream, at least 1.
        generator: where the randomness comes from.
        variation: its cycle-to-cycle part shifts the critical current anew in each cycle.
        temperature_k: temperature, K.
        law: switching law.
        reset_ns: RESET pulse, ns; by default as long as SET. A weak torque needs a longer one.

    Raises:
        DriveError: if the device cannot be reset reliably.
    """
    if cycles < 1:
        raise ValueError(f"cycles must be at least 1, got {cycles}")
    p = switching_probability(device, current_ua, temperature_k=temperature_k, law=law)
    shape = (cycles, *p.shape)
    if variation is not None and variation.cycle_cv:
        # a critical current that is larger by a factor is a drive that is smaller by it
        drive = as_double(current_ua) / lognormal(variation.cycle_cv, shape, generator)
        p = switching_probability(device, drive, temperature_k=temperature_k, law=law)
    bits = torch.rand(shape, generator=generator, dtype=torch.float64) < p
    # uA^2 kOhm ns = 1e-6 pJ, V^2 ns / kOhm = 1 pJ
    reset_ns = reset_ns or device.pulse_ns
    reset_ua = current_for_probability(device, RESET_PROBABILITY, reset_ns, temperature_k, law)
    squared = as_double(current_ua) ** 2 * device.pulse_ns + reset_ua**2 * reset_ns
    write_pj = squared * as_double(device.write_resistance_kohm) * 1e-6
    resistance = torch.where(bits, as_double(device.resistance_ap_kohm), as_double(device.resistance_p_kohm))
    energy_pj = write_pj + device.read_voltage_v**2 * device.read_ns / resistance
    return BitStream(bits, energy_pj, device.pulse_ns + device.read_ns + reset_ns)


def telegraph_correlation(interval_ns: float, dwell_ns: float) -> float:
    r"""Correlation $e^{-2 s/\tau}$ of two reads ``interval_ns`` apart, for a mean dwell time ``dwell_ns``.

    The dwell time is the harmonic mean of those of both states, which is each of them at p = 1/2. At twice the dwell
    time the correlation is 2 %.

    >>> round(telegraph_correlation(2.0, 1.0), 3)
    0.018
    """
    if interval_ns <= 0 or dwell_ns <= 0:
        raise ValueError(f"interval_ns and dwell_ns must be above 0, got {interval_ns} and {dwell_ns}")
    return math.exp(-2 * interval_ns / dwell_ns)


def telegraph_bits(
    p: Number, interval_ns: float, dwell_ns: float, cycles: int, generator: torch.Generator, devices: int = 1
) -> Bool[Tensor, "cycles devices"]:
    """Bits of free-running devices that are read every ``interval_ns``.

    A read keeps the state before it with the probability of :func:`telegraph_correlation`, else it is a fresh draw:
    that is the two-state Markov process seen at the reads.

    Args:
        p: share of the time that a device is in state 1, a number or ``(devices,)``.
        interval_ns: time between reads.
        dwell_ns: mean dwell time.
        cycles: number of reads.
        generator: where the randomness comes from.
        devices: number of devices.
    """
    rho = telegraph_correlation(interval_ns, dwell_ns)
    uniform = torch.rand(2, cycles, devices, generator=generator, dtype=torch.float64)
    fresh = uniform[0] >= rho
    fresh[:1] = True
    index = torch.arange(cycles)[:, None] * fresh
    return (uniform[1] < as_double(p)).gather(0, index.cummax(0).values)
