"""Table IV: accuracy with drop probabilities that vary, for networks that were trained with and without variation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import (
    KEY,
    ORDER,
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
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Row, Section, mean_column, number, text
from lit_scaledrop.results.result import Result

SIGMAS = {"0.02": "sigma_1", "0.05": "sigma_2", "0.1": "sigma_3"}
"""Our standard deviations in place of the paper's three, in their order."""
BASELINE, WITH, WITHOUT = "baseline", "trained with variation", "trained without variation"
CHIPS = 10
_ROW = [*KEY, "condition", "level"]
_PLACED = ("topology", "condition", "level")
_QUANTITIES = {
    "accuracy": ("cls/acc", 100),
    "nll": ("cls/nll", 1),
    "ece": ("cal/ece", 1),
    "rejected": ("uniform/ood/rate", 100),
    "clean_rejected": ("ood/rate", 100),
}
Quantity = Callable[[dict[str, Any]], float]
"""Metrics of a result -> a number."""
_NOTES = [
    "The paper's three sigmas are lost in our copy. Its rows stand beside ours in their order: 0.02, 0.05, 0.10.",
    "Accuracy: p is drawn anew for each pass and layer, as eq. 24 says. A mask is then a bit of the mean p, so such a "
    "variation does little but where p is cut off at 0 and 1. On a finished chip p is off for good: the "
    f"{CHIPS} chips are the harder case, mean and worst.",
    "Change: against our own baseline, seed by seed, with the same random numbers behind the masks. The same network, "
    "asked with variation, differs by its masks alone. One that was trained with variation is another training, which "
    "differs from the baseline as two seeds do: a change that is smaller than the spread over seeds says nothing.",
]


