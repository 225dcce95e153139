"""Design space of a chip: accuracy and likelihood of all designs against their energy, with the Pareto fronts."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.energies import ENERGY
from lit_scaledrop.report.figures.style import EXECUTION_MARKS, INK, grid
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
    title, by = "Energy of chip designs against accuracy and likelihood", ["topology", "method"]
    figure, cells = grid(frame, by, GOALS, (4.6, 3.3), title, "{}, {}\naccuracy (%)")
    for panel, run, goal, _ in cells:
        points = run[run.metric == ENERGY].set_index(DESIGN)["mean"].rename(ENERGY).reset_index()
        worth = run[run.metric == goal].set_index(DESIGN[:4])["mean"].rename(goal)
        _panel(panel, points.join(worth, on=DESIGN[:4]), goal)
    first, second, *_ = figure.axes
    second.legend(*first.get_legend_handles_labels(), frameon=False, fontsize=7, ncols=2, loc="upper right")
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
    panel.set_xlabel("energy per image (uJ)")
    if goal == "cls/nll":
        panel.set_ylabel("NLL")
        low = points[goal].min()
        panel.set_ylim(low - 0.1 * abs(low), min(points[goal].max(), 4 * low) * 1.05)  # the worst are off the scale
