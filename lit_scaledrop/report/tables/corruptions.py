"""Table X: error and OOD rate on CIFAR-10-C, as it is and with the channels normalized anew."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import (
    KEY,
    by_data,
    by_row,
    caption,
    data_name,
    epochs_heading,
    identity,
    ids_of,
    is_papers_data,
    mean_and_std,
    rule_sentence,
    seeds_of,
    with_paper,
)
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Section, mean_column, number, text
from lit_scaledrop.results.result import Result

SEVERITIES = (1, 2, 3, 4, 5)
MEAN = "mean over the corruptions"
_VARIANTS = {"no": ("corrupted", "as they are"), "yes": ("renormalized", "channels normalized anew")}
_QUANTITIES = {"error": ("cls/error", 100), "ood": ("ood/rate", 100), "nll": ("cls/nll", 1), "ece": ("cal/ece", 1)}
_PAPER = {"error": "error_percent", "ood": "ood_rate_percent"}
_ROW = [*KEY, "corruption"]


def table10(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table X, one line a topology, method and corruption; with and without re-normalization are sections.

    Args:
        results: of the probe `table10`, one profile.
        paper: columns topology, method, bits_w, bits_a, bayesian, renormalized, corruption, error_percent,
            ood_rate_percent, source.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    notes: list[str] = []
    corruptions = list(paper.corruption.unique())
    sections = []
    for group in by_data(results):
        shown = by_row(group, notes)
        for variant in _VARIANTS:
            published = paper[paper.renormalized == variant].drop(columns="renormalized")
            sections.append(_section(shown, _with_means(published), variant, corruptions))
    data = pd.concat([section.frame for section in sections], ignore_index=True)
    kept = [*identity(results[0]), *KEY, "n", "seeds", "epochs", "renormalized", "corruption", "severities", "source"]
    kept += [name for quantity in _QUANTITIES for name in (quantity, f"{quantity}_std")]
    kept += [f"{quantity}_{end}" for quantity in _PAPER for end in ("5", "5_std", "paper", "difference")]
    return Report("Table X: corrupted test images", sections, [*notes, *_NOTES], data[kept])


_NOTES = [
    "The paper does not say at which severity it measured. `error` and `OOD rate` are means over the severities that "
    "the section names, the convention of CIFAR-10-C; severity 5 stands beside them.",
    f"The rows \"{MEAN}\" are plain means over the 15 corruptions (the paper's mCE and mOOD): no division by AlexNet's "
    "errors. Where a corruption was not measured there is no mean. The paper's means are taken over its printed cells.",
    "A difference to the paper is shown for the released CIFAR-10-C, all its images and severities only; images of the "
    "seeded generator are not the paper's (the frost is generated, too).",
    "Cells that the paper prints twice, shown as printed: without re-normalization ResNet-18's impulse noise has the "
    "numbers of its contrast; with it VGG-small and ResNet-18 share defocus blur and fog. Outliers of ResNet-20 "
    "without re-normalization: impulse noise 16.48 % and snow 15.74 % error, beside 73.72 % and more elsewhere.",
]


def _section(
    shown: dict[tuple[Any, ...], list[Result]], paper: pd.DataFrame, variant: str, corruptions: list[str]
) -> Section:
    used = [run for runs in shown.values() for run in runs]
    first, (prefix, what) = used[0], _VARIANTS[variant]
    measured = [
        s for s in SEVERITIES if any(f"{prefix}/{c}/{s}/cls/error" in r.metrics for r in used for c in corruptions)
    ]
    lines = []
    for key, runs in shown.items():
        for corruption in (*corruptions, MEAN):
            row = dict(zip(KEY, key, strict=True)) | {"corruption": corruption, "n": len(runs), "seeds": seeds_of(runs)}
            row[RESULT_IDS] = ids_of(runs)
            lines.append(row | _numbers(runs, prefix, corruptions if corruption == MEAN else [corruption], measured))
    frame = with_paper(pd.DataFrame(lines), paper, _ROW)
    sources = {
        about["source"] for run in used for name, about in run.evaluation["suites"].items() if name.startswith("corr")
    }
    comparable = (
        is_papers_data(first)
        and not first.evaluation.get("limit")
        and sources == {"released"}
        and measured == list(SEVERITIES)
    )
    for name in _PAPER:
        frame[f"{name}_difference"] = frame[name] - frame[f"{name}_paper"] if comparable else float("nan")
    named = " ".join(map(str, measured)) or "none"
    frame = frame.assign(**identity(first), epochs=first.training["epochs"], renormalized=variant, severities=named)
    frame = frame.assign(source="; ".join(sorted(sources))).astype({"n": "Int64"})
    many = "severity" if len(measured) == 1 else "severities"
    heading = f"{epochs_heading(first)}: {what}, {many} {named}"
    numbers = (
        f"Mean ± sample standard deviation over n seeds. Corrupted images: {'; '.join(sorted(sources)) or 'none'}. "
        f"{rule_sentence(used)}"
    )
    return Section(heading, frame, _columns(data_name(first), comparable), caption(used, numbers))


def _numbers(runs: list[Result], prefix: str, corruptions: list[str], severities: list[int]) -> dict[str, float]:
    """Means over corruptions and severities, one for each run, then over the runs."""

    def mean(metric: str, factor: int, severities: Sequence[int]) -> Callable[[dict[str, Any]], float]:
        names = [f"{prefix}/{corruption}/{severity}/{metric}" for corruption in corruptions for severity in severities]
        return lambda metrics: factor * sum(metrics[name] for name in names) / len(names) if names else float("nan")

    numbers: dict[str, float] = {}
    for quantity, (metric, factor) in _QUANTITIES.items():
        numbers[quantity], numbers[f"{quantity}_std"] = mean_and_std(runs, mean(metric, factor, severities))
    for quantity in _PAPER:
        worst = mean_and_std(runs, mean(*_QUANTITIES[quantity], (SEVERITIES[-1],)))
        numbers[f"{quantity}_5"], numbers[f"{quantity}_5_std"] = worst
    return numbers


def _with_means(paper: pd.DataFrame) -> pd.DataFrame:
    """The published rows with the mean of each topology behind them."""
    columns = {column: f"{name}_paper" for name, column in _PAPER.items()}
    frame = paper.drop(columns="source").rename(columns=columns)
    parts = []
    for _, rows in frame.groupby(KEY, sort=False):
        means = rows.iloc[:1].assign(corruption=MEAN, **{name: rows[name].mean() for name in columns.values()})
        parts += [rows, means]
    return pd.concat(parts, ignore_index=True)


def _columns(data: str, comparable: bool) -> dict[str, Column]:
    columns = {"topology": text("topology"), "method": text("method")}
    columns["corruption"] = Column("corruption", lambda row: row["corruption"].replace("_", " "), left=True)
    for name, header in (("error", "error"), ("ood", "OOD rate")):
        columns[name] = mean_column(name, f"{data} {header} (ours, %)")
        columns[f"{name}_5"] = mean_column(f"{name}_5", f"{data} {header}, severity 5 (ours, %)")
        columns[f"{name}_paper"] = number(f"{name}_paper", f"CIFAR-10-C {header} (paper, %)", ".2f")
        if comparable:
            columns[f"{name}_difference"] = number(f"{name}_difference", "difference (points)", "+.2f")
    columns |= {"nll": mean_column("nll", "NLL", 3), "ece": mean_column("ece", "ECE", 3)}
    return columns | {"n": number("n", "n", ".0f")}
