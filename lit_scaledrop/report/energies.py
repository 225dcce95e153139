"""Energies in the results of Table VIII (`scaledrop cost`): what the table and the figure make of them."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from lit_scaledrop.results.result import Result
from lit_scaledrop.results.units import UNITS, in_unit

ADC = "isaac"
"""Converter of the chip that `scaledrop energy` assumes, where one number is shown."""
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
_WHERE = ["execution", "scale", "real_layers", "adc", "component", "condition"]


def energies(run: Result) -> pd.DataFrame:
    """One line a number: execution, scale, real_layers, adc, component or condition; energy, operations, TOPS/W.

    Raises:
        ValueError: the result has none.
    """
    rows = [{**one.at, **one.metrics} for one in run.measurements if ENERGY in one.metrics and "execution" in one.at]
    if not rows or "scale" not in rows[0]:
        raise ValueError(f"the result {run.id} has no energies; delete it and count again")
    names = [*_WHERE, ENERGY, "energy_std_nj", "operations", "tops_per_watt"]
    return pd.DataFrame(rows).reindex(columns=names)


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
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return frame


def totals(frame: pd.DataFrame, execution: str, scale: str, real: str) -> pd.Series:
    """Energy of an image by converter, nJ."""
    found = chosen(frame, execution=execution, scale=scale, real_layers=real)
    return found[found.adc.notna()].set_index("adc")[ENERGY]


def parts(frame: pd.DataFrame, execution: str, scale: str, real: str) -> pd.DataFrame:
    """Energy and operations of the components, with ISAAC's converters; index component."""
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

    def times(self, theirs: float) -> str:
        """How many times that the paper's energy is."""
        return f"{theirs / self.high:.2g} to {theirs / self.low:.2g}"


def band(run: Result, frame: pd.DataFrame, theirs: float, execution: str, scale: str, real: str) -> Band:
    """The band of one chip."""
    known: dict[str, Any] = run.config["converters"]
    found, components = totals(frame, execution, scale, real), parts(frame, execution, scale, real)
    inside = found[[adc for adc in found.index if known[adc]["role"] == "converter"]]
    marks = {f"{adc}, {known[adc]['role']}": found[adc] for adc in found.index if adc not in inside}
    left = theirs - components[ENERGY].sum() + components[ENERGY].get("adc", 0.0)
    needed = 1e3 * left / components.operations["adc"] if left > 0 else float("nan")
    return Band(float(inside.min()), float(inside.max()), marks, needed)
