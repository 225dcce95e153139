"""Devices of a crossbar's cells: non-idealities of a chip, and the conductances of its devices."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardware.constants import Preset
from hardware.mtj import lognormal
from hardware.shapes import Float


@dataclass(frozen=True)
class Imperfections:
    """What is not ideal on a chip; the default is. A *match* is one LRS cell more: the unit of a column's current."""

    adc_bits: int | None = None
    """bits of a converter; ``None``: the column's value is taken as it is"""
    tmr: float = 1.1
    """tunnel magnetoresistance of the cells"""
    conductance_cv: float = 0.0
    """coefficient of variation of every device's conductance, log-normal"""
    stuck_p: float = 0.0
    """share of devices that stay in the parallel state (LRS)"""
    stuck_ap: float = 0.0
    """share of devices that stay in the antiparallel state (HRS)"""
    wire_ohm_per_cell: float = 0.0
    """resistance, ohm, of a line between two complementary cells: of the bit line from one row to the next, of a word
    line from one column to the next"""
    wire_ohm_per_device: float = 0.0
    """the same as other tools give it, ohm a device: a cell has two of them on its bit line, one on a word line"""
    resistance_p_kohm: float = 1000.0
    """resistance of LRS, kOhm; what the wires take depends on it"""
    real_reference: bool = False
    """whether the devices of the reference column vary and are stuck like the others"""
    read_noise_cv: float = 0.0
    """coefficient of variation of a device's conductance from read to read"""
    adc_offset_matches: float = 0.0
    """standard deviation of the converters' offsets, matches"""
    adc_gain_cv: float = 0.0
    """standard deviation of the converters' relative gain errors"""
    adc_inl_steps: float = 0.0
    """standard deviation of the bow of the converters' integral nonlinearity at mid-scale, steps (LSB)"""
    adc_noise_matches: float = 0.0
    """standard deviation of the noise at a converter's input from read to read, matches"""

    def __post_init__(self) -> None:
        if self.wire_ohm_per_cell and self.wire_ohm_per_device:
            raise ValueError("give the wires' resistance as wire_ohm_per_cell or as wire_ohm_per_device, not as both")
        if self.adc_bits is not None and not 1 <= self.adc_bits <= 24:
            raise ValueError(f"adc_bits must lie in 1 to 24, got {self.adc_bits}")
        if self.adc_inl_steps and self.adc_bits is None:
            raise ValueError("adc_inl_steps counts steps of a converter: give adc_bits")
        for name in ("tmr", "resistance_p_kohm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and above 0, got {getattr(self, name)}")
        for name in _SPREADS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if min(self.stuck_p, self.stuck_ap) < 0 or self.stuck_p + self.stuck_ap > 1:
            raise ValueError(f"stuck_p and stuck_ap are shares of the devices, got {self.stuck_p} and {self.stuck_ap}")

    @property
    def wire_ohm(self) -> tuple[float, float]:
        """Resistance between two cells of a word line and of a bit line, ohm."""
        cell, device = self.wire_ohm_per_cell, self.wire_ohm_per_device
        return (device, 2 * device) if device else (cell, cell)

    @property
    def window_siemens(self) -> float:
        """Difference of the conductances of LRS and HRS: a match in units of the read voltage."""
        return self.tmr / (1 + self.tmr) / (self.resistance_p_kohm * 1e3)

    @property
    def drawn_cells(self) -> bool:
        """Whether devices of the cells are drawn at random."""
        return bool(self.conductance_cv or self.stuck_p or self.stuck_ap)

    @property
    def ideal_devices(self) -> bool:
        """Whether every device has its nominal conductance and sees the whole read voltage."""
        return not (self.drawn_cells or any(self.wire_ohm))

    @property
    def drawn_converters(self) -> bool:
        """Whether converters differ."""
        return bool(self.adc_offset_matches or self.adc_gain_cv or self.adc_inl_steps)

    @property
    def noisy(self) -> bool:
        """Whether two reads of the same column differ."""
        return bool(self.read_noise_cv or self.adc_noise_matches)


_SPREADS = (
    "conductance_cv", "wire_ohm_per_cell", "wire_ohm_per_device", "read_noise_cv", "adc_offset_matches", "adc_gain_cv",
    "adc_inl_steps", "adc_noise_matches",
)  # fmt: skip


def cells_of(preset: Preset, **others: Any) -> Imperfections:
    """A chip whose cells have the resistance and the TMR of a preset's constants.

    Args:
        preset: with ``cell_resistance_p`` and ``cell_tmr``, as of :func:`hardware.presets.components`.
        others: further fields of :class:`Imperfections`.
    """
    cells = {"tmr": preset.number("cell_tmr", "1"), "resistance_p_kohm": preset.number("cell_resistance_p", "kOhm")}
    return Imperfections(**{**cells, **others})


@dataclass(frozen=True)
class TileCells:
    """Conductances of the devices of one tile, from nominal HRS in units of the window."""

    weight: Float[Tensor, "out rows"]
    """+1 and -1"""
    match: Float[Tensor, "out rows"]
    """devices on the word lines that input +1 drives"""
    miss: Float[Tensor, "out rows"]
    """devices on the word lines that input -1 drives"""
    reference: Float[Tensor, "2 blocks rows"]
    """the same of the reference column of each block of columns: match lines, miss lines"""


def manufacture(
    weight: Float[Tensor, "out rows"], blocks: int, imperfect: Imperfections, generator: torch.Generator
) -> TileCells:
    """Devices of one tile of rows.

    Args:
        weight: +1 and -1.
        blocks: tiles along the outputs, each with a reference column.
        imperfect: variation and stuck devices.
        generator: where the randomness comes from.
    """
    match, miss = conductances(torch.stack([weight, -weight]) > 0, imperfect, generator)
    reference = torch.zeros(2, blocks, weight.shape[1], dtype=torch.float64)
    if imperfect.real_reference:
        reference = conductances(reference > 0, imperfect, generator)
    return TileCells(weight, match, miss, reference)


def conductances(low: Tensor, imperfect: Imperfections, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Conductances from nominal HRS in units of the window, float64, of devices that are asked to be in LRS or HRS."""
    low = low.double()
    if imperfect.stuck_p or imperfect.stuck_ap:
        fate = torch.rand(low.shape, generator=generator, dtype=torch.float64)
        low = torch.where(fate < imperfect.stuck_p + imperfect.stuck_ap, (fate < imperfect.stuck_p).double(), low)
    if not imperfect.conductance_cv:
        return low
    # in units of the window the conductance of HRS is 1 / tmr, that of LRS 1 / tmr + 1
    level = low + 1 / imperfect.tmr
    return level * lognormal(imperfect.conductance_cv, tuple(level.shape), generator) - 1 / imperfect.tmr
