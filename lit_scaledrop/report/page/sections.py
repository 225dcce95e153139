"""Tables of a study on the page: names of rows, their runs, and sources of numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from lit_scaledrop.report.page.contents import Study
from lit_scaledrop.report.table import RESULT_IDS, Column, Row, Section
from lit_scaledrop.results.result import Result

TITLES = {
    "curves": "error against epochs",
    "figure5": "one test image under growing noise",
    "figure6": "rotated test images",
    "figure7": "number of passes T",
    "posterior": "class outputs over the passes",
    "threshold": "quantile and threshold of the OOD rule",
    "reliability": "accuracy by confidence",
    "hardware": "networks on non-ideal crossbars",
    "temperature": "chips at different temperatures",
    "ageing": "aged chips",
}
"""What a figure with results of its own is about, for its heading."""
_LONG = 24
"""Letters from which on a column's header gets room for more than one word a line."""
_NAMES = 3
"""Columns that may stand in the header of a row."""
_KINDS = ("bits", "bayesian")
"""Columns that say of what kind a row is: behind its first number, which a phone shows beside its name."""


class Line(NamedTuple):
    """A row of a table."""

    names: list[str]
    """What names it, for its header."""
    runs: list[Result]
    cells: list[tuple[str, str | None, int | None]]
    """Text, class and number of the source of each other column."""
    about: dict[str, str | None]
    """Attributes that the filters of the page read."""


@dataclass(frozen=True)
class Table:
    """A section as it is shown."""

    article: str
    """Id of the article that it stands in."""
    heading: str
    names: str
    """Header of the column that names the rows."""
    by_row: bool
    """Whether each row says which runs it is of; else ``runs`` are those of the whole table."""
    runs: list[Result]
    headers: list[tuple[str, str | None]]
    """Text and class of each other column, the first number before the rest."""
    rows: list[Line]
    empty: list[Line]
    """Rows that nothing was measured for, beside others: folded into one line."""
    computed: bool
    """Whether no row is of a run: all is folded."""
    caption: list[str]


def tables(study: Study, article: str, sources: dict[str, int]) -> list[Table]:
    """Tables of a study; ``sources`` takes up the sources of the paper's numbers, each with its number."""
    by_id = {run.id: run for run in study.results}
    return [_table(section, article, by_id, sources) for section in study.report.sections] if study.report else []


def heading(study: Study) -> str:
    """What a study is called in headings."""
    if study.report:
        return study.report.title
    return f"{title_of(study.name)}: {TITLES[study.name]}" if study.name in TITLES else title_of(study.name)


def title_of(name: str) -> str:
    """Name of a figure or study for people.

    >>> title_of("figure6"), title_of("ablation-sigma"), title_of("table4")
    ('Figure 6', 'Ablation sigma', 'Table 4')
    """
    for word in ("figure", "table"):
        if name.startswith(word):
            return f"{word.capitalize()} {name.removeprefix(word).replace('-', ' ', 1)}"
    return name.replace("-", " ").replace("_", " ").capitalize()


def names(runs: Sequence[Result]) -> dict[str, str]:
    """Topologies and methods of runs, each once, as attributes for the filters."""
    topologies, methods = dict.fromkeys(run.topology for run in runs), dict.fromkeys(run.label for run in runs)
    return {"data-topology": "|".join(topologies), "data-method": "|".join(methods)}


def _table(section: Section, article: str, by_id: dict[str, Result], sources: dict[str, int]) -> Table:
    columns = section.columns
    leading = _leading(section)
    others = [column for name, column in columns.items() if name not in leading]
    first = next((column for column in others if not column.left and column.name not in _KINDS), None)
    others.sort(key=lambda column: column is not first)
    by_row = RESULT_IDS in section.frame
    rows = []
    for row in section.frame.to_dict("records"):
        runs = [by_id[run] for run in str(row[RESULT_IDS]).split() if run in by_id] if by_row else []
        about = {
            f"data-{name}": text if (text := _text(row, name)) else of_runs or None
            for name, of_runs in zip(("topology", "method"), names(runs).values(), strict=True)
        }
        about["data-measured"] = ("yes" if runs else "no") if by_row else None
        cells = list(_cells(others, row, sources))
        rows.append(Line([columns[name].cell(row) for name in leading], runs, cells, about))
    measured = [row for row in rows if row.runs or not by_row]
    return Table(
        article=article,
        heading=section.heading,
        names=", ".join(columns[name].header for name in leading),
        by_row=by_row,
        runs=[] if by_row else list(by_id.values()),
        headers=[_header(column) for column in others],
        rows=measured or rows,
        empty=[row for row in rows if measured and row not in measured],
        computed=not measured,
        caption=section.caption,
    )


def _leading(section: Section) -> list[str]:
    """Columns that name a row: the first, the one after a topology, and further ones of text until no two are alike."""
    columns, records = section.columns, section.frame.to_dict("records")
    leading: list[str] = []
    for name in list(columns)[:_NAMES]:
        alike = len({tuple(columns[one].cell(row) for one in leading) for row in records}) < len(records)
        if leading and not (columns[name].left and (alike or leading == ["topology"])):
            break
        leading.append(name)
    return leading


def _header(column: Column) -> tuple[str, str | None]:
    classes = ["left"] * column.left + ["long"] * (len(column.header) >= _LONG)
    return column.header.replace(", %)", ",\N{NO-BREAK SPACE}%)"), " ".join(classes) or None


def _cells(
    columns: Sequence[Column], row: Row, sources: dict[str, int]
) -> Iterator[tuple[str, str | None, int | None]]:
    for column in columns:
        text, source = column.cell(row), None
        if text and column.source and not pd.isna(row[column.source]):
            source = sources.setdefault(str(row[column.source]), len(sources) + 1)
        yield text, "left" if column.left else "ours" if "(ours" in column.header else None, source


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None or pd.isna(value) else str(value)
