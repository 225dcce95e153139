"""The ablation of T: accuracy, likelihood, calibration and detection from the first T passes of one plan."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lit_scaledrop.report.figures.style import label_ends, name_row, panels, styles
from lit_scaledrop.report.groups import (
    KEY,
    by_data,
    by_row,
    caption,
    data_name,
    epochs_heading,
    identity,
    ids_of,
    mean_and_std,
    rule_sentence,
    seeds_of,
)
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Row, Section, mean_column, number, text
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CLEAN = {
    "accuracy": ("cls/acc", 100),
    "nll": ("cls/nll", 1),
    "ece": ("cal/ece", 1),
    "mutual_information": ("unc/mutual_information", 1),
}
_KINDS = {"noise": ("uniform", "gaussian"), "natural": ("cifar100", "svhn")}
_SCORES = {"entropy": "predictive_entropy", "information": "mutual_information"}
_DRAWN = {
    "accuracy": "Test accuracy (%)",
    "nll": "Test NLL (nats)",
    "ece": "Test ECE",
    "mutual_information": "Mutual information (nats)",
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
    notes: list[str] = []
    sections = [_section(group, notes) for group in by_data(results)]
    data = pd.concat([section.frame for section in sections], ignore_index=True)
    first = list(identity(results[0]))
    notes.append(
        "AUROC: pure noise (the mean of uniform and Gaussian) and other images (the mean of CIFAR-100 and SVHN, where "
        "they are) against test images, by predictive entropy and by mutual information. One pass has no disagreement: "
        "its mutual information is 0 and tells nothing."
    )
    return Report(title, sections, notes, data[first + [name for name in data if name not in (*first, RESULT_IDS)]])


def _section(results: list[Result], notes: list[str]) -> Section:
    shown = by_row(results, notes)
    counts = sorted({passes for runs in shown.values() for passes in _counts(runs)})
    rows = [_line(key, passes, runs) for key, runs in shown.items() for passes in _counts(runs)]
    frame = pd.DataFrame(rows).sort_values(["topology", "method", "passes"], ignore_index=True)
    first = results[0]
    about = f"Mean ± sample standard deviation over n seeds. {rule_sentence(results)}"
    lines = caption(results, about, f"the first {', '.join(map(str, counts))} of one plan")
    return Section(epochs_heading(first), frame.assign(**identity(first)), _columns(data_name(first), frame), lines)


def _counts(runs: list[Result]) -> list[int]:
    found = (re.fullmatch(r"clean/T/(\d+)/cls/acc", key) for key in runs[0].metrics)
    counts = sorted(int(match[1]) for match in found if match)
    if not counts:
        raise ValueError(f"the result {runs[0].id} has no numbers by T; delete it and measure again")
    return counts


def _line(key: tuple[Any, ...], passes: int, runs: list[Result]) -> Row:
    line: Row = dict(zip(KEY, key, strict=True)) | {"passes": passes, "epochs": runs[0].training["epochs"]}
    line |= {"n": len(runs), "seeds": seeds_of(runs), RESULT_IDS: ids_of(runs)}
    for name, (metric, factor) in _CLEAN.items():
        line[name], line[f"{name}_std"] = mean_and_std(
            runs,
            lambda metrics, k=f"clean/T/{passes}/{metric}", f=factor: f * metrics[k],  # type: ignore[misc]
        )
    for kind, suites in _KINDS.items():
        there = [suite for suite in suites if any(key.startswith(f"{suite}/T/") for key in runs[0].metrics)]
        for name, score in _SCORES.items():
            keys = [f"{suite}/T/{passes}/ood/auroc/{score}" for suite in there]
            line[f"{kind}_{name}"], line[f"{kind}_{name}_std"] = mean_and_std(
                runs,
                lambda metrics, keys=keys: (  # type: ignore[misc]
                    100 * sum(metrics[key] for key in keys) / len(keys) if keys else float("nan")
                ),
            )
    return line


def _columns(data: str, frame: pd.DataFrame) -> dict[str, Column]:
    columns = {
        "topology": text("topology"),
        "method": text("method"),
        "passes": number("passes", "T", ".0f"),
        "accuracy": mean_column("accuracy", f"{data} test accuracy (%)"),
        "nll": mean_column("nll", "NLL", 3),
        "ece": mean_column("ece", "ECE", 3),
        "mutual_information": mean_column("mutual_information", "mutual information (nats)", 4),
    }
    heads = {"noise": "pure noise", "natural": "other images"}
    names = {"entropy": "entropy", "information": "mutual information"}
    for kind, head in heads.items():
        if frame[f"{kind}_entropy"].notna().any():
            for name, word in names.items():
                columns[f"{kind}_{name}"] = mean_column(f"{kind}_{name}", f"AUROC of {head} by {word} (%)", 1)
    return columns | {"n": number("n", "n", ".0f"), "seeds": text("seeds")}


def draw_prefixes(frame: pd.DataFrame) -> "Figure":
    """A row for each topology, a line for each method; of AUROC solid by entropy, dashed by mutual information."""
    drawn = {name: title for name, title in _DRAWN.items() if name in _CLEAN or frame[f"{name}_entropy"].notna().any()}
    topologies = list(frame.topology.unique())
    figure, axes = panels(len(topologies), len(drawn), 2.75, 2.9, "Number of passes T")
    look = styles(frame.method)
    for row, topology in zip(axes, topologies, strict=True):
        for panel, (name, title) in zip(row, drawn.items(), strict=True):
            ends = []
            columns = [name] if name in _CLEAN else [f"{name}_entropy", f"{name}_information"]
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
