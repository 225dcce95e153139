"""Table VI: detection of inputs from elsewhere, and the separations that the field reads beside the paper's rate."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import (
    KEY,
    by_data,
    by_row,
    caption,
    epochs_heading,
    identity,
    ids_of,
    mean_and_std,
    rule_sentence,
    seeds_of,
    with_paper,
)
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Section, bits, number, spread, text
from lit_scaledrop.results.result import Result

PAPER_SUITES = ("gaussian", "uniform", "test_gaussian", "test_uniform", "svhn", "stl10")
NEAR, FAR = ("cifar100", "tiny_imagenet"), ("mnist", "svhn", "textures", "places365")
SCORES = ("max_probability", "predictive_entropy", "mutual_information", "variance", "quantile_confidence")
_TITLES = {
    "clean": "test images", "gaussian": "Gaussian", "uniform": "uniform", "test_gaussian": "test + Gaussian",
    "test_uniform": "test + uniform", "svhn": "SVHN", "stl10": "STL-10", "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny-ImageNet", "mnist": "MNIST", "textures": "Textures", "places365": "Places365",
}  # fmt: skip
_SHOWN = {
    "ood/rate": "detection rate (%) by the OOD rule",
    "ood/auroc/predictive_entropy": "AUROC (%) of the predictive entropy against the test images",
    "ood/fpr95/predictive_entropy": "FPR95 (%) of the predictive entropy: test images flagged with 95 % of the suite",
}
_Runs = dict[tuple[Any, ...], list[Result]]


def table6(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table VI, one line a topology and method, one column a suite; a section for each measure.

    Args:
        results: of the probe `table6`, one profile.
        paper: rows of the paper: columns topology, method, bits_w, bits_a, bayesian, source.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    notes: list[str] = []
    sections, exports = [], []
    for group in by_data(results):
        shown = by_row(group, notes)
        used = [run for runs in shown.values() for run in runs]
        suites = _suites(used)
        numbers = f"Mean ± sample standard deviation over n seeds. {rule_sentence(used)} {_sources(used)}"
        below = caption(used, numbers)
        for metric, what in _SHOWN.items():
            columns = [name for name in suites if name != "clean" or metric == "ood/rate"]
            values = {name: _part(name, metric) for name in columns}
            # the paper has the detection rate only
            sections.append(_section(shown, paper if metric == "ood/rate" else paper[:0], what, values))
        sections.append(_section(shown, paper[:0], _by_score(used), _scores(_present(used)), titles={}))
        sections[-1] = Section(sections[-1].heading, sections[-1].frame, sections[-1].columns, below)
        exports += [_export(key, runs) for key, runs in shown.items()]
        notes += _absent(used)
    notes = [
        *dict.fromkeys(notes),
        "The paper's numbers of this table are lost in our copy, so none stand beside ours; its rows are listed.",
        f"The paper's six suites are {_named(PAPER_SUITES)}; the others are OpenOOD's for CIFAR-10, near "
        f"({_named(NEAR)}) and far ({_named(FAR)}). OOD inputs are the positive class.",
        "A detection rate means little without the rate on the test images, the false alarms, in the first column.",
    ]  # fmt: skip
    return Report("Table VI: out-of-distribution detection", sections, notes, pd.concat(exports, ignore_index=True))


def _suites(runs: Sequence[Result]) -> list[str]:
    """Parts that were measured or found absent, in the order of the table."""
    found = {name for run in runs for name in (*run.evaluation["parts"], *run.evaluation["absent"])}
    return [name for name in _TITLES if name in found] + sorted(found - set(_TITLES))


def _present(runs: Sequence[Result]) -> list[str]:
    """Suites that every run was measured on."""
    return [n for n in _suites(runs) if n != "clean" and all(n in run.evaluation["parts"] for run in runs)]


def _part(name: str, metric: str) -> Callable[[dict[str, Any]], float]:
    return lambda metrics: 100 * metrics[f"{name}/{metric}"]


def _named(suites: Sequence[str]) -> str:
    return ", ".join(_TITLES.get(name, name) for name in suites)


def _by_score(runs: Sequence[Result]) -> str:
    return f"AUROC (%) by score, mean over {_named(_present(runs)) or 'no suite'}"


def _scores(suites: list[str]) -> dict[str, Callable[[dict[str, Any]], float]]:
    def mean(score: str) -> Callable[[dict[str, Any]], float]:
        keys = [f"{suite}/ood/auroc/{score}" for suite in suites]
        return lambda metrics: 100 * sum(metrics[key] for key in keys) / len(keys) if keys else float("nan")

    return {score: mean(score) for score in SCORES}


def _section(
    shown: _Runs,
    paper: pd.DataFrame,
    what: str,
    values: dict[str, Callable[[dict[str, Any]], float]],
    titles: dict[str, str] = _TITLES,
) -> Section:
    lines = []
    for key, runs in shown.items():
        line: dict[str, Any] = dict(zip(KEY, key, strict=True)) | {"n": len(runs), "seeds": seeds_of(runs)}
        line[RESULT_IDS] = ids_of(runs)
        for name, value in values.items():
            mean, std = mean_and_std(runs, value)
            absent = any(name in run.evaluation["absent"] for run in runs)
            line[name] = "absent" if absent else spread(mean, std)
        lines.append(line)
    frame = with_paper(pd.DataFrame(lines), paper, KEY)
    first = next(iter(shown.values()))[0]
    columns: dict[str, Column] = {"topology": text("topology"), "method": text("method"), "bits": bits()}
    for name in values:
        title = titles.get(name, name.replace("_", " "))
        columns[name] = Column(title, lambda row, name=name: "" if pd.isna(row[name]) else row[name])  # type: ignore[misc]
    columns["n"] = number("n", "n", ".0f")
    return Section(f"{epochs_heading(first)}: {what}", frame, columns, [])


def _export(key: tuple[Any, ...], runs: list[Result]) -> pd.DataFrame:
    """One line a suite and metric."""
    head = identity(runs[0]) | dict(zip(KEY, key, strict=True))
    head |= {"n": len(runs), "seeds": seeds_of(runs), "epochs": runs[0].training["epochs"]}
    lines = []
    for name in sorted({name for run in runs for name in run.metrics}):
        mean, std = mean_and_std(runs, lambda metrics, name=name: metrics[name])  # type: ignore[misc]
        suite, _, metric = name.partition("/")
        about = runs[0].evaluation["suites"].get(suite, {})
        what = {"suite": suite, "source": about.get("source", ""), "metric": metric}
        images = about.get("images", runs[0].evaluation["images"])
        lines.append(head | what | {"images": images, "mean": mean, "std": std})
    return pd.DataFrame(lines)


def _sources(runs: Sequence[Result]) -> str:
    found: dict[str, str] = {}
    for run in runs:
        for name, about in run.evaluation["suites"].items():
            found[name] = f"{about['title']} ({about['source']}, {about['images']} images)"
    return f"Suites: {'; '.join(found[name] for name in _suites(runs) if name in found) or 'none'}."


def _absent(runs: Sequence[Result]) -> list[str]:
    reasons = {name: reason for run in runs for name, reason in run.evaluation["absent"].items()}
    listed = [f"{_TITLES.get(name, name)}: {reasons[name]}" for name in _suites(runs) if name in reasons]
    return [f"Absent, and replaced by nothing: {'; '.join(listed)}."] if listed else []
