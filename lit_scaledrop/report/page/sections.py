"""Tables and pictures of a study as HTML."""

import base64
from collections.abc import Sequence

import pandas as pd

from lit_scaledrop.report.groups import TOPOLOGIES
from lit_scaledrop.report.page.alt_texts import TITLES, alt_text
from lit_scaledrop.report.page.contents import Shown, Study
from lit_scaledrop.report.page.markup import escape, sentence, slug, tag
from lit_scaledrop.report.page.provenance import Panels
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Row, Section
from lit_scaledrop.results.result import Result

_LONG = 24
"""Letters from which on a column's header gets room for more than one word a line."""
_NAMES = 3
"""Columns that may stand in the header of a row."""
_WIDE = 2.4
"""Width over height from which on a picture may not become as narrow as others."""


def article(study: Study, id: str, panels: Panels) -> str:
    """A study: its title, what could not be shown, its tables with notes, its pictures."""
    parts = [tag("h3", escape(title(study)), id=f"{id}-title")]
    if study.problems:
        items = "".join(tag("li", sentence(problem)) for problem in study.problems)
        parts.append(f'<div class="problems" role="note"><p>Not shown</p><ul>{items}</ul></div>')
    if study.report:
        parts += _tables(study.report, study.results, id, panels)
    alone = study.report is None and len(study.pictures) == 1
    parts += [
        _picture(shown, id if alone else slug(id, shown.name), panels, study.report, alone) for shown in study.pictures
    ]
    return tag("article", "\n".join(parts), id=id)


def title(study: Study) -> str:
    """What a study is called in headings."""
    if study.report:
        return study.report.title
    return f"{readable(study.name)}: {TITLES[study.name]}" if study.name in TITLES else readable(study.name)


def readable(name: str) -> str:
    """Name of a figure or study for people.

    >>> readable("figure6"), readable("ablation-sigma"), readable("table4")
    ('Figure 6', 'Ablation sigma', 'Table 4')
    """
    for word in ("figure", "table"):
        if name.startswith(word):
            return f"{word.capitalize()} {name.removeprefix(word).replace('-', ' ', 1)}"
    return name.replace("-", " ").replace("_", " ").capitalize()


def _tables(report: Report, results: Sequence[Result], id: str, panels: Panels) -> list[str]:
    sources: dict[str, int] = {}
    by_id = {run.id: run for run in results}
    parts = [
        _table(section, f"{id}-{number}", by_id, sources, panels) for number, section in enumerate(report.sections, 1)
    ]
    notes = ""
    if report.notes:
        notes += tag("ul", "".join(tag("li", sentence(note)) for note in report.notes))
    if sources:
        listed = "".join(tag("li", escape(source), id=f"{_page_of(id)}-source-{n}") for source, n in sources.items())
        notes += tag("p", "Sources of the paper's numbers:") + tag("ol", listed)
    return [*parts, *([tag("div", notes, class_="notes")] if notes else [])]


def _page_of(id: str) -> str:
    """Id of an article from that of one of its tables.

    >>> _page_of("cpu-table3"), _page_of("cpu-table3-2")
    ('cpu-table3', 'cpu-table3')
    """
    head, _, last = id.rpartition("-")
    return head if last.isdigit() else id


