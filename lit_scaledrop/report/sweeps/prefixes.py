"""The ablation of T: accuracy, likelihood, calibration and detection from the first T passes of one plan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import draw_bars, grid, styles
from lit_scaledrop.report.groups import KEY, by_row, data_name
from lit_scaledrop.report.measures import lines, mean_columns, percent, plain
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import RUNS, Column, named, number, text
from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = {"noise": ("uniform", "gaussian"), "natural": ("cifar100", "svhn")}
_HEADS = {"noise": "pure noise", "natural": "other images"}
_SCORES = {"entropy": "predictive_entropy", "information": "mutual_information"}
_WORDS = {"entropy": "entropy", "information": "mutual information"}
MEASURES = {
    "accuracy": percent("cls/acc", "{data} test accuracy (%)", suite="clean"),
    "nll": plain("cls/nll", "NLL", suite="clean"),
    "ece": plain("cal/ece", "ECE", suite="clean"),
    "mutual_information": plain("unc/mutual_information", "mutual information (nats)", suite="clean"),
} | {
    f"{kind}_{name}": percent(f"ood/auroc/{score}", f"AUROC of {_HEADS[kind]} by {_WORDS[name]} (%)", 1, suite=suites)
    for kind, suites in _KINDS.items()
    for name, score in _SCORES.items()
}
_DRAWN = {
    **{name: METRICS[MEASURES[name].metric].heading("Test") for name in ("accuracy", "nll", "ece")},
    "mutual_information": METRICS["unc/mutual_information"].heading(),
    "noise": "AUROC of pure noise (%)",
    "natural": "AUROC of other images (%)",
}


def _lines(results: Sequence[Result], notes: list[str]) -> pd.DataFrame:
    shown = by_row(list(results), notes)
    first = [runs[0] for runs in shown.values()]
    found = measurements(first)
    found = found[(found.suite == "clean") & (found.metric == "cls/acc") & found.passes.notna()]
    if without := sorted({run.id for run in first} - set(found.run)):
        raise ValueError(f"the result {without[0]} has no numbers by T; delete it and measure again")
    frame = lines(shown, MEASURES, passes=sorted(int(passes) for passes in found.passes.unique()))
    frame = frame.dropna(subset="accuracy")
    rest = [name for name in frame if name not in (*KEY, "passes", "epochs")]
    return frame[[*KEY, "passes", "epochs", *rest]].sort_values(["topology", "method", "passes"], ignore_index=True)


def _columns(frame: pd.DataFrame, runs: Sequence[Result], comparable: bool) -> dict[str, Column]:  # noqa: ARG001
    shown = {name: measure for name, measure in MEASURES.items() if "_" not in name or frame[name].notna().any()}
    means = mean_columns(shown, data_name(runs[0])).values()
    return named(text("topology"), text("method"), number("passes", "T", ".0f"), *means, RUNS, text("seeds"))


def _passes(frame: pd.DataFrame) -> str:
    return f"the first {', '.join(map(str, sorted(frame.passes.unique())))} of one plan"


PASSES = TableSpec(
    "",
    MEASURES,
    _columns,
    lines=_lines,
    passes=_passes,
    notes=[
        "AUROC: pure noise (the mean of uniform and Gaussian) and other images (the mean of CIFAR-100 and SVHN, where "
        "they are) against test images, by predictive entropy and by mutual information. With a single pass, mutual "
        "information is 0 and uninformative."
    ],
)


def draw_prefixes(frame: pd.DataFrame) -> "Figure":
    """A row for each topology, a line for each method; of AUROC solid by entropy, dashed by mutual information."""
    drawn = {
        name: title for name, title in _DRAWN.items() if name in MEASURES or frame[f"{name}_entropy"].notna().any()
    }
    figure, cells = grid(frame, ["topology"], drawn, (2.75, 2.9), "Number of passes T", "{}")
    look, ticks = styles(frame.method), sorted(frame.passes.unique())
    for panel, run, name, ends in cells:
        columns = [name] if name in MEASURES else [f"{name}_entropy", f"{name}_information"]
        for method, line in run.groupby("method", sort=False):
            colour, mark = look[method]
            for column, style in zip(columns, ("-", (0, (4, 2))), strict=False):
                std = line[f"{column}_std"].fillna(0)
                draw_bars(panel, line.passes, line[column], std, colour, mark, linestyle=style, elinewidth=0.8)
            ends.append((float(line.passes.iloc[-1]), float(line[columns[0]].iloc[-1]), method, colour))
        panel.set_title(drawn[name])
        panel.set_xscale("log")
        panel.set_xticks(ticks, [str(passes) for passes in ticks])
        panel.minorticks_off()
        panel.set_xlabel("Passes T")
    return figure
