"""Shared by all figures: style, colours, labels at the ends of lines, footer, deterministic files.

matplotlib is imported in the functions, so a table needs none.
"""

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from lit_scaledrop.naming import count
from lit_scaledrop.report.groups import all_seeds, commits_of, data_name, passes_of, widths_of
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; each method has a mark of its own as well
_METHODS = {
    "Proposed": ("#0072B2", "o"),
    "MC-Dropout (HTanh)": ("#D55E00", "s"),
    "Deep Ensemble": ("#009E73", "^"),
    "FP": ("#4D4D4D", "D"),
    "MC-DropConnect": ("#CC79A7", "v"),
    "IR-Net": ("#56B4E9", "P"),
}
_OTHERS = (("#E69F00", "X"), ("#8C6D31", "<"), ("#7A5195", ">"), ("#999999", "h"))
INK, FAINT = "#262626", "#B5B5B5"
TRUE, RIVAL = "#0072B2", "#D55E00"
"""Colours of the right class and of its strongest rival."""
DPI = 150
"""Pixels per inch of a PNG."""
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Formats, and what would differ from file to file."""
FORMS = ("svg", "png")
"""Formats of a figure where none is asked for."""
DASHED: Any = (0, (5, 2))
EXECUTION_MARKS = {"loop": "o", "prefix": "s", "shared": "^"}
"""Marks of how the passes are computed."""
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#7F7F7F",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.7,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "scaledrop",
    "pdf.fonttype": 42,  # TrueType: letters stay letters, which can be searched, and Type 3 is refused by journals
}


def style() -> Any:
    """Context in which figures are drawn."""
    from matplotlib import rc_context

    return rc_context(_STYLE)


def panels(rows: int, columns: int, width: float, height: float, title: str, **options: Any) -> tuple["Figure", Any]:
    """A figure of ``rows`` x ``columns`` axes, each ``width`` x ``height`` inches, and its axes as a 2-D array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from lit_scaledrop.report.figures.shown import ShownFigure

    figure = ShownFigure(figsize=(width * columns, height * rows + 0.5))
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    figure.suptitle(title, x=0.012, ha="left", fontsize=11.5, fontweight="bold", color=INK)
    return figure, axes


class Cell(NamedTuple):
    """A panel of a grid, with what is drawn in it."""

    panel: "Axes"
    run: pd.DataFrame
    """Numbers of its row."""
    column: Any
    ends: list[tuple[float, float, Any, str]]
    """To be added to: x, y, name and colour of the ends of lines, see `label_ends`."""


def grid(
    frame: pd.DataFrame,
    by: Sequence[str],
    columns: Iterable[Any],
    size: tuple[float, float],
    title: str,
    named: str = "{}, {}",
    label_all: bool = False,
) -> tuple["Figure", Iterator[Cell]]:
    """A figure with a row of panels for each group of numbers, and its panels, to be drawn one after the other.

    Args:
        frame: numbers of all rows.
        by: columns of the frame that tell its rows apart.
        columns: what the panels of a row show.
        size: width and height of a panel in inches.
        title: of the figure.
        named: name of a row, with places for the values of `by`.
        label_all: whether lines get their names in every panel, not in the last one of a row.
    """
    groups, columns = list(frame.groupby(list(by), sort=False)), list(columns)
    figure, axes = panels(len(groups), len(columns), *size, title)

    def cells() -> Iterator[Cell]:
        for row, (key, run) in zip(axes, groups, strict=True):
            name_row(row[0], named.format(*key))
            for panel, column in zip(row, columns, strict=True):
                cell = Cell(panel, run, column, [])
                yield cell
                if label_all or panel is row[-1]:
                    label_ends(panel, cell.ends)

    return figure, cells()


def draw_band(panel: "Axes", x: pd.Series, mean: pd.Series, std: pd.Series, colour: str, **options: Any) -> None:
    """A line, shaded by its deviation."""
    panel.plot(x, mean, color=colour, **options)
    panel.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)


def draw_bars(panel: "Axes", x: Any, mean: Any, std: Any, colour: str, mark: str, **options: Any) -> None:
    """A line with bars of its deviation."""
    look: dict[str, Any] = {"marker": mark, "markersize": 4, "capsize": 2, "elinewidth": 1} | options
    panel.errorbar(x, mean, std, color=colour, **look)


def name_row(axes: "Axes", name: str) -> None:
    """Write what a row of panels shows to the left of its first one."""
    axes.set_ylabel(name, fontsize=8.5, fontweight="bold", labelpad=8)


