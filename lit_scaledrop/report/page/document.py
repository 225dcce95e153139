"""The page as a whole: what `page.html.j2` shows, and the filters that it uses."""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from lit_scaledrop.report.figures.style import DPI
from lit_scaledrop.report.groups import ORDER
from lit_scaledrop.report.page.alt_texts import alt_text
from lit_scaledrop.report.page.contents import Shown, studies
from lit_scaledrop.report.page.drawings import data_url
from lit_scaledrop.report.page.provenance import facts, note
from lit_scaledrop.report.page.sections import heading, names, tables, title_of
from lit_scaledrop.report.page.summary import summary
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.result import Result

_WIDE = 2.4
"""Width over height from which on a picture may not become as narrow as others."""


def write_page(results_dir: Path | str, profiles: Sequence[str], path: Path | str) -> list[str]:
    """Write the page of some profiles; the same results give the same bytes.

    Returns:
        What could not be shown; the page says it as well.

    Raises:
        ValueError: there is no result.
        OSError: the file cannot be written.
    """
    found = {profile: studies(results_dir, profile) for profile in profiles}
    runs = [run for made in found.values() for study in made for run in study.results]
    if not runs:
        raise ValueError(f"no results of {', '.join(profiles) or 'any profile'} in {results_dir}")
    topologies = sorted({run.topology for run in runs}, key=lambda name: (ORDER.get(name, 9), name))
    chosen = {"profile": list(found), "topology": topologies, "method": sorted({run.label for run in runs})}
    style, script = _asset("page.css"), _asset("page.js")
    # nothing but what stands in the page is loaded or run, whatever a result may hold
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    panels: list[Sequence[Result]] = []
    template = _environment(Path(path).parent, panels).from_string(_asset("page.html.j2"))
    page = template.render(
        found=found,
        summary=summary(found),
        filters=chosen,
        panels=panels,
        policy=policy,
        style=style,
        script=script,
        results_dir=results_dir,
        slug=slug,
    )
    write_atomic(path, page + "\n")
    return [problem for made in found.values() for study in made for problem in study.problems]


def slug(*words: str) -> str:
    """An id from words.

    >>> slug("cpu", "table3", "VGG-small, T = 10")
    'cpu-table3-VGG-small-T-10'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", " ".join(words)).strip("-")


def sentence(text: str) -> Markup:
    """A sentence of a report, escaped; what stands in backticks is code.

    >>> str(sentence("run `a<b>`, then c"))
    'run <code>a&lt;b&gt;</code>, then c'
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _environment(folder: Path, panels: list[Sequence[Result]]) -> jinja2.Environment:
    """The filters of the template; links are relative to the page's folder, and buttons add to ``panels``."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    ids: dict[tuple[str, ...], str] = {}
    environment.filters |= {
        "alt_text": alt_text,
        "count": lambda number, noun: f"{number} {noun}{'' if number == 1 else 's'}",
        "data_url": lambda shown: Markup(data_url(shown.image, shown.form)),
        "facts": facts,
        "heading": heading,
        "names": names,
        "note": note,
        "panel": partial(_panel, panels, ids),
        "relative": lambda path: quote(Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()),
        "sentence": sentence,
        "size": _size,
        "tables": tables,
        "title_of": title_of,
    }
    return environment


def _panel(panels: list[Sequence[Result]], ids: dict[tuple[str, ...], str], runs: Sequence[Result]) -> str:
    """Id of the panel of these runs, one for each set of them."""
    key = tuple(str(run.path("")) for run in runs)
    if key not in ids:
        panels.append(runs)
        ids[key] = f"runs-{len(panels)}"
    return ids[key]


def _size(shown: Shown) -> dict[str, str | int]:
    """Attributes of a picture: pixels at which its letters are as large as they were drawn, and whether it is wide.

    They are in its header; none where that says nothing.
    """
    if shown.form == "png":
        sides = [int.from_bytes(shown.image[at : at + 4], "big") * 96 / DPI for at in (16, 20)]
    else:
        box = re.search(rb' viewBox="\S+ \S+ ([\d.]+) ([\d.]+)"', shown.image[:2000])
        sides = [float(side) * 96 / 72 for side in box.groups()] if box else []
    if not sides or min(sides) < 1:
        return {}
    width, height = map(round, sides)
    return {"width": width, "height": height} | ({"class": "wide"} if width / height > _WIDE else {})


def _asset(name: str) -> str:
    return (files("lit_scaledrop.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
