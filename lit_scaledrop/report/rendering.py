"""A report as Markdown, as CSV and on a terminal."""

import pandas as pd

from lit_scaledrop.report.layout import Report, Section

_WIDTH = 115  # columns of a terminal that take a table without breaking a number


def markdown(report: Report) -> str:
    """The report as GitHub Markdown; footnotes say where each published number comes from."""
    sources: dict[str, int] = {}
    lines = [f"# {report.title}", ""]
    for section in report.sections:
        cells = section_cells(section, sources)
        align = ["left" if column.left else "right" for column in section.columns.values()]
        lines += [f"## {section.heading}", ""]
        lines += [cells.to_markdown(index=False, disable_numparse=True, colalign=align), ""]
        lines += [line for caption in section.caption for line in (caption, "")]
    lines += [line for note in report.notes for line in (f"- {note}", "")]
    lines += [f"[^{number}]: {source}" for source, number in sources.items()]
    return "\n".join(lines).rstrip() + "\n"


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

    console = Console(highlight=False, markup=False, soft_wrap=True)
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
