"""Design space of a chip: accuracy and likelihood of all designs against their energy, with the Pareto fronts."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.energies import ENERGY
from lit_scaledrop.report.figures.style import EXECUTION_MARKS, INK, name_row, panels
from lit_scaledrop.report.tables.design import DESIGN, GOALS, front
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHADES = ("#C6DBEF", "#9ECAE1", "#6BAED6", "#3182BD", "#08519C", "#08306B")
"""From few bits to many."""
_MOST_LABELS = 4


def design_numbers(found: pd.DataFrame, _: Result) -> pd.DataFrame:
    """Rows (mapping, rows, bits, passes, execution, metric, value); accuracy and likelihood have no execution."""
    chosen = found[found.metric.isin([*GOALS, ENERGY])]
    return chosen[[*DESIGN, "metric", "value"]].assign(execution=chosen.execution.fillna(""))


def draw_designs(frame: pd.DataFrame) -> "Figure":
    """A row of panels for each topology and method: accuracy, likelihood."""
    shown = list(frame.groupby(["topology", "method"], sort=False))
    figure, axes = panels(len(shown), len(GOALS), 4.6, 3.3, "What a design of the chip costs, and what it is worth")
    for row, ((topology, method), run) in zip(axes, shown, strict=True):
        costs = run[run.metric == ENERGY].set_index(DESIGN)["mean"].rename(ENERGY)
        points = costs.reset_index()
        for goal in GOALS:
            worth = run[run.metric == goal].set_index(DESIGN[:4])["mean"].rename(goal)
            points = points.join(worth, on=DESIGN[:4])
        for panel, goal in zip(row, GOALS, strict=True):
            _panel(panel, points, goal)
        name_row(row[0], f"{topology}, {method}\naccuracy (%)")
        row[1].set_ylabel("NLL")
    handles, names = axes[0][0].get_legend_handles_labels()
    axes[0][1].legend(handles, names, frameon=False, fontsize=7, ncols=2, loc="upper right")
    return figure


def _panel(panel: "Axes", points: pd.DataFrame, goal: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    points = points.assign(**{ENERGY: points[ENERGY] / 1e3})
    factor = 100 if goal == "cls/acc" else 1
    for index, bits in enumerate(sorted(points.bits.unique())):
        for execution, mark in EXECUTION_MARKS.items():
            some = points[(points.bits == bits) & (points.execution == execution)]
            label = f"{bits:.0f} bits" if execution == "loop" else None
            panel.scatter(some[ENERGY], factor * some[goal], s=11, marker=mark, color=_SHADES[index], label=label, lw=0)
    for execution, mark in EXECUTION_MARKS.items():
        panel.scatter([], [], s=14, marker=mark, color="#7F7F7F", label=f"passes: {execution}")
    best = front(points, goal)
    panel.step(best[ENERGY], factor * best[goal], where="post", color=INK, lw=1.2)
    every = max(1, -(-len(best) // _MOST_LABELS))
    for number, one in enumerate(best.to_dict("records")):
        if number % every == 0 or number == len(best) - 1:
            words = f"T={one['passes']:.0f}, {one['bits']:.0f} bits, {one['rows']:.0f} rows"
            below = -9 if goal == "cls/nll" else 6
            panel.annotate(words, (one[ENERGY], factor * one[goal]), xytext=(4, below), textcoords="offset points",
                           fontsize=6.5, color=INK)  # fmt: skip
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("energy of an image (uJ)")
    if goal == "cls/nll":
        low = points[goal].min()
        panel.set_ylim(low - 0.1 * abs(low), min(points[goal].max(), 4 * low) * 1.05)  # the worst are off the scale
