"""Energies in the results of the probe `table8`: what the table and the figure make of them."""

import pandas as pd

from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.units import UNITS, in_unit

ADCS = {"neurosim": "NeuroSim", "isaac": "ISAAC", "mnsim": "MNSIM", "murmann": "Murmann's bound"}
ADC = "isaac"
"""Converter of the chip that `scaledrop energy` assumes, where one number is shown."""
TREATMENTS = {"digital": "digital", "binary": "as if binary", "excluded": "left out"}
"""What the first and the last layer, which are not binary, are taken for."""
EXECUTIONS = {"loop": "one by one", "shared": "common prefixes once"}
UNITS_NJ = {unit: size / UNITS["nJ"] for unit, size in UNITS.items()}
PAPER_PASSES = 10
OWN = "Scale-Dropout"
"""How the names of the paper's own rows begin."""
CONSTANTS = {
    "input_fetch": "input_bit_energy",
    "word_lines": "word_line_energy",
    "crossbar": "cell_resistance_p",
    "adc": "adc_isaac_energy",
    "adder": "adder_energy",
    "digital_mac": "real_mac_energy",
    "weight_memory": "sram_energy",
    "scale_memory": "sram_energy",
    "multiplexer": "multiplexer_energy",
    "scale_multiplier": "multiplier_energy",
    "skip_adder": "adder_energy",
    "skip_buffer": "sram_energy",
    "feature_buffer": "sram_energy",
    "comparator": "comparator_energy",
    "dropout_module": "module_power",
    "prefix_buffer": "sram_energy",
    "averaging": "adder_energy",
}
"""Constant in `hardware/presets/components.yaml` that a component's energy is proportional to."""


def energies(run: Result) -> pd.DataFrame:
    """Energy of every component and in all: columns execution, real_layers, adc, component, energy_nj, operations."""
    found = measurements([run])
    by = ["execution", "real_layers", "component"]
    operations = found[found.metric == "operations"].rename(columns={"value": "operations"})
    found = found[(found.metric == "hw/energy_nj") & found.execution.notna()].rename(columns={"value": "energy_nj"})
    if found.empty:
        raise ValueError(f"the result {run.id} has no energies; delete it and measure again")
    frame = found[[*by[:2], "adc", "component", "energy_nj"]].merge(operations[[*by, "operations"]], on=by, how="left")
    return frame.fillna({"component": "total"})


def paper_nj(paper: pd.DataFrame, topology: str, run: Result) -> float:
    """The paper's own energy for a topology, nJ; NaN where it has none, or for another number of passes."""
    own = paper[paper.work.str.startswith(OWN) & (paper.topology == topology)]
    if own.empty or run.evaluation["samples"] != PAPER_PASSES:
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


def totals(frame: pd.DataFrame, execution: str, real: str) -> pd.Series:
    """Energy of an image by model of the converters, nJ."""
    chosen = frame[(frame.execution == execution) & (frame.real_layers == real) & (frame.component == "total")]
    return chosen.set_index("adc").energy_nj.reindex(list(ADCS))


def parts(frame: pd.DataFrame, real: str, adc: str) -> pd.DataFrame:
    """Energy and operations of the components of passes one by one, largest first; index component."""
    chosen = frame[(frame.execution == "loop") & (frame.real_layers == real) & (frame.adc == adc)]
    chosen = chosen[(chosen.component != "total") & (chosen.energy_nj > 0)]
    return chosen.set_index("component")[["energy_nj", "operations"]].sort_values("energy_nj", ascending=False)


def carrier(frame: pd.DataFrame, real: str, theirs: float) -> str:
    """Whether the band holds the paper's energy, and on which constant a difference hangs: the largest part's."""
    band, components = totals(frame, "loop", real), parts(frame, real, ADC)
    holds = "in" if band.min() <= theirs <= band.max() else "outside of"
    largest, (part, operations) = components.index[0], components.iloc[0]
    ratio, others = band[ADC] / theirs, components.energy_nj.sum() - part
    each, needed = 1e3 * part / operations, 1e3 * (theirs - others) / operations
    meets = f"at {needed:.3g} pJ it would be the paper's" if needed > 0 else "which is already more than the paper has"
    return (
        f"First and last layer {TREATMENTS[real]}: the paper's {readable(theirs)} is {holds} the band "
        f"{readable(band.min())} to {readable(band.max())}. With {ADCS[ADC]}'s converters ours is {ratio:.2f} of it; "
        f"its largest part is {component_name(largest)}, {operations:,.0f} operations of {each:.3g} pJ "
        f"({CONSTANTS[largest]}). All else takes {readable(others)}; {meets}."
    )
