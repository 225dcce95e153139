"""Finished chips from cold to hot, or aged: p, accuracy, calibration and OOD detection by how drives are set."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import INK, label_ends, name_row, panels
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONDITIONS = {"nominal": ("#D55E00", "s"), "calibrated": ("#E69F00", "^"), "recalibrated": ("#0072B2", "o")}
_COLUMNS = {
    "hw/p_shift": ("Mean error of p", 1),
    "cls/acc": (METRICS["cls/acc"].heading(), 100),
    "cal/ece": ("ECE", 1),
    "uniform/ood/rate": ("Called OOD (%), dotted: test images", 100),
}
_TEST_IMAGES = "ood/rate"


def drive_numbers(found: pd.DataFrame, _: Result) -> pd.DataFrame:
    """Rows (condition, level, chips, metric, value) of the probes `temperature`, `ageing`; a chip is a repetition."""
    metric = (found.suite + "/").where(found.suite.notna(), "") + found.metric
    shown = metric.isin([*_COLUMNS, _TEST_IMAGES]) & found.condition.notna()
    found, metric = found[shown], metric[shown]
    level, chip = found.level.astype(float).fillna(0.0), found.chip.astype(float).fillna(1.0)
    chips = chip.groupby([found.condition, level]).transform("nunique")
    return found[["condition"]].assign(level=level, chips=chips, metric=metric, value=found.value)


def draw_drives(title: str, axis: str, factor_of_axis: float, frame: pd.DataFrame) -> "Figure":
    """A row of panels for each network: a column for each measure, a line for each way to set the drives.

    Args:
        title: of the figure.
        axis: what the levels are, with their unit.
        factor_of_axis: what a level is multiplied by in that unit.
        frame: rows as of :func:`drive_numbers`, with topology and method, over which ``mean`` and ``std`` were taken.
    """
    networks = list(frame[["topology", "method"]].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = panels(len(networks), len(_COLUMNS), 2.9, 2.3, title)
    for row, (topology, method) in zip(axes, networks, strict=True):
        run = frame[(frame.topology == topology) & (frame.method == method)]
        ends: list[tuple[float, float, str, str]] = []
        for panel, (metric, (name, factor)) in zip(row, _COLUMNS.items(), strict=True):
            for value in factor * run[(run.condition == "digital") & (run.metric == metric)]["mean"]:
                panel.axhline(value, color=INK, linewidth=1, linestyle=(0, (5, 2)))
            lines = [(metric, "-")] + ([(_TEST_IMAGES, ":")] if metric == "uniform/ood/rate" else [])
            for condition, (colour, mark) in _CONDITIONS.items():
                for measure, line in lines:
                    values = run[(run.condition == condition) & (run.metric == measure)].sort_values("level")
                    if values.empty:
                        continue
                    mean, std = factor * values["mean"], factor * values["std"].fillna(0)
                    at = factor_of_axis * values.level
                    panel.errorbar(
                        at, mean, std, color=colour, linestyle=line, marker=mark if line == "-" else "",
                        markersize=4, capsize=2, elinewidth=1,
                    )  # fmt: skip
                    if measure == "uniform/ood/rate":
                        ends.append((float(at.iloc[-1]), float(mean.iloc[-1]), condition, colour))
            panel.set_xlabel(axis)
            panel.set_title(name)
            panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]) if factor == 1 else max(panel.get_ylim()[0], -4))
        name_row(row[0], f"{topology}\n{method}")
        label_ends(row[-1], ends)
    return figure
