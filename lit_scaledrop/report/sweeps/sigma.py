"""The ablation of sigma: drop probabilities with variation sigma in training, at test, or in both."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import draw_bars, grid
from lit_scaledrop.report.groups import KEY, by_row
from lit_scaledrop.report.measures import EVERY, Measure, chips_of, lines, mean_columns, percent, plain
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.sweeps.responses import COLOURS
from lit_scaledrop.report.sweeps.swept import with_validation
from lit_scaledrop.report.table import RUNS, Column, mean_column, text
from lit_scaledrop.report.tables.variation import ASKED, trained_and_asked
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


def when_of(run: Result) -> tuple[str, str]:
    """When p varied, a key of `WHEN`, and its sigma or device; 0 without variation."""
    trained, asked = trained_and_asked(run)
    if not trained:
        return ("eval", asked) if asked else ("none", "0")
    if asked and asked != trained:
        return f"trained {trained}, evaluated {asked}", asked
    return ("both" if asked else "train"), trained


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


SIGMA = TableSpec(
    "",
    MEASURES,
    [
        text("topology"),
        text("method"),
        Column("p varies", lambda row: WHEN.get(row["when"], str(row["when"])), left=True, name="when"),
        text("sigma", "sigma or device"),
        mean_column("validation", "validation accuracy (%)"),
        *mean_columns(_ASKED).values(),
        mean_column("chips_accuracy", "{chips}, accuracy (%)"),
        mean_column("chips_nll", "{chips}, NLL", 3),
        RUNS,
        text("seeds"),
    ],
    lines=_lines,
    notes=[
        "p is redrawn for each pass and layer unless stated otherwise; on a simulated chip its deviations are "
        "fixed: the columns of the {chips} chips are their means.",
        "`at test only` evaluates the network trained without variation; `in training only` and `in both` evaluate "
        "one network per sigma. Different trainings differ as two seeds do: compare with the spread over seeds.",
    ],
)


def draw_sigma(frame: pd.DataFrame) -> "Figure":
    """A row for each network: solid with p of each use, dashed on finished chips, bars over seeds."""
    numeric = frame[frame.sigma.map(_size).lt(float("inf")) & frame.when.isin(list(WHEN))]
    by, title = ["topology", "method"], "Variation sigma of the drop probabilities"
    figure, cells = grid(numeric, by, _DRAWN, (3.0, 2.8), title)
    for panel, found, quantity, ends in cells:
        start, lines_of = found[found.when == "none"], []
        for (colour, mark), when in zip(COLOURS, ("eval", "train", "both"), strict=False):
            line = found[found.when == when]
            for prefix, style in (("", "-"), ("chips_", (0, (4, 2)))):
                if line.empty or line[f"{prefix}{quantity}"].isna().any():
                    continue
                shown = pd.concat([_from(start, quantity), _from(line, f"{prefix}{quantity}")])
                look = {"linestyle": style, "fillstyle": "none" if prefix else "full", "elinewidth": 0.8}
                draw_bars(panel, shown.x, shown.y, shown.spread, colour, mark, **look)
                name = WHEN[when] + (f", {frame.attrs['chips']} chips" if prefix else "")
                lines_of.append((float(shown.y.iloc[-1]), name, colour))
        if _DRAWN[quantity].endswith("(%)"):
            low, high = panel.get_ylim()
            # a tenth of a point must not look like a fall
            middle, half = (low + high) / 2, max(high - low, LEAST_SPAN) / 2
            low, high = max(middle - half, 0.0), min(middle + half, 100.0)
            panel.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        panel.set_title(_DRAWN[quantity])
        panel.set_xlabel("Standard deviation sigma of p")
        panel.set_xlim(left=-0.03 * panel.get_xlim()[1])
        ends += [(panel.get_xlim()[1], *line) for line in lines_of]
    return figure


def _from(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    spread = rows[f"{quantity}_std"].fillna(0)
    return pd.DataFrame({"x": rows.sigma.astype(float), "y": rows[quantity], "spread": spread})
