"""Figures 6 and 7: accuracy and uncertainty against rotation of the images, and against the number of passes."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import DASHED, draw_band, grid, styles
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
    figure, cells = grid(frame, ["topology"], _ROTATION, (2.75, 2.6), "Rotated test images", "{}")
    look = styles(frame.method)
    for panel, run, metric, ends in cells:
        factor = METRICS[metric].factor
        for method, line in run[run.metric == metric].groupby("method", sort=False):
            line = line.sort_values("angle")
            colour, mark = look[method]
            mean, std = factor * line["mean"], factor * line["std"].fillna(0)
            draw_band(panel, line.angle, mean, std, colour, marker=mark, markersize=3.5)
            ends.append((float(line.angle.iloc[-1]), float(mean.iloc[-1]), method, colour))
        panel.set_title(METRICS[metric].heading())
        panel.set_xticks(range(0, 181, 45))
        panel.set_xlim(-4, 184)
        panel.set_ylim(bottom=0)
        panel.set_xlabel("Rotation (degrees)")
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


def passes_caption(frame: pd.DataFrame) -> str:
    """What the numbers are, with the kinds of lines that there are."""
    lines = {
        "exact": "dashed: the exact predictive distribution",
        "reference": "dotted: the mean over many passes with other masks",
    }
    said = [words for kind, words in lines.items() if (frame.kind == kind).any()]
    about = (
        "The first T passes of 5 independent plans: mean over plans and seeds, shaded: one sample standard deviation"
    )
    return f"{'; '.join([about, *said])}."


def draw_passes(frame: pd.DataFrame) -> "Figure":
    """A row of panels for each topology: mean and standard deviation over plans, and the asymptote of each method."""
    figure, cells = grid(frame, ["topology"], _PASSES, (5.2, 3.0), "Number of passes T", "{}", label_all=True)
    look, most = styles(frame.method), int(frame[frame.kind == "plan"].passes.max())
    for panel, run, metric, ends in cells:
        factor = METRICS[metric].factor
        for method, line in run[run.metric == metric].groupby("method", sort=False):
            colour, _ = look[method]
            plan, limit = line[line.kind == "plan"].sort_values("passes"), line[line.kind != "plan"]
            mean, std = factor * plan["mean"], factor * plan["std"].fillna(0)
            draw_band(panel, plan.passes, mean, std, colour)
            exact = bool((limit.kind == "exact").all()) and len(limit) > 0
            for value in factor * limit["mean"]:
                panel.axhline(value, color=colour, linewidth=1, linestyle=DASHED if exact else ":")
            which = "" if limit.empty else ", exact" if exact else f", T = {int(limit.passes.iloc[0])}"
            level = factor * limit["mean"].iloc[0] if len(limit) else mean.iloc[-1]
            ends.append((float(plan.passes.max()), float(level), method + which, colour))
        panel.set_title(METRICS[metric].heading())
        panel.set_xlim(1, most)
        panel.set_xticks([1, *range(10, most + 1, 10)])
        panel.set_xlabel("Passes T")
    return figure
