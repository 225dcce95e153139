"""The ablation of T: accuracy, likelihood, calibration and detection from the first T passes of one plan."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import label_ends, name_row, panels, styles
from lit_scaledrop.report.groups import KEY, by_row, data_name
from lit_scaledrop.report.measures import lines, mean_columns, percent, plain
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import Column, Report, number, text
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


def passes_table(title: str, results: Sequence[Result]) -> Report:
    """One line a network and T.

    Args:
        title: of the table.
        results: of the probe `ablation-passes`, one profile.

    Raises:
        ValueError: no results, results of several profiles or studies, or without numbers by T.
    """
    return replace(SPEC, title=title).report(results)


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
    columns = {"topology": text("topology"), "method": text("method"), "passes": number("passes", "T", ".0f")}
    return {**columns, **mean_columns(shown, data_name(runs[0])), "n": number("n", "n", ".0f"), "seeds": text("seeds")}


def _passes(frame: pd.DataFrame) -> str:
    return f"the first {', '.join(map(str, sorted(frame.passes.unique())))} of one plan"


SPEC = TableSpec(
    "",
    MEASURES,
    _columns,
    lines=_lines,
    passes=_passes,
    notes=[
        "AUROC: pure noise (the mean of uniform and Gaussian) and other images (the mean of CIFAR-100 and SVHN, where "
        "they are) against test images, by predictive entropy and by mutual information. One pass has no disagreement: "
        "its mutual information is 0 and tells nothing."
    ],
)


def draw_prefixes(frame: pd.DataFrame) -> "Figure":
    """A row for each topology, a line for each method; of AUROC solid by entropy, dashed by mutual information."""
    drawn = {
        name: title for name, title in _DRAWN.items() if name in MEASURES or frame[f"{name}_entropy"].notna().any()
    }
    topologies = list(frame.topology.unique())
    figure, axes = panels(len(topologies), len(drawn), 2.75, 2.9, "Number of passes T")
    look = styles(frame.method)
    for row, topology in zip(axes, topologies, strict=True):
        for panel, (name, title) in zip(row, drawn.items(), strict=True):
            ends = []
            columns = [name] if name in MEASURES else [f"{name}_entropy", f"{name}_information"]
            for method in frame.method[frame.topology == topology].unique():
                line = frame[(frame.topology == topology) & (frame.method == method)]
                colour, mark = look[method]
                for column, style in zip(columns, ("-", (0, (4, 2))), strict=False):
                    panel.errorbar(
                        line.passes, line[column], yerr=line[f"{column}_std"].fillna(0), color=colour, marker=mark,
                        markersize=4, capsize=2, elinewidth=0.8, linestyle=style,
                    )  # fmt: skip
                ends.append((float(line.passes.iloc[-1]), float(line[columns[0]].iloc[-1]), method, colour))
            panel.set_title(title)
            panel.set_xscale("log")
            panel.set_xticks(sorted(frame.passes.unique()), [str(passes) for passes in sorted(frame.passes.unique())])
            panel.minorticks_off()
            panel.set_xlabel("Passes T")
            if panel is row[-1]:
                label_ends(panel, ends)
        name_row(row[0], topology)
    return figure
