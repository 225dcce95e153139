r"""What a random bit takes: the junction of a dropout module is written at random, read, and reset where it switched.

$E = I^2 R\,t + V_{read}^2 t_{read} / R_{state} + s\,I_{reset}^2 R\,t$ with $s = 1$ where the pulse switched the
junction, which happens with the drop probability p: the drive of SET depends on the device and on p.
"""

from dataclasses import dataclass
from typing import Any

from hardware.constants import Preset
from hardware.mtj import MTJ, DriveError, Number, as_double, current_for_probability

RESET_PROBABILITY = 1 - 1e-6
"""a RESET fails once in a million cycles"""


@dataclass(frozen=True)
class BitCost:
    """Energy and time of one random bit."""

    kept_pj: float
    """energy where the junction did not switch, pJ"""
    dropped_pj: float
    """energy where it switched, and is reset, pJ"""
    cycle_ns: float
    """time until the next draw, ns"""

    def mean_pj(self, p: float) -> float:
        """Expected energy where the junction switches with probability p, pJ."""
        return (1 - p) * self.kept_pj + p * self.dropped_pj


def module_bit(preset: Preset) -> BitCost:
    """The paper's module: its power over the cycle, whatever comes out."""
    cycle_ns = preset.number("module_cycle", "ns")
    energy_pj = preset.number("module_power", "mW") * cycle_ns
    return BitCost(energy_pj, energy_pj, cycle_ns)


def junction_bit(device: MTJ, p: float, **how: Any) -> BitCost:
    """A junction that switches with probability p.

    RESET has the current that switches the device with :data:`RESET_PROBABILITY`, or the strongest of its driver. The
    cycle has time for a RESET whether it is needed or not. A layer with p of 0 or 1 needs no junction.

    Args:
        device: one device.
        p: probability that SET switches it.
        how: of :func:`hardware.mtj.current_for_probability`, e.g. the law.

    Raises:
        DriveError: if the device cannot reach p.
    """
    cycle_ns = 2 * device.pulse_ns + device.read_ns
    if not 0 < p < 1:
        return BitCost(0.0, 0.0, cycle_ns)

    def write_pj(current_ua: Number) -> float:
        # uA^2 kOhm ns = 1e-6 pJ
        squared = as_double(current_ua) ** 2 * as_double(device.write_resistance_kohm)
        return float(squared) * device.pulse_ns * 1e-6

    def read_pj(resistance_kohm: Number) -> float:
        # V^2 ns / kOhm = 1 pJ
        return device.read_voltage_v**2 * device.read_ns / float(as_double(resistance_kohm))

    try:
        reset_ua: Number = current_for_probability(device, RESET_PROBABILITY, **how)
    except DriveError:
        reset_ua = as_double(device.critical_current_ua) * device.max_drive
    set_pj = write_pj(current_for_probability(device, p, **how))
    kept_pj, switched_pj = set_pj + read_pj(device.resistance_p_kohm), set_pj + read_pj(device.resistance_ap_kohm)
    return BitCost(kept_pj, switched_pj + write_pj(reset_ua), cycle_ns)
