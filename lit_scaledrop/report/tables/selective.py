"""Table IX: which test images the OOD rule accepts, and how often the network is right on them."""

from collections.abc import Sequence
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

QUANTITIES = {
    "accept": ("sel/accept", 100, "accepted (%)"),
    "reject": ("sel/reject", 100, "rejected (%)"),
    "tpr": ("sel/tpr", 100, "TPR (%): right predictions that are accepted"),
    "tnr": ("sel/tnr", 100, "TNR (%): wrong predictions that are rejected"),
    "ar": ("sel/ar", 100, "AR (%): accepted predictions that are right"),
    "accuracy": ("cls/acc", 100, "accuracy (%), nothing rejected"),
    "aurc": ("sel/aurc", 100, "AURC (%): mean error over all coverages"),
    "coverage": ("sel/coverage_at_risk_5", 100, "coverage (%) at 5 % error"),
    "ece": ("cal/ece", 100, "ECE (%)"),
    "adaptive_ece": ("cal/adaptive_ece", 100, "adaptive ECE (%)"),
}
"""What a row of the table is: metric, factor, name; the first five are the paper's."""
_ROW = [*KEY, "quantity"]


def table9(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table IX, one line a topology, method and quantity.

    Args:
        results: of the probe `table9`, one profile.
        paper: columns topology, method, bits_w, bits_a, bayesian, quantity, percent, source.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    notes: list[str] = []
    sections = [_section(group, paper, notes) for group in by_data(results)]
    notes += [
        "The paper's words: accepted is what the rule does not call out-of-distribution; TPR, TNR, AR as in the rows.",
        "The paper's row of ResNet-20 contradicts its accuracy of 86 %: accepted times AR is the share of images that "
        "are accepted and right, and divided by TPR the share that is right, 41.00 % x 99.12 % / 59.24 % = 68.6 %. It "
        "is shown as it is printed.",
    ]
    data = pd.concat([section.frame for section in sections], ignore_index=True)
    names = [*identity(results[0]), *KEY, "n", "seeds", "epochs", "quantity", "ours", "ours_std", "paper", "difference"]
    return Report("Table IX: selective prediction on the test images", sections, notes, data[names])


def _section(results: list[Result], paper: pd.DataFrame, notes: list[str]) -> Section:
    shown = by_row(results, notes)
    ours = pd.DataFrame([line for key, runs in shown.items() for line in _lines(key, runs)])
    frame = with_paper(ours, paper.rename(columns={"percent": "paper"}), _ROW)
    # a topology's own quantities behind the paper's five
    groups = list(dict.fromkeys(map(tuple, frame[KEY].itertuples(index=False))))
    place = {row: number for number, row in enumerate((*group, q) for group in groups for q in QUANTITIES)}
    frame = frame.iloc[sorted(range(len(frame)), key=lambda i: place[tuple(frame.loc[i, _ROW])])]
    first = results[0]
    comparable = is_papers_data(first) and not first.evaluation.get("limit")
    frame["difference"] = frame.ours - frame.paper if comparable else float("nan")
    frame = frame.assign(**identity(first), epochs=first.training["epochs"]).astype({"n": "Int64"})
    used = [run for runs in shown.values() for run in runs]
    numbers = f"Mean ± sample standard deviation over n seeds. {rule_sentence(used)}"
    heading = epochs_heading(first)
    return Section(heading, frame, _columns(data_name(first), comparable), caption(used, numbers))


def _lines(key: tuple[Any, ...], runs: list[Result]) -> list[dict[str, Any]]:
    lines = []
    for quantity, (metric, factor, _) in QUANTITIES.items():
        ours, std = mean_and_std(runs, lambda m, k=metric, f=factor: f * m[f"clean/{k}"])  # type: ignore[misc]
        row = dict(zip(KEY, key, strict=True)) | {"n": len(runs), "seeds": seeds_of(runs)}
        row[RESULT_IDS] = ids_of(runs)
        lines.append(row | {"quantity": quantity, "ours": ours, "ours_std": std})
    return lines


def _columns(data: str, comparable: bool) -> dict[str, Column]:
    columns = {
        "topology": text("topology"),
        "method": text("method"),
        "quantity": Column("quantity", lambda row: QUANTITIES[row["quantity"]][2], left=True),
        "ours": mean_column("ours", f"{data} (ours)"),
        "paper": number("paper", "CIFAR-10 (paper)", ".2f"),
    }
    if comparable:
        columns["difference"] = number("difference", "difference", "+.2f")
    return columns | {"n": number("n", "n", ".0f")}