def _table(section: Section, id: str, by_id: dict[str, Result], sources: dict[str, int], panels: Panels) -> str:
    leading = _leading(section)
    others = [name for name in section.columns if name not in leading]
    by_row = RESULT_IDS in section.frame
    headers = [tag("th", escape(", ".join(section.columns[name].header for name in leading)), scope="col")]
    headers += [tag("th", "runs", scope="col", class_="left made")] if by_row else []
    headers += [_header(section.columns[name]) for name in others]
    rows = []
    for row in section.frame.to_dict("records"):
        runs = [by_id[run] for run in str(row[RESULT_IDS]).split() if run in by_id] if by_row else []
        cells = [_row_header(section.columns, leading, row)]
        of = ", ".join(section.columns[name].cell(row) for name in leading)
        cells += [tag("td", panels.button(runs, of) if runs else "", class_="left made")] if by_row else []
        cells += [_cell(section.columns[name], row, _page_of(id), sources) for name in others]
        about = {"data_topology": _of(row, "topology", runs), "data_method": _of(row, "method", runs)}
        measured = None if not by_row else "yes" if runs else "no"
        rows.append(tag("tr", "".join(cells), **about, data_measured=measured))
    whole = "" if by_row else f" {panels.button(list(by_id.values()), section.heading)}"
    caption = tag("caption", tag("h4", escape(section.heading) + whole, id=f"{id}-title"))
    table = tag("table", caption + tag("thead", tag("tr", "".join(headers))) + tag("tbody", "\n".join(rows)))
    below = "".join(tag("p", sentence(line)) for line in section.caption)
    return tag(
        "div",
        tag("div", table, class_="scroll", role="region", tabindex=0, aria_labelledby=f"{id}-title")
        + (tag("div", below, class_="notes") if below else ""),
        class_="section",
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


def _header(column: Column) -> str:
    words = ["left"] if column.left else []
    words += ["long"] if len(column.header) >= _LONG else []
    header = column.header.replace(", %)", ",\N{NO-BREAK SPACE}%)")
    return tag("th", escape(header), scope="col", class_=" ".join(words) or None)


def _row_header(columns: dict[str, Column], leading: list[str], row: Row) -> str:
    above = "".join(tag("span", escape(columns[name].cell(row))) + " " for name in leading[:-1])
    return tag("th", above + tag("b", escape(columns[leading[-1]].cell(row))), scope="row")


def _cell(column: Column, row: Row, article: str, sources: dict[str, int]) -> str:
    shown = column.cell(row)
    content = escape(shown)
    if shown and column.source and not pd.isna(row[column.source]):
        n = sources.setdefault(str(row[column.source]), len(sources) + 1)
        mark = tag("a", str(n), href=f"#{article}-source-{n}", aria_label=f"source {n}")
        content += tag("sup", mark)
    words = ["left"] if column.left else ["ours"] if "(ours" in column.header else []
    return tag("td", content, class_=" ".join(words) or None)


def _of(row: Row, name: str, runs: Sequence[Result]) -> str | None:
    """Topology or method of a row, for the filters: what it says, else that of its runs."""
    value = row.get(name)
    if value is not None and not pd.isna(value):
        return str(value)
    return "|".join(_names(runs)[name]) or None


def _names(runs: Sequence[Result]) -> dict[str, list[str]]:
    """Topologies and methods of runs, each once."""
    return {
        "topology": list(dict.fromkeys(TOPOLOGIES.get(run.network, run.network) for run in runs)),
        "method": list(dict.fromkeys(run.label for run in runs)),
    }


def _picture(shown: Shown, id: str, panels: Panels, report: Report | None, alone: bool) -> str:
    """A picture, under a heading of its own unless it stands alone in its article."""
    kind = {"svg": "image/svg+xml", "png": "image/png"}[shown.form]
    data = base64.b64encode(shown.image).decode()
    image = (
        f'<img src="data:{kind};base64,{data}" alt="{escape(alt_text(shown, report))}"'
        + (' class="wide"' if _ratio(shown) > _WIDE else "")
        + ">"
    )
    box = tag("div", image, class_="scroll picture", role="region", tabindex=0, aria_labelledby=f"{id}-title")
    caption = tag("p", sentence(shown.picture.figure.caption)) if shown.picture else ""
    links = [panels.link(path, path.suffix[1:].upper()) for path in shown.files]
    files = f"As {', '.join(links)}. " if links else ""
    caption += tag("p", files + "Made from " + panels.button(shown.runs, readable(shown.name)))
    heading = "" if alone else tag("h4", escape(readable(shown.name)), id=f"{id}-title")
    return tag(
        "figure",
        heading + box + tag("figcaption", caption),
        data_topology="|".join(_names(shown.runs)["topology"]),
        data_method="|".join(_names(shown.runs)["method"]),
    )


def _ratio(shown: Shown) -> float:
    """Width over height of a picture, from its header."""
    if shown.form == "png":
        return int.from_bytes(shown.image[16:20], "big") / int.from_bytes(shown.image[20:24], "big")
    head = shown.image[:2000].decode("utf-8", "replace")
    if " viewBox=" not in head:
        return 1.0
    _, _, width, height = map(float, head.split(' viewBox="')[1].split('"')[0].split())
    return width / height
