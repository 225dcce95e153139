"""Figure beside Table VIII: energy of an image by component, and the band over models of the converters."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.energies import ADC, ADCS, TREATMENTS, UNITS_NJ, component_name, energies, paper_nj, readable
from lit_scaledrop.report.figures.style import FAINT, INK, RIVAL, name_row, panels
from lit_scaledrop.report.groups import TOPOLOGIES
from lit_scaledrop.report.table import published
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.units import UNITS, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#7A5195")
_LARGE = 0.02
"""Share of a bar from which a component has a colour of its own."""
_MARKS = {"murmann": "v", "neurosim": "s", "isaac": "o", "mnsim": "^"}


def energy_numbers(_: pd.DataFrame, run: Result) -> pd.DataFrame:
    """Rows (real_layers, adc, component, value in nJ) of a run of the probe `table8`, and the paper's energy."""
    found = energies(run)
    found = found[found.execution == "loop"].rename(columns={"energy_nj": "value"})
    frame = found[["real_layers", "adc", "component", "value"]]
    theirs = paper_nj(published("table8.csv"), TOPOLOGIES.get(run.network, run.network), run)
    if pd.isna(theirs):
        return frame
    paper = pd.DataFrame([{"real_layers": "", "adc": "paper", "component": "total", "value": theirs}])
    return pd.concat([frame, paper], ignore_index=True)


def draw_energies(frame: pd.DataFrame) -> "Figure":
    """A row for each run: stacked bars with one model of the converters, and the range over all of them."""
    runs = list(frame.groupby(["topology", "method"], sort=False))
    figure, axes = panels(len(runs), 2, 5.6, 2.7, "Energy of an image on the chip")
    colours = _colours(frame)
    for row, ((topology, method), run) in zip(axes, runs, strict=True):
        theirs = run[run.adc == "paper"]["mean"]
        paper = float(theirs.iloc[0]) if len(theirs) else None
        _bars(row[0], run, colours, paper)
        _band(row[1], run, paper)
        name_row(row[0], f"{topology}, {method}")
    return figure


def _colours(frame: pd.DataFrame) -> dict[str, str]:
    """Colour of each component that is large in some bar; the same in all rows."""
    shown = frame[(frame.adc == ADC) & (frame.component != "total")]
    share = shown["mean"] / shown.groupby(["topology", "method", "real_layers"])["mean"].transform("sum")
    large = share[share >= _LARGE].groupby(shown.component).sum().sort_values(ascending=False)
    return dict(zip(large.index, _COLOURS, strict=False))


def _bars(panel: "Axes", run: pd.DataFrame, colours: dict[str, str], paper: float | None) -> None:
    shown = run[(run.adc == ADC) & (run.component != "total")]
    energy = shown.pivot(index="real_layers", columns="component", values="mean").fillna(0).reindex(list(TREATMENTS))
    totals = energy.sum(axis=1)
    unit = unit_of(totals.max() * UNITS["nJ"])
    left = pd.Series(0.0, index=energy.index)
    other = energy.drop(columns=[name for name in colours if name in energy]).sum(axis=1)
    columns = [(component_name(name), energy[name], colour) for name, colour in colours.items() if name in energy]
    for name, values, colour in (*columns, ("other", other, FAINT)):
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
    panel.set_yticks(range(len(energy)), [TREATMENTS[real] for real in energy.index])
    panel.set_ylim(len(energy) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
    panel.set_title(f"By component, {ADCS[ADC]}'s converters; first and last layer:")
    panel.set_xlabel(f"Energy ({unit})")
    _legend(panel)


def _band(panel: "Axes", run: pd.DataFrame, paper: float | None) -> None:
    totals = run[(run.component == "total") & (run.adc != "paper")].set_index(["real_layers", "adc"])["mean"]
    for place, real in enumerate(TREATMENTS):
        band = totals[real].reindex(list(ADCS))
        panel.plot([band.min(), band.max()], [place, place], color=FAINT, linewidth=7, solid_capstyle="butt", zorder=1)
        for adc, mark in _MARKS.items():
            name = ADCS[adc] if place == 0 else None
            panel.plot(band[adc], place, mark, color=INK, markersize=5, label=name, linestyle="none", zorder=2)
    if paper is not None:
        panel.axvline(paper, color=RIVAL, linewidth=1.2, linestyle=(0, (4, 2)), label=f"paper, {readable(paper)}")
    panel.set_xscale("log")
    panel.set_yticks(range(len(TREATMENTS)), list(TREATMENTS.values()))
    panel.set_ylim(len(TREATMENTS) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
    low, high = totals.min(), totals.max()
    panel.set_xlim(low / 1.6, high * 1.6)
    ticks = [size * factor for size in UNITS_NJ.values() for factor in (1, 10, 100) if low / 1.6 <= size * factor]
    ticks = [tick for tick in ticks if tick <= high * 1.6]
    panel.set_xticks(ticks, [readable(tick) for tick in ticks])
    panel.set_title("Band over models of the converters; first and last layer:")
    panel.set_xlabel("Energy, logarithmic")
    _legend(panel)


def _legend(panel: "Axes") -> None:
    panel.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
