"""The ablation of sigma: drop probabilities that vary in training, at test, or in both, by how far they vary."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lit_scaledrop.report.figures.style import label_ends, name_row, panels
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
from lit_scaledrop.report.sweeps.responses import COLOURS
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Row, Section, mean_column, number, text
from lit_scaledrop.report.tables.variation import trained_and_asked

from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHEN = {"none": "no variation", "eval": "at test only", "train": "in training only", "both": "in both"}
_QUANTITIES = {
    "accuracy": ("cls/acc", 100),
    "nll": ("cls/nll", 1),
    "ece": ("cal/ece", 1),
    "mutual_information": ("unc/mutual_information", 1),
    "rejected": ("uniform/ood/rate", 100),
    "clean_rejected": ("ood/rate", 100),
}
LEAST_SPAN = 6.0
"""Height of a panel in per cent, at least."""
_DRAWN = {
    "accuracy": "Test accuracy (%)",
    "nll": "Test NLL (nats)",
    "mutual_information": "Mutual information (nats)",
    "rejected": "Uniform noise rejected (%)",
    "clean_rejected": "Test images rejected (%)",
}
_NOTES = [
    "p is drawn anew for each pass and layer where nothing else is said; on a finished chip it is off for good: the "
    f"columns of the {CHIPS} chips are their means.",
    "`at test only` asks the network that was trained without variation; `in training only` and `in both` ask one "
    "network for each sigma. Another training differs as two seeds do: compare with the spread over seeds.",
]


def when_of(run: Result) -> tuple[str, str]:
    """When p varied, a key of `WHEN`, and its sigma or device; 0 without variation."""
    trained, asked = trained_and_asked(run)
    if not trained:
        return ("eval", asked) if asked else ("none", "0")
    if asked and asked != trained:
        return f"trained {trained}, asked {asked}", asked
    return ("both" if asked else "train"), trained


def sigma_table(title: str, results: Sequence[Result]) -> Report:
    """One line a network, condition and sigma.

    Args:
        title: of the table.
        results: of the probe `ablation-sigma`, one profile.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    notes: list[str] = []
    sections = [_section(group, notes) for group in by_data(results)]
    frames = [section.frame.assign(**identity(results[0])) for section in sections]
    data = pd.concat(frames, ignore_index=True)
    first = list(identity(results[0]))
    return Report(
        title, sections, [*notes, *_NOTES], data[first + [name for name in data if name not in (*first, RESULT_IDS)]]
    )


def _section(results: list[Result], notes: list[str]) -> Section:
    conditions: dict[tuple[str, str], list[Result]] = {}
    for run in results:
        conditions.setdefault(when_of(run), []).append(run)
    rows = [
        _line(key, when, sigma, runs)
        for (when, sigma), found in conditions.items()
        for key, runs in by_row(found, notes).items()
    ]
    order = list(WHEN)
    rows.sort(key=lambda row: (row["topology"], row["method"], *_place(order, row["when"]), _size(row["sigma"])))
    first = results[0]
    about = f"Mean ± sample standard deviation over n seeds. {rule_sentence(results)}"
    lines = caption(results, about)
    return Section(epochs_heading(first), pd.DataFrame(rows), _columns(data_name(first)), lines)


def _line(key: tuple[Any, ...], when: str, sigma: str, runs: list[Result]) -> Row:
    line: Row = dict(zip(KEY, key, strict=True)) | {"when": when, "sigma": sigma}
    line |= {"epochs": runs[0].training["epochs"], "n": len(runs), "seeds": seeds_of(runs), RESULT_IDS: ids_of(runs)}
    values = pd.Series([run.training.get("val_acc", float("nan")) for run in runs], dtype=float) * 100
    line["validation"], line["validation_std"] = values.mean(), values.std()
    part = "use" if when in ("eval", "both") else "nominal"
    for name, (metric, factor) in _QUANTITIES.items():
        line[name], line[f"{name}_std"] = mean_and_std(runs, _of(f"{part}/{metric}", factor))
        line[f"chips_{name}"], line[f"chips_{name}_std"] = mean_and_std(runs, _of_chips(metric, factor))
    return line


