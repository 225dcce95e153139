"""Energies in the results of Table VIII (`scaledrop cost`), as its table and figure need them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lit_scaledrop.results.result import Result
from lit_scaledrop.results.units import UNITS, each_for, in_unit

PROPOSED = "Proposed"
"""The paper's method."""
_ISAAC = "isaac"
"""Converters of our default chip, which results that name none were counted with."""
TREATMENTS = {"digital": "digital", "binary": "as if binary", "excluded": "left out"}
"""What the first and the last layer, which are not binary, are taken for."""
EXECUTIONS = {"loop": "one by one", "prefix": "prefix once", "shared": "shared"}
"""How the passes are computed."""
SCALES = {"folded": "folded", "multiplied": "multiplied"}
"""What becomes of scales in front of a sign."""
UNITS_NJ = {unit: size / UNITS["nJ"] for unit, size in UNITS.items()}
PAPER_PASSES = 10
OWN = "Scale-Dropout"
"""How the names of the paper's own rows begin."""
ENERGY = "hw/energy_nj"
_OWN = "own"
_WHERE = ["execution", "scale", "real_layers", "adc", "component", "condition"]


def energies(run: Result) -> pd.DataFrame:
    """One line a number: execution, scale, real_layers, adc, component or condition; energy, operations, TOPS/W.

    ``own`` marks the lines with the converters of the chip.

    Raises:
        ValueError: the result has none.
    """
    rows = [{**one.at, **one.metrics} for one in run.measurements if ENERGY in one.metrics and "execution" in one.at]
    if not rows or "scale" not in rows[0]:
        raise ValueError(f"the result {run.id} has no energies; delete it and count again")
    names = [*_WHERE, ENERGY, "energy_std_nj", "operations", "tops_per_watt"]
    frame = pd.DataFrame(rows).reindex(columns=names)
    return frame.assign(**{_OWN: frame.adc == adc_of(run)})


def adc_of(run: Result) -> str:
    """Name of the converters of the chip that a result was counted on."""
    return str(run.config.get("adc", _ISAAC))


def chip_of(run: Result) -> tuple[Any, ...]:
    """What tells the chips of two results apart."""
    return adc_of(run), run.config.get("chip"), run.config.get("constants")


def role_of(run: Result, adc: str) -> str:
    """What a converter is beside others: ``converter`` of a source, ``bound``, ``outlier``, or ``yours``."""
    about = run.config["converters"][adc]
    return "yours" if about.get("yours") else str(about["role"])


def on_chip(run: Result) -> str:
    """What a command needs to count on the chip file of a result."""
    return " --chip FILE" if "chip" in run.config else ""


def whose(names: Iterable[str]) -> str:
    """Converters in words.

    >>> whose(["isaac"]), whose(["lab", "lab"])
    ("ISAAC's converters", 'the converters lab')
    """
    different = sorted(set(names))
    return "ISAAC's converters" if different == [_ISAAC] else f"the converters {', '.join(different)}"


def paper_nj(paper: pd.DataFrame, topology: str, run: Result) -> float:
    """The paper's own energy for a topology, nJ; NaN where it has none, or for another number of passes."""
    own = paper[paper.work.str.startswith(OWN) & (paper.topology == topology)]
    if own.empty or run.config["passes"] != PAPER_PASSES:
        return float("nan")
    return float(own.energy.iloc[0] * UNITS_NJ[own.unit.iloc[0]])


def readable(energy_nj: float) -> str:
    """Energy with a unit that keeps the number readable; empty where there is none."""
    return "" if pd.isna(energy_nj) else in_unit(energy_nj * UNITS["nJ"])


def component_name(component: str) -> str:
    """Name of a component for people.

    >>> component_name("digital_mac"), component_name("adc"), component_name("word_lines")
    ('digital MAC', 'ADC', 'word lines')
    """
    return component.replace("_", " ").replace("mac", "MAC").replace("adc", "ADC")


def chosen(frame: pd.DataFrame, **where: str) -> pd.DataFrame:
    """Lines at a place."""
    return frame[np.logical_and.reduce([frame[name] == value for name, value in where.items()])]


def totals(frame: pd.DataFrame, execution: str, scale: str, real: str) -> pd.Series:
    """Energy of an image by converter, nJ."""
    found = chosen(frame, execution=execution, scale=scale, real_layers=real)
    return found[found.adc.notna()].set_index("adc")[ENERGY]


def own_nj(frame: pd.DataFrame, execution: str, scale: str, real: str) -> float:
    """Energy of an image with the converters of the chip, nJ."""
    found = chosen(frame, execution=execution, scale=scale, real_layers=real)
    return float(found[found[_OWN]][ENERGY].iloc[0])


def parts(frame: pd.DataFrame, execution: str, scale: str, real: str) -> pd.DataFrame:
    """Energy and operations of the components, with the converters of the chip; index component."""
    found = chosen(frame, execution=execution, scale=scale, real_layers=real)
    return found[found.component.notna() & (found[ENERGY] > 0)].set_index("component")[[ENERGY, "operations"]]


@dataclass(frozen=True)
class Band:
    """Energies of an image with the converters of several sources, beside the paper's."""

    low: float
    """least of the cited converters, nJ"""
    high: float
    """most of them"""
    marks: dict[str, float]
    """bounds and outliers, beside the band"""
    needed_pj: float
    """conversion that would meet the paper, pJ; NaN where all else takes more, or the paper has none"""

    @property
    def ends(self) -> str:
        """From the least to the most."""
        return _span(readable(self.low), readable(self.high))

    def times(self, theirs: float) -> str:
        """How many times that the paper's energy is."""
        return "none" if pd.isna(self.low) else _span(f"{theirs / self.high:.2g}", f"{theirs / self.low:.2g}")


def _span(low: str, high: str) -> str:
    return (low if low == high else f"{low} to {high}") or "none"


def band(run: Result, frame: pd.DataFrame, theirs: float, execution: str, scale: str, real: str) -> Band:
    """The band of one chip."""
    found, components = totals(frame, execution, scale, real), parts(frame, execution, scale, real)
    roles = {adc: role_of(run, adc) for adc in found.index}
    inside = found[[adc for adc in found.index if roles[adc] == "converter"]]
    marks = {f"{adc}, {roles[adc]}": found[adc] for adc in found.index if adc not in inside}
    adc_nj, conversions = float(components[ENERGY]["adc"]), float(components.operations["adc"])
    needed = each_for(theirs, components[ENERGY].sum(), adc_nj, conversions)
    return Band(float(inside.min()), float(inside.max()), marks, float("nan") if needed is None else 1e3 * needed)
