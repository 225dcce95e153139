"""Table III: accuracy by topology and method."""

from collections.abc import Iterator, Sequence

import pandas as pd

from lit_scaledrop.report.groups import KEY, by_data, by_row, data_name
from lit_scaledrop.report.measures import Measure, lines, percent
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import BITS, LOST, Column, Report, Row, number, spread, text
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.units import duration

MEASURES = {
    "accuracy": percent("cls/acc"),
    # measured by later releases, or for some methods, only
    "nll": Measure("cls/nll", percent=False, optional=True),
    "ece": Measure("cal/ece", percent=False, optional=True),
    "ood_rate": Measure("ood/rate", percent=False, optional=True),
}
_EXPORT = ["profile", "data", "fingerprint", *KEY, "n", "seeds", "epochs"]


def table3(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table III; accuracy columns of its CSV file carry the name of their data."""
    groups = by_data(results)
    notes: list[str] = []
    sections, exports = [], []
    for group in groups:
        section = SPEC.section(group, _of_topologies(group, groups, paper), notes)
        sections.append(section)
        exports.append(_export(section.frame, data_name(group[0]), "difference" in section.columns))
    frames = [section.frame[["topology", "method", "source"]] for section in sections]
    notes += _notes(pd.concat(frames))
    data = pd.concat(exports, ignore_index=True)
    return Report(SPEC.title, sections, notes, data)


def _of_topologies(group: list[Result], groups: list[list[Result]], paper: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows for one section: none of a topology that was only measured for others."""
    here = {result.topology for result in group}
    elsewhere = {result.topology for other in groups for result in other} - here
    if group is not max(groups, key=len):
        # what nobody measured stands in the longest section alone
        elsewhere |= set(paper.topology) - here
    return paper[~paper.topology.isin(elsewhere)]


def _lines(results: Sequence[Result], notes: list[str]) -> pd.DataFrame:
    shown = by_row(list(results), notes)
    seconds = [sum(run.training["seconds"] for run in runs) / len(runs) for runs in shown.values()]
    return lines(shown, MEASURES).assign(seconds=seconds)


def _accuracy(row: Row) -> str:
    shown = spread(row["accuracy"], row["accuracy_std"])
    return f"{shown} (n={row['n']:.0f})" if shown else ""


def _export(frame: pd.DataFrame, data: str, comparable: bool) -> pd.DataFrame:
    name = data.lower().replace("-", "")
    names = {"accuracy": f"{name}_accuracy_percent", "accuracy_std": f"{name}_accuracy_std"}
    names |= {"paper": "paper_cifar10_accuracy_percent", "source": "paper_source"}
    names |= {"difference": "difference_points"} if comparable else {}
    names |= {"nll": "nll", "ece": "ece", "ood_rate": "ood_rate", "seconds": "training_seconds"}
    export = frame[[*_EXPORT, *names]].rename(columns=names)
    export["bayesian"] = export.bayesian.map({True: "yes", False: "no"})
    return export.assign(epochs=export.epochs.where(export.n.notna())).astype({"epochs": "Int64"})


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    if (frame.source == LOST).any():
        yield "An empty cell in the paper's column: the number is missing in our copy of the paper."
    extra = frame[frame.source.isna()].drop_duplicates()
    if len(extra):
        rows = ", ".join(f"{row.topology} {row.method}" for row in extra.itertuples())
        yield f"Not in the paper's table: {rows}."


SPEC = TableSpec(
    "Table III: accuracy by topology and method",
    MEASURES,
    [
        text("topology"),
        text("method"),
        BITS,
        Column("Bayesian", lambda row: "yes" if row["bayesian"] else "no", name="bayesian"),
        Column("{data} accuracy (ours, %)", _accuracy, name="accuracy"),
        number("paper", "CIFAR-10 accuracy (paper, %)", ".2f", source="source"),
        number("difference", "difference (points)", "+.2f"),
        number("nll", "NLL", ".3f"),
        number("ece", "ECE", ".3f"),
        number("ood_rate", "OOD rate", ".3f"),
        Column("epochs", lambda row: "" if pd.isna(row["n"]) else str(row["epochs"]), name="epochs"),
        number("seconds", "training time", duration),
    ],
    renamed={"accuracy_percent": "paper"},
    differences={"difference": ("accuracy", "paper")},
    lines=_lines,
    numbers=lambda _: "Ours: mean ± sample standard deviation over n seeds on the test images; the rest are means.",
)
