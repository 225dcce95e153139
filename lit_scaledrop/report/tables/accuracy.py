"""Table III: accuracy by topology and method."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import (
    KEY,
    TOPOLOGIES,
    by_data,
    by_row,
    caption,
    data_name,
    epochs_heading,
    identity,
    ids_of,
    is_papers_data,
    mean_and_std,
    seeds_of,
    with_paper,
)
from lit_scaledrop.report.table import LOST, RESULT_IDS, Column, Report, Section, bits, number, spread, text
from lit_scaledrop.results.result import Result

_MEANS = {"nll": "cls/nll", "ece": "cal/ece", "ood_rate": "ood/rate"}
_EXPORT = ["profile", "data", "fingerprint", *KEY, "n", "seeds", "epochs"]


def table3(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table III: accuracy by topology and method, beside the published values.

    Args:
        results: runs of one profile and study, any data, any number of epochs.
        paper: columns topology, method, bits_w, bits_a, bayesian, accuracy_percent, source.

    Raises:
        ValueError: no results, results of several profiles or studies, or a result without accuracy.
    """
    groups = by_data(results)
    if unscored := sorted(result.id for result in results if "cls/acc" not in result.metrics):
        raise ValueError(f"no metric cls/acc in the results {', '.join(unscored)}; evaluate them again or delete them")
    notes: list[str] = []
    sections, exports = [], []
    for group in groups:
        section, export = _section(group, _of_topologies(group, groups, paper), notes)
        sections.append(section)
        exports.append(export)
    frames = [section.frame[["topology", "method", "source"]] for section in sections]
    notes += _notes(pd.concat(frames))
    data = pd.concat(exports, ignore_index=True)
    return Report("Table III: accuracy by topology and method", sections, notes, data)


def _of_topologies(group: list[Result], groups: list[list[Result]], paper: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows for one section: none of a topology that was only measured for others."""

    def measured(results: Sequence[Result]) -> set[str]:
        return {TOPOLOGIES.get(result.network, result.network) for result in results}

    elsewhere = measured([result for other in groups for result in other]) - measured(group)
    if group is not max(groups, key=len):
        # what nobody measured stands in the longest section alone
        elsewhere |= set(paper.topology) - measured(group)
    return paper[~paper.topology.isin(elsewhere)]


def _section(results: list[Result], paper: pd.DataFrame, notes: list[str]) -> tuple[Section, pd.DataFrame]:
    shown = by_row(results, notes)
    ours = pd.DataFrame([dict(zip(KEY, key, strict=True)) | _summary(runs) for key, runs in shown.items()])
    frame = with_paper(ours, paper.rename(columns={"accuracy_percent": "paper"}), KEY)
    frame["difference"] = frame.accuracy - frame.paper
    frame = frame.assign(**identity(results[0]))
    used = [run for runs in shown.values() for run in runs]
    name, comparable = data_name(results[0]), is_papers_data(results[0])
    numbers = "Ours: mean ± sample standard deviation over n seeds on the test images; the rest are means."
    section = Section(epochs_heading(results[0]), frame, _columns(name, comparable), caption(used, numbers))
    return section, _export(frame, name, comparable)


def _summary(runs: list[Result]) -> dict[str, Any]:
    accuracy, std = mean_and_std(runs, lambda metrics: 100 * metrics["cls/acc"])
    return {
        "n": len(runs),
        "seeds": seeds_of(runs),
        RESULT_IDS: ids_of(runs),
        "accuracy": accuracy,
        "std": std,
        **{name: mean_and_std(runs, lambda metrics, key=key: metrics[key])[0] for name, key in _MEANS.items()},  # type: ignore[misc]
        "epochs": runs[0].training["epochs"],
        "seconds": sum(run.training["seconds"] for run in runs) / len(runs),
    }


def _columns(data: str, comparable: bool) -> dict[str, Column]:
    columns = {"topology": text("topology"), "method": text("method"), "bits": bits()}
    columns["bayesian"] = Column("Bayesian", lambda row: "yes" if row["bayesian"] else "no")
    columns["accuracy"] = Column(f"{data} accuracy (ours, %)", _accuracy)
    columns["paper"] = number("paper", "CIFAR-10 accuracy (paper, %)", ".2f", source="source")
    if comparable:
        columns["difference"] = number("difference", "difference (points)", "+.2f")
    return columns | {
        "nll": number("nll", "NLL", ".3f"),
        "ece": number("ece", "ECE", ".3f"),
        "ood_rate": number("ood_rate", "OOD rate", ".3f"),
        "epochs": number("epochs", "epochs", ".0f"),
        "seconds": Column("training time", lambda row: "" if pd.isna(row["seconds"]) else duration(row["seconds"])),
    }


def _accuracy(row: dict[Any, Any]) -> str:
    shown = spread(row["accuracy"], row["std"])
    return f"{shown} (n={row['n']:.0f})" if shown else ""


def _export(frame: pd.DataFrame, data: str, comparable: bool) -> pd.DataFrame:
    """One line per row; accuracy columns carry the name of their data."""
    name = data.lower().replace("-", "")
    names = {"accuracy": f"{name}_accuracy_percent", "std": f"{name}_accuracy_std"}
    names |= {"paper": "paper_cifar10_accuracy_percent", "source": "paper_source"}
    names |= {"difference": "difference_points"} if comparable else {}
    names |= {"nll": "nll", "ece": "ece", "ood_rate": "ood_rate", "seconds": "training_seconds"}
    export = frame[[*_EXPORT, *names]].rename(columns=names)
    export["bayesian"] = export.bayesian.map({True: "yes", False: "no"})
    return export.astype({"n": "Int64", "epochs": "Int64"})


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(12.34), duration(200.0), duration(9000.0)
    ('12.3 s', '3.3 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    if (frame.source == LOST).any():
        yield "An empty cell in the paper's column: the number is lost in our copy of the paper."
    extra = frame[frame.source.isna()].drop_duplicates()
    if len(extra):
        rows = ", ".join(f"{row.topology} {row.method}" for row in extra.itertuples())
        yield f"Not in the paper's table: {rows}."
