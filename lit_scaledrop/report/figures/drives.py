"""Chips at other temperatures, or aged: p, accuracy, calibration and OOD detection by calibration of the drives."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import DASHED, INK, draw_bars, grid
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
    figure, cells = grid(frame, ["topology", "method"], _COLUMNS, (2.9, 2.3), title, "{}\n{}")
    for panel, run, metric, ends in cells:
        name, factor = _COLUMNS[metric]
        for value in factor * run[(run.condition == "digital") & (run.metric == metric)]["mean"]:
            panel.axhline(value, color=INK, linewidth=1, linestyle=DASHED)
        lines = [(metric, "-")] + ([(_TEST_IMAGES, ":")] if metric == "uniform/ood/rate" else [])
        for condition, (colour, mark) in _CONDITIONS.items():
            for measure, line in lines:
                values = run[(run.condition == condition) & (run.metric == measure)].sort_values("level")
                if values.empty:
                    continue
                mean, std = factor * values["mean"], factor * values["std"].fillna(0)
                at = factor_of_axis * values.level
                draw_bars(panel, at, mean, std, colour, mark if line == "-" else "", linestyle=line)
                if measure == metric:
                    ends.append((float(at.iloc[-1]), float(mean.iloc[-1]), condition, colour))
        panel.set_xlabel(axis)
        panel.set_title(name)
        panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]) if factor == 1 else max(panel.get_ylim()[0], -4))
    return figure
