"""Figures 6 and 7: what happens to accuracy and uncertainty as images are turned, and as passes are added."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import label_ends, name_row, panels, styles
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROTATION = ("cls/acc", "unc/predictive_entropy", "unc/mutual_information", "ood/rate", "cls/nll")
_PASSES = ("cls/acc", "cls/nll")


def rotation_numbers(found: pd.DataFrame, _: Result) -> pd.DataFrame:
    """Rows (angle, metric, value) of a run of the probe `figure6`."""
    return found.loc[found.angle.notna() & found.metric.isin(_ROTATION), ["angle", "metric", "value"]]


def draw_rotation(frame: pd.DataFrame) -> "Figure":
    """A row of panels for each topology, a line for each method; shaded: one standard deviation over seeds."""
    topologies = frame.topology.unique()
    figure, axes = panels(len(topologies), len(_ROTATION), 2.75, 2.6, "Rotated test images")
    look = styles(frame.method)
    for row, topology in zip(axes, topologies, strict=True):
        for panel, metric in zip(row, _ROTATION, strict=True):
            factor = METRICS[metric].factor
            ends = []
            for method, line in _lines(frame, topology, metric):
                line = line.sort_values("angle")
                colour, mark = look[method]
                mean, std = factor * line["mean"], factor * line["std"].fillna(0)
                panel.plot(line.angle, mean, color=colour, marker=mark, markersize=3.5)
                panel.fill_between(line.angle, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
                ends.append((float(line.angle.iloc[-1]), float(mean.iloc[-1]), method, colour))
            panel.set_title(METRICS[metric].heading())
            panel.set_xticks(range(0, 181, 45))
            panel.set_xlim(-4, 184)
            panel.set_ylim(bottom=0)
            panel.set_xlabel("Rotation (degrees)")
        name_row(row[0], topology)
        label_ends(row[-1], ends)
    return figure


def passes_numbers(found: pd.DataFrame, _: Result) -> pd.DataFrame:
    """Rows (kind, passes, metric, value) of a run of the probe `figure7`; a plan is one repetition."""
    plans = found[found.plan.notna()].assign(kind="plan")
    limit = found[found.condition == "asymptote"].set_index("metric").value
    if len(limit):
        kind = "exact" if limit["exact"] else "reference"
        about = {"kind": kind, "passes": int(limit["passes"]), "metric": _PASSES, "value": limit[list(_PASSES)]}
        plans = pd.concat([plans, pd.DataFrame(about)])
    return plans[["kind", "passes", "metric", "value"]].astype({"passes": int})


def draw_passes(frame: pd.DataFrame) -> "Figure":
    """A row of panels for each topology: mean and standard deviation over plans, and the asymptote of each method."""
    topologies = frame.topology.unique()
    figure, axes = panels(len(topologies), len(_PASSES), 5.2, 3.0, "Number of passes T")
    look = styles(frame.method)
    for row, topology in zip(axes, topologies, strict=True):
        for panel, metric in zip(row, _PASSES, strict=True):
            factor = METRICS[metric].factor
            ends = []
            for method, line in _lines(frame, topology, metric):
                colour, _ = look[method]
                plan = line[line.kind == "plan"].sort_values("passes")
                mean, std = factor * plan["mean"], factor * plan["std"].fillna(0)
                panel.plot(plan.passes, mean, color=colour)
                panel.fill_between(plan.passes, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
                limit = line[line.kind != "plan"]
                exact = bool((limit.kind == "exact").all()) and len(limit) > 0
                for value in factor * limit["mean"]:
                    panel.axhline(value, color=colour, linewidth=1, linestyle=(0, (5, 2)) if exact else ":")
                which = "" if limit.empty else ", exact" if exact else f", T = {int(limit.passes.iloc[0])}"
                level = factor * limit["mean"].iloc[0] if len(limit) else mean.iloc[-1]
                ends.append((float(plan.passes.max()), float(level), method + which, colour))
            panel.set_title(METRICS[metric].heading())
            panel.set_xlim(1, frame[frame.kind == "plan"].passes.max())
            panel.set_xticks([1, *range(10, int(panel.get_xlim()[1]) + 1, 10)])
            panel.set_xlabel("Passes T")
            label_ends(panel, ends)
        name_row(row[0], topology)
    return figure


def _lines(frame: pd.DataFrame, topology: str, metric: str) -> Iterator[tuple[str, pd.DataFrame]]:
    chosen = frame[(frame.topology == topology) & (frame.metric == metric)]
    for method in chosen.method.unique():
        yield method, chosen[chosen.method == method]
