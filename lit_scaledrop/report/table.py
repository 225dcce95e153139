"""A table: sections, each a frame of numbers with its columns; as Markdown, LaTeX, CSV and on a terminal.

The paper's numbers are data, one CSV file a table in `lit_scaledrop/report/paper/`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd

from lit_scaledrop.results.text import without_tags

LOST = "lost in our copy"
"""Source of a published number that is missing in our copy of the paper."""
RESULT_IDS = "result_ids"
"""Column of a section's frame, not shown: ids of the results that a row is made of, as `ids_of` writes them."""
Row = dict[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column as it is shown."""

    header: str
    cell: Callable[[Row], str]
    """Row of the frame -> text, empty where there is nothing."""
    left: bool = False
    """Whether it is text and stands on the left."""
    source: str | None = None
    """Column of the frame that says where a published number comes from, for a footnote."""
    name: str = ""
    """By which a section knows it."""


@dataclass(frozen=True)
class Section:
    """Rows that may stand in one table: one profile, one data set, one number of epochs."""

    heading: str
    frame: pd.DataFrame
    """Numbers, one row a line of the table."""
    columns: dict[str, Column]
    """By name, in the order of display."""
    caption: list[str]
    """Sentences that say what the numbers are and how to make them again."""


@dataclass(frozen=True)
class Report:
    """A finished table."""

    title: str
    sections: list[Section]
    notes: list[str]
    """What a reader has to know about single rows."""
    data: pd.DataFrame
    """All the numbers, as they go into the CSV file."""


def text(name: str, header: str | None = None) -> Column:
    """A column of text on the left.

    >>> text("method").cell({"method": "FP"})
    'FP'
    """
    return Column(header or name, lambda row: "" if pd.isna(row[name]) else str(row[name]), left=True, name=name)


def number(
    name: str, header: str, form: str | Callable[[Any], str], source: str | None = None, none: str = ""
) -> Column:
    """A column of numbers in one format, or as a function shows them; `none` stands where there is none.

    >>> number("nll", "NLL", ".3f").cell({"nll": 0.5}), number("nll", "NLL", ".3f").cell({"nll": float("nan")})
    ('0.500', '')
    """
    show = form if callable(form) else lambda value: format(value, form)
    return Column(header, lambda row: none if pd.isna(row[name]) else show(row[name]), source=source, name=name)


BITS = Column("W/A", lambda row: f"{row['bits_w']}/{row['bits_a']}", name="bits")
"""Bits of a weight and an activation."""
RUNS = number("n", "n", ".0f")
"""How many runs a line is of."""


def named(*columns: Column) -> dict[str, Column]:
    """Columns by their names."""
    return {column.name: column for column in columns}


def spread(mean: float, std: float, digits: int = 2) -> str:
    """Mean and sample standard deviation, which one seed has not.

    >>> spread(86.333, 1.528), spread(86.0, float("nan")), spread(float("nan"), float("nan"))
    ('86.33 ± 1.53', '86.00', '')
    """
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(std) else f" ± {std:.{digits}f}")


def mean_column(name: str, header: str, digits: int = 2) -> Column:
    """A column `name` with its deviations in the column `name`_std."""
    return Column(header, lambda row: spread(row[name], row[f"{name}_std"], digits), name=name)


_WIDTH = 115  # columns of a terminal that take a table without breaking a number


def markdown(report: Report) -> str:
    """The report as GitHub Markdown; footnotes say where each published number comes from."""
    sources: dict[str, int] = {}
    lines = [f"# {report.title}", ""]
    for section in report.sections:
        cells = section_cells(section, sources).map(without_tags)
        align = ["left" if column.left else "right" for column in section.columns.values()]
        lines += [f"## {section.heading}", ""]
        lines += [cells.to_markdown(index=False, disable_numparse=True, colalign=align), ""]
        lines += [line for caption in section.caption for line in (caption, "")]
    lines += [line for note in report.notes for line in (f"- {without_tags(note)}", "")]
    lines += [f"[^{number}]: {source}" for source, number in sources.items()]
    return "\n".join(lines).rstrip() + "\n"


def latex(report: Report) -> str:
    """The report as LaTeX, a floating table a section; it needs the package booktabs."""
    sources: dict[str, int] = {}
    lines = [f"% {report.title}"]
    for section in report.sections:
        cells = section_cells(section, sources).map(without_tags)
        align = "".join("l" if column.left else "r" for column in section.columns.values())
        rows = [" & ".join(map(_tex, row)) + r" \\" for row in ([*cells.columns], *cells.values.tolist())]
        caption = _tex(" ".join([f"{section.heading}.", *section.caption]))
        lines += [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{align}}}", r"\toprule", rows[0], r"\midrule"]
        lines += [*rows[1:], r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}", ""]
    marks = [f"[^{number}] {source}" for source, number in sources.items()]
    return (
        "\n\n".join(["\n".join(lines), *(_tex(note) for note in (*map(without_tags, report.notes), *marks))]).rstrip()
        + "\n"
    )


_TEX = {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$", "<": r"$<$",
    ">": r"$>$", "|": r"$|$", "`": r"\textasciigrave{}",
    "[": "{[}", "*": "{*}", **{character: "\\" + character for character in "{}$&#_%"},
}  # fmt: skip


def _tex(text: str) -> str:
    r"""Text for LaTeX, with the marks of footnotes raised.

    >>> print(_tex("91.5 [^1]"), _tex("50 % & x_1"))
    91.5$^{1}$ 50 \% \& x\_1
    """
    parts = re.split(r" ?\[\^(\d+)\]", text)
    told = ["".join(_TEX.get(character, character) for character in part) for part in parts[::2]]
    marks = [f"$^{{{number}}}$" for number in parts[1::2]]
    return "".join(map("".join, zip(told, [*marks, ""], strict=True)))


def csv(report: Report) -> str:
    """The numbers of the report as CSV."""
    return report.data.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def section_cells(section: Section, sources: dict[str, int] | None = None) -> pd.DataFrame:
    """The section as text, headers included; with `sources`, published numbers carry footnote marks."""
    rows = []
    for row in section.frame.to_dict("records"):
        cells = []
        for column in section.columns.values():
            cell = column.cell(row)
            if cell and column.source and sources is not None and not pd.isna(row[column.source]):
                cell += f" [^{sources.setdefault(row[column.source], len(sources) + 1)}]"
            cells.append(cell)
        rows.append(cells)
    return pd.DataFrame(rows, columns=[column.header for column in section.columns.values()])


def show(report: Report) -> None:
    """Print the report for people."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(report.title)
    for section in report.sections:
        cells = section_cells(section)
        console.print(f"\n{section.heading}")
        if console.is_terminal and console.width >= _WIDTH:
            table = RichTable(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
            for column in section.columns.values():
                table.add_column(column.header, overflow="fold", no_wrap=column.left)
            for row in cells.itertuples(index=False):
                table.add_row(*row)
            console.print(table, soft_wrap=False)
        else:  # rich would fold numbers to fit a narrow terminal, or the 80 columns it assumes of a pipe
            console.print(cells.to_string(index=False))
        for caption in section.caption:
            console.print(caption)
    for note in report.notes:
        console.print(f"- {note}")


def published(name: str) -> pd.DataFrame:
    """The published numbers in `paper/<name>`; a cell lost in our copy of the paper is NaN.

    >>> published("table3.csv").query("method == 'IR-Net'").accuracy_percent.tolist()
    [91.5, 86.5, 90.4]
    """
    with (files("lit_scaledrop.report") / "paper" / name).open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    return frame.assign(bayesian=frame.bayesian == "yes") if "bayesian" in frame else frame
