"""Figure of Table VIII: energy per image by component and execution, and of all methods with its range."""

from itertools import cycle
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.energies import (
    ENERGY,
    EXECUTIONS,
    PROPOSED,
    UNITS_NJ,
    adc_of,
    chosen,
    component_name,
    energies,
    paper_nj,
    readable,
    role_of,
    whose,
)
from lit_scaledrop.report.figures.style import EXECUTION_MARKS, FAINT, INK, RIVAL, name_row, panels
from lit_scaledrop.report.table import published
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.units import UNITS, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#7A5195")
_LARGE = 0.03
"""Share of a bar from which a component has a colour of its own."""


def energy_numbers(_: pd.DataFrame, run: Result) -> pd.DataFrame:
    """Rows (execution, adc, role, component, value in nJ) of a result of Table VIII, and the paper's energy.

    First and last layer are digital, scales folded.
    """
    found = chosen(energies(run), scale="folded", real_layers="digital").rename(columns={ENERGY: "value"})
    roles = {adc: role_of(run, adc) for adc in run.config["converters"]}
    frame = found.assign(role=found.adc.map(roles).fillna(""), adc=found.adc.fillna(adc_of(run)))
    frame = frame.assign(component=found.component.fillna("total"))[["execution", "adc", "role", "component", "value"]]
    theirs = paper_nj(published("table8.csv"), run.topology, run)
    if pd.isna(theirs) or run.label != PROPOSED:
        return frame
    paper = {"execution": "loop", "adc": "paper", "role": "paper", "component": "total", "value": theirs}
    return pd.concat([frame, pd.DataFrame([paper])], ignore_index=True)


def draw_energies(frame: pd.DataFrame) -> "Figure":
    """A row for each topology: Proposed's components by execution, and all methods with the range over converters."""
    topologies = list(frame.topology.unique())
    figure, axes = panels(len(topologies), 2, 5.6, 2.7, "Energy per image on the chip")
    for row, topology in zip(axes, topologies, strict=True):
        here = frame[frame.topology == topology]
        theirs = here[here.role == "paper"]["mean"]
        paper = float(theirs.iloc[0]) if len(theirs) else None
        own = here[(here.method == PROPOSED) & (here.component != "total")]
        shown = own if len(own) else here[(here.method == here.method.iloc[0]) & (here.component != "total")]
        _bars(row[0], shown, paper)
        _methods(row[1], here, paper)
        name_row(row[0], topology)
    return figure


def _bars(panel: "Axes", shown: pd.DataFrame, paper: float | None) -> None:
    energy = shown.pivot(index="execution", columns="component", values="mean").fillna(0).reindex(list(EXECUTIONS))
    totals = energy.sum(axis=1)
    unit = unit_of(totals.max() * UNITS["nJ"])
    share = energy.div(totals, axis=0).max()
    large = share[share >= _LARGE].sort_values(ascending=False, kind="stable").index[: len(_COLOURS)]
    left = pd.Series(0.0, index=energy.index)
    columns = [(component_name(name), energy[name], colour) for name, colour in zip(large, _COLOURS, strict=False)]
    for name, values, colour in (*columns, ("other", energy.drop(columns=large).sum(axis=1), FAINT)):
        widths = values / UNITS_NJ[unit]
        panel.barh(range(len(energy)), widths, left=left, color=colour, height=0.62, label=name)
        left = left + widths
    for place, (total, end) in enumerate(zip(totals, left, strict=True)):
        text = panel.annotate(
            readable(total), (end, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
        )
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # the paper's line runs behind it
    if paper is not None:
        panel.axvline(paper / UNITS_NJ[unit], color=RIVAL, linewidth=1.2, linestyle=(0, (4, 2)))
    panel.set_xlim(0, 1.18 * max(left.max(), (paper or 0) / UNITS_NJ[unit]))
    panel.set_yticks(range(len(energy)), [EXECUTIONS[how] for how in energy.index])
    panel.set_ylim(len(energy) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
    panel.set_title("Proposed by component; passes:")
    panel.set_xlabel(f"Energy ({unit})")
    _legend(panel)


def _methods(panel: "Axes", here: pd.DataFrame, paper: float | None) -> None:
    totals = here[here.component == "total"]
    methods = list(here.method.unique())
    # components are of the chip's own converters
    own = here[here.component != "total"].groupby("method").adc.first()
    for place, method in enumerate(methods):
        of_method = totals[(totals.method == method) & (totals.role != "paper")].set_index(["execution", "adc"])
        cited = of_method[of_method.role == "converter"]["mean"]
        for how, mark in EXECUTION_MARKS.items():
            if (how, own[method]) not in of_method.index:
                continue
            # a line for each execution, so that bands do not lie on each other
            height = place + 0.26 * (list(EXECUTION_MARKS).index(how) - 1)
            if how in cited.index.get_level_values("execution"):
                ends = [cited[how].min(), cited[how].max()]
                panel.plot(ends, [height, height], color=FAINT, linewidth=4, solid_capstyle="butt", zorder=1)
            name = EXECUTIONS[how] if place == 0 else None
            mean = of_method["mean"][how, own[method]]
            panel.plot(mean, height, mark, color=INK, markersize=4, label=name, linestyle="none", zorder=2)
    outside = totals[(totals.method == methods[0]) & (totals.execution == "loop") & ~totals.role.isin(["converter"])]
    for (_, mark), symbol in zip(outside[outside.role != "paper"].iterrows(), cycle("x+*"), strict=False):
        label = f"{mark.adc}, {mark.role}"
        panel.plot(mark["mean"], -0.26, symbol, color=INK, markersize=5, label=label, linestyle="none")
    if paper is not None:
        panel.axvline(paper, color=RIVAL, linewidth=1.2, linestyle=(0, (4, 2)), label=f"paper, {readable(paper)}")
    panel.set_xscale("log")
    panel.set_yticks(range(len(methods)), methods)
    panel.set_ylim(len(methods) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
    low, high = totals["mean"].min() / 1.6, totals["mean"].max() * 1.6
    panel.set_xlim(low, high)
    ticks = [size * factor for size in UNITS_NJ.values() for factor in (1, 10, 100) if low <= size * factor <= high]
    panel.set_xticks(ticks, [readable(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_title(f"All methods; marks: {whose(own)}, grey: all cited ones")
    panel.set_xlabel("Energy, logarithmic")
    _legend(panel)


def _legend(panel: "Axes") -> None:
    panel.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