def table4(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table IV, one line a topology, condition and sigma.

    Args:
        results: of the probe `table4`, one profile.
        paper: columns topology, method, bits_w, bits_a, bayesian, condition, level, accuracy_percent, source.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    notes: list[str] = []
    sections = [_section(group, paper, notes) for group in by_data(results)]
    data = pd.concat([section.frame for section in sections], ignore_index=True)
    numbers = [name for quantity in (*_QUANTITIES, "chips", "worst") for name in (quantity, f"{quantity}_std")]
    names = [*identity(results[0]), *KEY, "n", "seeds", "epochs", "condition", "level", "sigma", *numbers]
    names += ["change", "chips_change", "paper", "difference", "source"]
    return Report("Table IV: drop probabilities that vary", sections, [*notes, *_NOTES], data[names])


def condition_of(run: Result) -> tuple[str, str]:
    """How a run was trained and asked, and the sigma or device that it was asked with."""
    trained, asked = trained_and_asked(run)
    if not trained:
        return (WITHOUT, asked) if asked else (BASELINE, "")
    return (WITH if trained == asked else f"trained with {trained}, asked with {asked or 'none'}"), asked


def trained_and_asked(run: Result) -> tuple[str, str]:
    """The sigma or device that a run was trained with, and that it was asked with; empty for none."""
    trained = ""
    for callback in run.config.get("trainer", {}).get("callbacks") or []:
        about = callback.get("init_args", {})
        if callback["class_path"].endswith(".MTJVariation") and about["when"] != "eval":
            trained = _named({**about, "chip": about["seed"] if about["redraw"] == "chip" else None})
    variation = run.evaluation.get("variation")
    return trained, _named(variation) if variation else ""


def _named(variation: Mapping[str, Any]) -> str:
    name = str(variation["device"] or f"{variation['sigma']:g}")
    truncated = ", truncated" if variation["within"] == "truncated" else ""
    return name + truncated + (f", chip {variation['chip']}" if variation["chip"] is not None else "")


def _section(results: list[Result], paper: pd.DataFrame, notes: list[str]) -> Section:
    conditions: dict[tuple[str, str], list[Result]] = {}
    for run in results:
        conditions.setdefault(condition_of(run), []).append(run)
    shown = {condition: by_row(runs, notes) for condition, runs in conditions.items()}
    baselines = shown.get((BASELINE, ""), {})
    ours = pd.DataFrame(
        [
            _line(key, condition, sigma, runs, baselines.get(key, []))
            for (condition, sigma), rows in shown.items()
            for key, runs in rows.items()
        ]
    )
    frame = with_paper(ours, paper.rename(columns={"accuracy_percent": "paper"}).fillna({"level": ""}), _ROW)
    frame["sigma"] = frame.sigma.fillna(frame.level.map({level: sigma for sigma, level in SIGMAS.items()})).fillna("")
    places = [_place(row) for row in frame.to_dict("records")]
    frame = frame.iloc[sorted(range(len(frame)), key=places.__getitem__)]
    first = results[0]
    comparable = is_papers_data(first) and not first.evaluation.get("limit")
    frame["difference"] = frame.accuracy - frame.paper if comparable else float("nan")
    frame = frame.assign(**identity(first), epochs=first.training["epochs"]).astype({"n": "Int64"})
    used = [run for rows in shown.values() for runs in rows.values() for run in runs]
    noise = [about for run in used for name, about in run.evaluation["suites"].items() if name == "uniform"]
    images = f" Uniform noise: {noise[0]['images']} images." if noise else ""
    numbers = f"Mean ± sample standard deviation over n seeds. {rule_sentence(used)}{images}"
    columns = _columns(data_name(first), comparable)
    return Section(epochs_heading(first), frame, columns, caption(used, numbers))


def _line(key: tuple[Any, ...], condition: str, sigma: str, runs: list[Result], baseline: list[Result]) -> Row:
    line: Row = dict(zip(KEY, key, strict=True)) | {"n": len(runs), "seeds": seeds_of(runs)}
    line |= {RESULT_IDS: ids_of(runs), "condition": condition, "sigma": sigma, "level": SIGMAS.get(sigma, sigma)}
    part = "use" if sigma else "nominal"
    quantities: dict[str, Quantity] = {"chips": _mean_of_chips, "worst": _worst_chip}
    for name, (metric, factor) in _QUANTITIES.items():
        quantities[name] = lambda metrics, k=f"{part}/{metric}", f=factor: f * metrics[k]  # type: ignore[misc]
    for name, quantity in quantities.items():
        line[name], line[f"{name}_std"] = mean_and_std(runs, quantity)
    for name, quantity in (("change", quantities["accuracy"]), ("chips_change", _mean_of_chips)):
        line[name] = float("nan") if condition == BASELINE else _change(runs, quantity, baseline)
    return line


def _chips(metrics: dict[str, Any]) -> list[float]:
    return [100 * metrics[f"chip/{number}/cls/acc"] for number in range(1, CHIPS + 1)]


def _mean_of_chips(metrics: dict[str, Any]) -> float:
    return sum(_chips(metrics)) / CHIPS


def _worst_chip(metrics: dict[str, Any]) -> float:
    return min(_chips(metrics))


def _change(runs: list[Result], quantity: Quantity, baseline: list[Result]) -> float:
    """Mean difference to the baseline of the same seed; NaN where a seed has none or a part is missing."""
    nominal = {run.seed: run.metrics.get("nominal/cls/acc", float("nan")) for run in baseline}
    ours, _ = mean_and_std(runs, quantity)
    theirs = [100 * nominal.get(run.seed, float("nan")) for run in runs]
    return ours - sum(theirs) / len(theirs)


def _place(row: Row) -> tuple[Any, ...]:
    """Order of the lines: by topology, condition and sigma."""
    ranks = (ORDER, {BASELINE: 0, WITH: 1, WITHOUT: 2}, {level: rank for rank, level in enumerate(SIGMAS.values())})
    order = [(rank.get(row[name], len(rank)), row[name]) for name, rank in zip(_PLACED, ranks, strict=True)]
    return order[0], row["method"], *order[1:]


def _columns(data: str, comparable: bool) -> dict[str, Column]:
    columns = {
        "topology": text("topology"),
        "condition": text("condition"),
        "sigma": text("sigma", "sigma or device"),
        "accuracy": mean_column("accuracy", f"{data} accuracy (ours, %)"),
        "paper": number("paper", "CIFAR-10 accuracy (paper, %)", ".2f", source="source"),
    }
    if comparable:
        columns["difference"] = number("difference", "difference (points)", "+.2f")
    return columns | {
        "change": number("change", "change (points)", "+.2f"),
        "chips": mean_column("chips", f"{CHIPS} chips, mean (%)"),
        "worst": mean_column("worst", "worst chip (%)"),
        "nll": mean_column("nll", "NLL", 3),
        "ece": mean_column("ece", "ECE", 3),
        "rejected": mean_column("rejected", "noise rejected (%)"),
        "clean_rejected": mean_column("clean_rejected", "test images rejected (%)"),
        "n": number("n", "n", ".0f"),
    }
