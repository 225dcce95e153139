"""A search over several settings: the metric against each setting, and parallel coordinates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lit_scaledrop.report.figures.style import FAINT, INK, RIVAL, panels
from lit_scaledrop.report.sweeps.responses import are_numbers, is_wide, log_axis
from lit_scaledrop.report.sweeps.swept import label, show_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_VALIDATION = "Validation accuracy (%)"


def draw_scatter(frame: pd.DataFrame, names: Sequence[str], title: str, stopped: pd.DataFrame) -> "Figure":
    """A panel for each setting: the validation metric of every run against its value; hollow: stopped early."""
    figure, axes = panels(1, len(names), 2.9, 3.0, title)
    for panel, name in zip(axes[0], names, strict=True):
        x, ticks = _positions([*frame[name], *stopped[name]])
        values, cut, best = np.asarray(x[: len(frame)]), x[len(frame) :], frame.best.to_numpy()
        panel.scatter(cut, stopped.validation, edgecolor="#7F7F7F", facecolor="none", s=22)
        panel.scatter(values[~best], frame.validation[~best], color="#0072B2", s=22, alpha=0.75, linewidth=0)
        panel.scatter(values[best], frame.validation[best], color=RIVAL, s=75, marker="*", zorder=3)
        if ticks:
            panel.set_xticks(range(len(ticks)), ticks)
        elif is_wide(x, name):
            log_axis(panel)
        panel.set_xlabel(label(name)[:1].upper() + label(name)[1:])
    axes[0][0].set_ylabel(_VALIDATION)
    return figure


def draw_parallel(frame: pd.DataFrame, names: Sequence[str], title: str, stopped: pd.DataFrame) -> "Figure":
    """A line for each run through the axes of all settings to the validation metric; dashed: stopped early."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    figure, axes = panels(1, 1, 2.1 * (len(names) + 1), 4.0, title)
    panel, columns = axes[0, 0], [*names, "validation"]
    every = pd.concat([frame[columns], stopped[columns]], ignore_index=True) if len(stopped) else frame[columns]
    heights = np.stack([_shares(list(every[name]), name) for name in columns], axis=1)
    for cut in heights[len(frame) :]:
        panel.plot(range(len(columns)), cut, color="#9A9A9A", linewidth=1, linestyle=(0, (4, 2)))
    norm = Normalize(frame.validation.min(), frame.validation.max())
    for place in np.argsort(frame.validation.to_numpy()):
        row = frame.iloc[place]
        look: dict[str, Any] = {"color": colormaps["viridis_r"](0.1 + 0.8 * norm(row.validation)), "linewidth": 1.3}
        if row.best:
            look = {"color": RIVAL, "linewidth": 2.8, "zorder": 4}
        panel.plot(range(len(columns)), heights[place], alpha=0.9, **look)
    for place, name in enumerate(columns):
        _axis(panel, place, list(every[name]), name)
    panel.set_xticks(range(len(columns)), [label(name)[:1].upper() + label(name)[1:] for name in names] + [_VALIDATION])
    panel.tick_params(axis="x", length=0, pad=16, labelsize=9)
    panel.set_yticks([])
    panel.set_xlim(-0.25, len(columns) - 0.6)
    panel.set_ylim(-0.06, 1.08)
    panel.grid(visible=False)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)
    best = frame[frame.best].iloc[0]
    words = ", ".join(f"{label(name)} {show_value(best[name])}" for name in names)
    panel.set_title(f"Best, in orange: {best.validation:.2f} % with {words}", color=RIVAL)
    return figure


def _axis(panel: "Axes", place: int, values: list[Any], name: str) -> None:
    """A vertical axis with its smallest and largest value, or all its words."""
    panel.plot([place, place], [0, 1], color="#7F7F7F", linewidth=0.9, zorder=2)
    x, words = _positions(values)
    marks: dict[float, str] = {float(at): word for at, word in enumerate(words)}
    marks = marks or {min(x): show_value(float(min(x))), max(x): show_value(float(max(x)))}
    if not words:
        middle = float(np.sqrt(min(x) * max(x)) if is_wide(x, name) else (min(x) + max(x)) / 2)
        marks[middle] = show_value(middle)
    for value, word in marks.items():
        height = float(_shares([*values, value], name)[-1]) if not words else value / max(len(words) - 1, 1)
        panel.plot([place - 0.02, place + 0.02], [height, height], color="#7F7F7F", linewidth=0.9)
        panel.annotate(
            word, (place, height), xytext=(5, 0), textcoords="offset points", fontsize=7.5, color=INK, va="center",
            bbox={"facecolor": "white", "edgecolor": FAINT, "linewidth": 0, "pad": 0.8, "alpha": 0.8}, zorder=5,
        )  # fmt: skip


def _positions(values: list[Any]) -> tuple[list[float], list[str]]:
    """Numbers as they are; of anything else its places in order, with the words there."""
    if are_numbers(values):
        return [float(value) for value in values], []
    words = list(dict.fromkeys(map(show_value, values)))
    return [float(words.index(show_value(value))) for value in values], words


def _shares(values: list[Any], name: str) -> np.ndarray:
    """Heights on an axis from 0 to 1, logarithmic where the setting or the numbers ask for it."""
    x = np.asarray(_positions(values)[0])
    if is_wide(x.tolist(), name):
        x = np.log(x)
    span = x.max() - x.min()
    return (x - x.min()) / span if span else np.full(len(x), 0.5)