def _of(metric: str, factor: int) -> Callable[[dict[str, Any]], float]:
    return lambda metrics: factor * metrics[metric]


def _of_chips(metric: str, factor: int) -> Callable[[dict[str, Any]], float]:
    return lambda metrics: factor * sum(metrics[f"chip/{number}/{metric}"] for number in range(1, CHIPS + 1)) / CHIPS


def _place(order: list[str], when: str) -> tuple[int, str]:
    return (order.index(when) if when in order else len(order)), when


def _size(sigma: str) -> tuple[float, str]:
    """Order of sigmas; devices stand behind them."""
    try:
        return float(sigma), sigma
    except ValueError:
        return float("inf"), sigma


def _columns(data: str) -> dict[str, Column]:
    return {
        "topology": text("topology"),
        "method": text("method"),
        "when": Column("p varies", lambda row: WHEN.get(row["when"], str(row["when"])), left=True),
        "sigma": text("sigma", "sigma or device"),
        "validation": mean_column("validation", "validation accuracy (%)"),
        "accuracy": mean_column("accuracy", f"{data} test accuracy (%)"),
        "nll": mean_column("nll", "NLL", 3),
        "ece": mean_column("ece", "ECE", 3),
        "mutual_information": mean_column("mutual_information", "mutual information (nats)", 4),
        "rejected": mean_column("rejected", "noise rejected (%)"),
        "clean_rejected": mean_column("clean_rejected", "test images rejected (%)"),
        "chips_accuracy": mean_column("chips_accuracy", f"{CHIPS} chips, accuracy (%)"),
        "chips_nll": mean_column("chips_nll", f"{CHIPS} chips, NLL", 3),
        "n": number("n", "n", ".0f"),
        "seeds": text("seeds"),
    }


def draw_sigma(frame: pd.DataFrame) -> "Figure":
    """A row for each network: solid with p of each use, dashed on finished chips, bars over seeds."""
    numeric = frame[frame.sigma.map(_size).map(lambda size: size[0] < float("inf")) & frame.when.isin(list(WHEN))]
    networks = list(numeric.groupby(["topology", "method"], sort=False))
    figure, axes = panels(len(networks), len(_DRAWN), 3.0, 2.8, "Drop probabilities that vary by sigma")
    for row, ((topology, method), lines) in zip(axes, networks, strict=True):
        start = lines[lines.when == "none"]
        for panel, (quantity, title) in zip(row, _DRAWN.items(), strict=True):
            ends = []
            for (colour, mark), when in zip(COLOURS, ("eval", "train", "both"), strict=False):
                line = lines[lines.when == when]
                if line.empty:
                    continue
                for prefix, style in (("", "-"), ("chips_", (0, (4, 2)))):
                    if line[f"{prefix}{quantity}"].isna().any():
                        continue
                    shown = pd.concat([_from(start, quantity), _from(line, f"{prefix}{quantity}")])
                    panel.errorbar(
                        shown.x, shown.y, yerr=shown.spread, color=colour, linestyle=style, marker=mark, markersize=4,
                        capsize=2, elinewidth=0.8, fillstyle="none" if prefix else "full",
                    )  # fmt: skip
                    name = WHEN[when] + (f", {CHIPS} chips" if prefix else "")
                    ends.append((float(shown.x.iloc[-1]), float(shown.y.iloc[-1]), name, colour))
            if title.endswith("(%)"):
                low, high = panel.get_ylim()
                # a tenth of a point must not look like a fall
                middle, half = (low + high) / 2, max(high - low, LEAST_SPAN) / 2
                low, high = max(middle - half, 0.0), min(middle + half, 100.0)
                panel.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
            panel.set_title(title)
            panel.set_xlabel("Standard deviation sigma of p")
            panel.set_xlim(left=-0.03 * panel.get_xlim()[1])
            if panel is row[-1]:
                label_ends(panel, [(panel.get_xlim()[1], y, name, colour) for _, y, name, colour in ends])
        name_row(row[0], f"{topology}, {method}")
    return figure


def _from(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    spread = rows[f"{quantity}_std"].fillna(0)
    return pd.DataFrame({"x": rows.sigma.astype(float), "y": rows[quantity], "spread": spread})
