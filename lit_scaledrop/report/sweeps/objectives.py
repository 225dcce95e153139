"""A search by two goals: likelihood of the validation split against the detection of outliers made of it."""

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from lit_scaledrop.report.figures.style import INK, RIVAL, TRUE, panels
from lit_scaledrop.report.measures import EVERY, Measure, head, mean_columns, over_runs, percent, plain
from lit_scaledrop.report.sweeps.swept import label, setting_column, settings_frame, show_value, sweep_table
from lit_scaledrop.report.table import RUNS, Column, named, text
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.trials import on_front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {
    "nll": plain("val/predictive_nll", "validation NLL", suite="validation"),
    "auroc": percent("val/auroc/predictive_entropy", "AUROC by entropy (%)", suite=EVERY),
    "auroc_information": percent("val/auroc/mutual_information", "AUROC by mutual information (%)", suite=EVERY),
    "accuracy": percent("val/predictive_acc", "validation accuracy (%)", suite="validation"),
    "ece": Measure("val/predictive_ece", "ECE", {"suite": "validation"}, percent=False, digits=3),
    "mutual_information": plain("val/mutual_information", "mutual information (nats)", suite="validation"),
}
GOALS = {"nll": "minimize", "auroc": "maximize"}
_ABOUT = (
    "Mean ± sample standard deviation over n seeds. AUROC: outliers made of validation images against these, mean over "
    "the kinds. Front: no other training is as good in NLL and in AUROC by entropy and better in one. All of it is of "
    "the validation split; no test image and no test suite is looked at."
)


def _frame(runs: Sequence[Result], names: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """Every training with its settings, those of the Pareto front marked, the best likelihood first."""
    frame, shown = settings_frame(runs, names, notes)
    frame = frame.join(over_runs(shown, MEASURES)).join(pd.DataFrame(map(head, shown)))
    frame["front"] = on_front(frame[[*GOALS]].values.tolist(), list(GOALS.values()))
    return frame.sort_values("nll", kind="stable", ignore_index=True)


def _columns(frame: pd.DataFrame, names: Sequence[str], _: str) -> dict[str, Column]:
    return named(
        *(setting_column(frame, name) for name in names),
        Column("front", lambda row: "front" if row["front"] else "", left=True, name="front"),
        *mean_columns(MEASURES).values(),
        RUNS,
        text("seeds"),
    )


objectives_table = partial(sweep_table, frame_of=_frame, columns_of=_columns, about=_ABOUT)
"""The table of such a search."""


def draw_objectives(frame: pd.DataFrame, title: str) -> dict[str, "Figure"]:
    """Every training by its two goals; the front as a line with numbers, beside it the settings that differ on it."""
    names = list(frame.columns[: frame.columns.get_loc("nll")])
    figure, axes = panels(1, 2, 4.6, 3.8, title)
    panel, beside = axes[0]
    best, rest = frame[frame.front], frame[~frame.front]
    for some, colour in ((rest, TRUE), (best, RIVAL)):
        bars: dict[str, Any] = {"xerr": some.nll_std.fillna(0), "yerr": some.auroc_std.fillna(0), "elinewidth": 0.8}
        panel.errorbar(some.nll, some.auroc, **bars, fmt="o", color=colour, markersize=5)
    panel.step(best.nll, best.auroc, where="post", color=RIVAL, linewidth=1.1)
    panel.set_xlabel("Validation NLL (nats)")
    panel.set_ylabel("AUROC of outliers by entropy (%)")
    differ = [name for name in names if best[name].map(show_value).nunique() > 1]
    lines = []
    for number, row in enumerate(best.to_dict("records"), 1):
        panel.annotate(str(number), (row["nll"], row["auroc"]), xytext=(4, 4), textcoords="offset points", fontsize=8)
        words = ", ".join(f"{label(name)} {show_value(row[name])}" for name in differ)
        lines += textwrap.wrap(f"{number}: {words or 'the only one'}", 62, subsequent_indent="    ")
    beside.axis("off")
    beside.text(0, 1, "\n".join(["On the front:", *lines]), va="top", fontsize=7.5, color=INK, linespacing=1.4)
    return {"front": figure}