def images(figure: "Figure", footer: str, forms: Sequence[str] = FORMS) -> dict[str, bytes]:
    """The figure in each format, with the footer below it; equal figures give equal bytes."""
    width, height = figure.get_size_inches()
    lines = [line for text in footer.splitlines() for line in textwrap.wrap(text, int(width * 18.5))]
    below = 0.22 + 0.135 * len(lines)
    total = height + below
    figure.set_size_inches(width, total)
    figure.tight_layout(rect=(0, below / total, 1, 1 - 0.05 / total), h_pad=1.6, w_pad=1.6)
    figure.text(0.012, 0.08 / total, "\n".join(lines), fontsize=7, color="#5A5A5A", va="bottom", linespacing=1.3)
    files = {}
    for form in forms:
        stream = io.BytesIO()
        figure.savefig(stream, format=form, dpi=DPI, metadata=_METADATA[form])
        files[form] = stream.getvalue()
    return files


def write_files(stem: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write contents by the ending of their file behind `stem`; the files.

    Raises:
        OSError: one cannot be written.
    """
    files = {stem.with_name(f"{stem.name}.{form}"): content for form, content in contents.items()}
    for path, content in files.items():
        write_atomic(path, content)
    return list(files)


def styles(methods: Iterable[str]) -> dict[Any, tuple[str, str]]:
    """Colour and mark of each method; known ones keep theirs in every figure, and no two have the same."""
    names = list(dict.fromkeys(methods))
    free = [*_OTHERS, *(look for name, look in _METHODS.items() if name not in names)]
    size = len(free)
    rest = ((free[index % size][0], free[(index + index // size) % size][1]) for index in range(len(names)))
    return {name: _METHODS.get(name) or next(rest) for name in names}


def place(method: str) -> int:
    """Where a method stands in legends and grids."""
    return list(_METHODS).index(method) if method in _METHODS else len(_METHODS)


def label_ends(axes: "Axes", ends: Sequence[tuple[float, float, str, str]], size: float = 8) -> None:
    """Write each label beside the end of its line, moved up or down where two would overlap.

    Args:
        axes: with final limits.
        ends: x, y, text and colour.
        size: of the font in points.
    """
    figure: Any = axes.get_figure()
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    height = axes.get_position().height * figure.get_size_inches()[1] * 72
    step = 1.25 * size / height  # of a line of text, in shares of the axes
    shares = {index: (scale.transform(end[1]) - low) / (high - low) for index, end in enumerate(ends)}
    order = sorted(shares, key=lambda index: shares[index])
    places: dict[int, float] = {}
    lowest = -1.0
    for index in order:
        places[index] = max(shares[index], lowest)
        lowest = places[index] + step
    highest = 1.0
    for index in reversed(order):  # back from where the labels left the axes at the top
        places[index] = min(places[index], highest)
        highest = places[index] - step
    for index, (x, _, text, colour) in enumerate(ends):
        y = scale.inverted().transform(low + places[index] * (high - low))
        axes.annotate(
            text, (x, y), xytext=(5, 0), textcoords="offset points", va="center",
            fontsize=size, color=colour, annotation_clip=False,
        )  # fmt: skip


def footer(runs: Sequence[Result], numbers: str, passes: str = "", notes: Sequence[str] = ()) -> str:
    """What the numbers are; profile, data, schedule, passes, seeds, commit; what was left out."""
    seeds = f"seeds {all_seeds(runs)}; " if runs[0].data else ""
    about = (
        f"Profile {runs[0].profile}; {'; '.join(dict.fromkeys(map(_data, runs)))}; T = {passes or passes_of(runs)}; "
        f"{seeds}commit {commits_of(runs)}."
    )
    if widths := widths_of(runs):
        about += f" Width, as a multiple of the paper's channels: {widths}."
    return "\n".join([numbers, about, *notes])


def _data(run: Result) -> str:
    if not run.data:
        return "computed, nothing is trained"
    kind = f"{data_name(run)} (a stand-in)" if run.data["stand_in"] else data_name(run)
    evaluated = run.evaluation.get("images", run.data["test"])
    image = f"{run.evaluation.get('split', 'test')} image"
    epochs, tested = count(run.training["epochs"], "epoch"), count(evaluated, image)
    return f"{kind}, fingerprint {run.data['fingerprint']}; {epochs}; {tested}"
