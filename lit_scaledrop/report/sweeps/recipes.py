"""Trainings that differ in single settings: one row each, named by the settings that differ from most."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import INK, TRUE, panels
from lit_scaledrop.report.sweeps.swept import QUANTITIES, label, show_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AS_IT_IS = "unchanged recipe"
_PLAIN = ("null", '"plain"')
"""Values that are usual where two are equally frequent, as JSON."""
_SHOWN = ("validation", "accuracy", "nll")


def variants(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Names of the rows: settings with a value that is not the most frequent one.

    >>> frame = pd.DataFrame({"model.lr": [0.1, 0.1, 0.2], "model.mask": [None, "element", None]})
    >>> variants(frame, ["model.lr", "model.mask"])
    ['unchanged recipe', 'mask element', 'learning rate 0.2']
    >>> variants(pd.DataFrame({"model.update": ["normalized", "plain"]}), ["model.update"])
    ['update normalized', 'unchanged recipe']
    """
    keys = {name: frame[name].map(lambda value: json.dumps(None if value != value else value)) for name in names}
    usual = {}
    for name, column in keys.items():
        counts = column.value_counts().sort_index()
        usual[name] = max(counts.index, key=lambda key, counts=counts: (counts[key], key in _PLAIN))  # type: ignore[misc]
    said = []
    for place in frame.index:
        other = [name for name in names if keys[name][place] != usual[name]]
        words = [f"{label(name)} {show_value(frame[name][place])}" for name in other]
        said.append(", ".join(words) or AS_IT_IS)
    return said


def draw_recipes(frame: pd.DataFrame, title: str) -> "Figure":
    """A panel a metric, a row a training: mean and sample standard deviation over seeds; dashed: as it is."""
    names = list(frame.columns[: frame.columns.get_loc("validation")])
    rows = frame.assign(variant=variants(frame, names)).sort_values("validation", kind="stable").reset_index(drop=True)
    figure, axes = panels(1, len(_SHOWN), 2.9, 0.9 + 0.3 * len(rows), title, sharey=True)
    for panel, quantity in zip(axes[0], _SHOWN, strict=True):
        for value in rows[quantity][rows.variant == AS_IT_IS]:
            panel.axvline(value, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        panel.errorbar(
            rows[quantity], rows.index, xerr=rows[f"{quantity}_std"].fillna(0), fmt="o", color=TRUE, markersize=5,
            capsize=3, linewidth=1.2,
        )  # fmt: skip
        panel.set_title(QUANTITIES[quantity])
    axes[0, 0].set_yticks(list(rows.index), list(rows["variant"]))
    axes[0, 0].set_ylim(-0.6, len(rows) - 0.4)
    return figure
