"""Energy and time of a random bit: from the paper's module, or a junction that is written, read and reset."""

from dataclasses import dataclass

from hardware.constants import Preset
from hardware.mtj import MTJ


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


def junction_bit(device: MTJ, p: float) -> BitCost:
    """A junction that switches with probability p: :meth:`hardware.mtj.MTJ.draw_energies_pj`.

    The cycle has time for a RESET whether it is needed or not. A layer with p of 0 or 1 needs no junction.

    Raises:
        DriveError: if the device cannot reach p.
    """
    if not 0 < p < 1:
        return BitCost(0.0, 0.0, device.draw_time_ns)
    kept_pj, dropped_pj = device.draw_energies_pj(p)
    return BitCost(float(kept_pj), float(dropped_pj), device.draw_time_ns)
