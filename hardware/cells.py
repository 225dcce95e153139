"""Devices of a crossbar's cells: what is not ideal about them, and the conductances that follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardware.mapping import Crossbar
from hardware.mtj import lognormal
from hardware.shapes import Float


@dataclass(frozen=True)
class Imperfections:
    """What is not ideal on a chip; the default is."""

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
    wire_resistance_ohm: float = 0.0
    """resistance of a line between two cells"""
    resistance_p_kohm: float = 1000.0
    """resistance of LRS; the voltage drop depends on it"""

    def __post_init__(self) -> None:
        if self.adc_bits is not None and not 1 <= self.adc_bits <= 24:
            raise ValueError(f"adc_bits must lie in 1 to 24, got {self.adc_bits}")
        if min(self.tmr, self.resistance_p_kohm) <= 0 or min(self.conductance_cv, self.wire_resistance_ohm) < 0:
            raise ValueError(f"tmr and resistance must be above 0, variation and wire resistance not negative: {self}")
        if min(self.stuck_p, self.stuck_ap) < 0 or self.stuck_p + self.stuck_ap > 1:
            raise ValueError(f"stuck_p and stuck_ap are shares of the devices, got {self.stuck_p} and {self.stuck_ap}")

    @property
    def ideal_devices(self) -> bool:
        """Whether every device has its nominal conductance."""
        return not (self.conductance_cv or self.stuck_p or self.stuck_ap or self.wire_resistance_ohm)


def conductances(
    weight: Float[Tensor, "out rows"], crossbar: Crossbar, imperfect: Imperfections, generator: torch.Generator
) -> tuple[Float[Tensor, "out rows"], Float[Tensor, "out rows"]]:
    """Conductances of both devices of every cell of one tile, from HRS in units of the window.

    Args:
        weight: +1 and -1.
        crossbar: geometry.
        imperfect: variation, stuck devices and wires.
        generator: where the randomness comes from.
    """
    both = torch.stack([weight, -weight]).double()
    low = (both > 0).double()
    if imperfect.stuck_p or imperfect.stuck_ap:
        fate = torch.rand(low.shape, generator=generator, dtype=torch.float64)
        low[fate < imperfect.stuck_p + imperfect.stuck_ap] = 0
        low[fate < imperfect.stuck_p] = 1
    # in units of the window the conductance of HRS is 1 / tmr, that of LRS 1 / tmr + 1
    level = low + 1 / imperfect.tmr
    if imperfect.conductance_cv:
        level = level * lognormal(imperfect.conductance_cv, tuple(level.shape), generator)
    if imperfect.conductance_cv or imperfect.stuck_p or imperfect.stuck_ap:
        low = level - 1 / imperfect.tmr
    low = low * (1 - _voltage_drop(weight.shape, crossbar, imperfect))
    return low[0].to(weight.dtype), low[1].to(weight.dtype)


def _voltage_drop(shape: Sequence[int], crossbar: Crossbar, imperfect: Imperfections) -> Tensor:
    r"""Share of the read voltage that the wires take from each cell, to first order, shape ``(out, rows)``.

    Cell (i, j) sees $1 - r \bar G (\sum_k \min(i, k) + \sum_l \min(j, l))$, as if every cell drew the mean current.
    """
    if not imperfect.wire_resistance_ohm:
        return torch.zeros(1, dtype=torch.float64)
    mean_siemens = (1 + 1 / (1 + imperfect.tmr)) / 2 / (imperfect.resistance_p_kohm * 1e3)

    def along(cells: int) -> Tensor:
        place = torch.arange(1, cells + 1, dtype=torch.float64)
        return torch.minimum(place[:, None], place).sum(1) * imperfect.wire_resistance_ohm * mean_siemens

    columns, rows = shape
    by_column = torch.cat([along(min(crossbar.columns, columns - i)) for i in range(0, columns, crossbar.columns)])
    drop = by_column[:, None] + along(rows)[None]
    if float(drop.max()) > 0.5:
        raise ValueError(
            f"the wires would take {100 * float(drop.max()):.0f} % of the read voltage, where the first-order model no "
            "longer holds: use smaller tiles, cells of a higher resistance, or less wire resistance"
        )
    return drop
