"""The ablation of sigma: drop probabilities that vary in training, at test, or in both, by how far they vary."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import label_ends, name_row, panels
from lit_scaledrop.report.groups import KEY, by_row, data_name
from lit_scaledrop.report.measures import EVERY, Measure, lines, mean_columns, percent, plain
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.sweeps.responses import COLOURS
from lit_scaledrop.report.sweeps.swept import with_validation
from lit_scaledrop.report.table import Column, Report, mean_column, number, text
from lit_scaledrop.report.tables.variation import ASKED, chips_of, trained_and_asked
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHEN = {"none": "no variation", "eval": "at test only", "train": "in training only", "both": "in both"}
_ASKED = {
    "accuracy": percent("cls/acc", "{data} test accuracy (%)", condition=ASKED),
    "nll": plain("cls/nll", "NLL", condition=ASKED),
    "ece": plain("cal/ece", "ECE", condition=ASKED),
    "mutual_information": plain("unc/mutual_information", "mutual information (nats)", condition=ASKED),
    "rejected": percent("ood/rate", "noise rejected (%)", condition=ASKED, suite="uniform"),
    "clean_rejected": percent("ood/rate", "test images rejected (%)", condition=ASKED),
}
_ON_CHIPS = {"chip": EVERY}
MEASURES: dict[str, Measure] = {}
for _name, _measure in _ASKED.items():
    of_chips = {name: where for name, where in _measure.where.items() if name != "condition"} | _ON_CHIPS
    MEASURES |= {_name: _measure, f"chips_{_name}": replace(_measure, header="", where=of_chips)}
LEAST_SPAN = 6.0
"""Height of a panel in per cent, at least."""
_DRAWN = {
    **{name: METRICS[_ASKED[name].metric].heading("Test") for name in ("accuracy", "nll")},
    "mutual_information": METRICS["unc/mutual_information"].heading(),
    "rejected": "Uniform noise rejected (%)",
    "clean_rejected": "Test images rejected (%)",
}
_NOTES = [
    "p is drawn anew for each pass and layer where nothing else is said; on a finished chip it is off for good: the "
    "columns of the {chips} chips are their means.",
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
    notes = [note.format(chips=chips_of(results)) for note in _NOTES]
    return replace(SPEC, title=title, notes=notes).report(results)


def _lines(results: Sequence[Result], notes: list[str]) -> pd.DataFrame:
    shown = by_row(results, notes, split=when_of)
    frame = with_validation(lines(shown, MEASURES, ("when", "sigma")), list(shown.values()))
    first = [*KEY, "when", "sigma", "epochs", "n", "seeds", "result_ids", "validation", "validation_std"]
    frame = frame[[*first, *(name for name in frame if name not in first)]]
    rank = {when: number for number, when in enumerate(WHEN)}
    order = frame.assign(_when=frame.when.map(rank).fillna(len(rank)), _size=frame.sigma.map(_size))
    order = order.sort_values(
        ["topology", "method", "_when", "when", "_size", "sigma"], kind="stable", ignore_index=True
    )
    order.attrs["chips"] = chips_of(results)  # for the figure's names, no number of a line
    return order.drop(columns=["_when", "_size"])


def _size(sigma: str) -> float:
    """Order of sigmas; devices stand behind them."""
    try:
        return float(sigma)
    except ValueError:
        return float("inf")


def _columns(_: pd.DataFrame, runs: Sequence[Result], comparable: bool) -> dict[str, Column]:  # noqa: ARG001
    chips = f"{chips_of(runs)} chips"
    return {
        "topology": text("topology"),
        "method": text("method"),
        "when": Column("p varies", lambda row: WHEN.get(row["when"], str(row["when"])), left=True),
        "sigma": text("sigma", "sigma or device"),
        "validation": mean_column("validation", "validation accuracy (%)"),
        **mean_columns(_ASKED, data_name(runs[0])),
        "chips_accuracy": mean_column("chips_accuracy", f"{chips}, accuracy (%)"),
        "chips_nll": mean_column("chips_nll", f"{chips}, NLL", 3),
        "n": number("n", "n", ".0f"),
        "seeds": text("seeds"),
    }


SPEC = TableSpec("", MEASURES, _columns, lines=_lines)


def draw_sigma(frame: pd.DataFrame) -> "Figure":
    """A row for each network: solid with p of each use, dashed on finished chips, bars over seeds."""
    numeric = frame[frame.sigma.map(_size).lt(float("inf")) & frame.when.isin(list(WHEN))]
    networks = list(numeric.groupby(["topology", "method"], sort=False))
    figure, axes = panels(len(networks), len(_DRAWN), 3.0, 2.8, "Drop probabilities that vary by sigma")
    for row, ((topology, method), found) in zip(axes, networks, strict=True):
        start = found[found.when == "none"]
        for panel, (quantity, title) in zip(row, _DRAWN.items(), strict=True):
            ends = []
            for (colour, mark), when in zip(COLOURS, ("eval", "train", "both"), strict=False):
                line = found[found.when == when]
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
                    name = WHEN[when] + (f", {frame.attrs['chips']} chips" if prefix else "")
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
