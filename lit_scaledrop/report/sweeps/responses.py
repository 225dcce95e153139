"""Response curves of a sweep: a panel for each metric, the swept setting along the axis, bars over seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from lit_scaledrop.report.figures.style import INK, draw_bars, label_ends, panels
from lit_scaledrop.report.sweeps.swept import CLASSES, LOGARITHMIC, MASK_QUANTITIES, QUANTITIES, label, show_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "v"), ("#E69F00", "D"), ("#56B4E9", "P"))
"""Of the lines, in order."""
_WIDE = 100
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""


@dataclass(frozen=True)
class Line:
    """One line of a response curve."""

    name: str
    """Empty where there is only one."""
    x: list[Any]
    """Values of the setting along the axis."""
    rows: pd.DataFrame
    """Rows of the sweep, one a value."""


def lines(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[Line]:
    """A sweep of one or two settings as lines.

    Of two settings, the one with more values lies along the axis. A setting whose values are lists (p of small, middle
    and large layers) has a line for single numbers, and one for each place in the list that was varied alone.
    """
    if len(names) == 1 and frame[names[0]].map(lambda value: isinstance(value, list)).any():
        yield from _of_lists(frame, names[0])
    elif len(names) == 1:
        yield Line("", list(frame[names[0]]), frame)
    else:
        along, other = along_and_other(frame, names)
        words = frame[other].map(show_value)  # a value may be a list or nothing, which compare badly
        for word in words.drop_duplicates():
            chosen = frame[words == word]
            yield Line(word, list(chosen[along]), chosen)


def along_and_other(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, str]:
    """Which of two settings lies along the axis, and which one the lines are of."""
    first, second = sorted(names, key=lambda name: -frame[name].map(show_value).nunique())
    return first, second


def _of_lists(frame: pd.DataFrame, name: str) -> Iterator[Line]:
    is_list = frame[name].map(lambda value: isinstance(value, list))
    single, listed = frame[~is_list], frame[is_list]
    if len(single):
        yield Line("one for all", list(single[name]), single)
    places = range(len(listed[name].iloc[0]))
    # what most lists have at a place is what the others are varied from
    usual = [pd.Series([value[place] for value in listed[name]]).mode().iloc[0] for place in places]
    for place in places:
        alone = listed[name].map(
            lambda value, p=place: all(value[other] == usual[other] for other in places if other != p)
        )
        varied = listed[alone].assign(_x=[value[place] for value in listed[name][alone]]).sort_values("_x")
        if len(varied) > 1:
            words = CLASSES.get(name, [f"place {number + 1}" for number in places])
            yield Line(words[place], list(varied._x), varied.drop(columns="_x"))


def draw_responses(frame: pd.DataFrame, names: Sequence[str], title: str) -> "Figure":
    """A panel for each metric; ring: the best row by the validation split."""
    drawn = list(lines(frame, names))
    titles = MASK_QUANTITIES if "iou" in frame else QUANTITIES
    shown = {name: about for name, about in titles.items() if frame[name].notna().any()}
    figure, axes = panels(1, len(shown), 2.9, 3.1, title)
    along = names[0] if len(names) == 1 else along_and_other(frame, names)[0]
    values = [value for line in drawn for value in line.x]
    numeric = are_numbers(values)
    words = list(dict.fromkeys(map(show_value, values)))
    for panel, (quantity, heading) in zip(axes[0], shown.items(), strict=True):
        ends = []
        for number, line in enumerate(drawn):
            colour, mark = COLOURS[number % len(COLOURS)]
            shift = 0.16 * (number - (len(drawn) - 1) / 2)
            x = line.x if numeric else [words.index(show_value(value)) + shift for value in line.x]
            _draw_line(panel, x, line.rows, quantity, colour, mark, connected=numeric)
            if line.name:
                ends.append((float(x[-1]), float(line.rows[quantity].iloc[-1]), line.name, colour))
        panel.set_title(heading)
        panel.set_xlabel(label(along)[:1].upper() + label(along)[1:])
        _scale(panel, values if numeric else words, numeric, along)
        if panel is axes[0][-1] and ends:
            label_ends(panel, [(panel.get_xlim()[1], y, name, colour) for _, y, name, colour in ends])
    return figure


def _draw_line(
    panel: "Axes", x: list[float], rows: pd.DataFrame, quantity: str, colour: str, mark: str, connected: bool
) -> None:
    y, spread = rows[quantity].to_numpy(), rows[f"{quantity}_std"].fillna(0).to_numpy()
    draw_bars(panel, x, y, spread, colour, mark, markersize=4.5, capsize=2.5, linestyle="-" if connected else "none")
    for place, best in enumerate(rows.best):
        if best:
            panel.plot(x[place], y[place], marker="o", markersize=11, fillstyle="none", color=INK, markeredgewidth=1.3)


def _scale(panel: "Axes", values: list[Any], numeric: bool, name: str) -> None:
    if not numeric:
        panel.set_xticks(range(len(values)), values)
        panel.set_xlim(-0.5, len(values) - 0.5)
        panel.grid(axis="x", visible=False)
    elif is_wide([float(value) for value in values], name):
        log_axis(panel)
    else:
        panel.set_xlim(left=min(0, *values))


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether values have places on an axis; the others stand there in order.

    >>> are_numbers([1, 0.5]), are_numbers([True, False]), are_numbers([0.1, float("nan")])
    (True, False, False)
    """
    return all(isinstance(value, int | float) and value == value and not isinstance(value, bool) for value in values)


def log_axis(panel: "Axes") -> None:
    """Make the x axis logarithmic, with more ticks than powers of ten where it spans few of them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    panel.set_xscale("log")
    low, high = panel.get_xlim()
    if high / low < _WIDE:
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1, 3)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def is_wide(values: Sequence[float], name: str = "") -> bool:
    """Whether numbers belong on a logarithmic axis: they are far apart, or the setting `name` is of that kind.

    >>> is_wide([1e-5, 1e-2]), is_wide([0.1, 0.5]), is_wide([0.0, 1e3])
    (True, False, False)
    """
    return min(values) > 0 and (name in LOGARITHMIC or max(values) / min(values) >= _WIDE)
