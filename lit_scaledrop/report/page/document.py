"""The page as a whole: head, filters, contents, a part for each profile, and the panels of the runs."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from lit_scaledrop.report.groups import ORDER, TOPOLOGIES
from lit_scaledrop.report.page.contents import Study, studies
from lit_scaledrop.report.page.markup import escape, slug, tag
from lit_scaledrop.report.page.provenance import Panels
from lit_scaledrop.report.page.sections import article, title
from lit_scaledrop.results.result import write_atomic

_PAPER = "https://arxiv.org/abs/2311.15816"
_Profiles = dict[str, list[Study]]


def write_page(results_dir: Path | str, profiles: Sequence[str], path: Path | str) -> list[str]:
    """Write the page of some profiles; the same results give the same bytes.

    Args:
        results_dir: folder of results.
        profiles: their names, in the order of the page.
        path: file to write.

    Returns:
        What could not be shown; the page says it as well.

    Raises:
        ValueError: there is no result.
        OSError: the file cannot be written.
    """
    found = {profile: studies(results_dir, profile) for profile in profiles}
    if not any(study.results for made in found.values() for study in made):
        raise ValueError(f"no results of {', '.join(profiles) or 'any profile'} in {results_dir}")
    panels = Panels(results_dir, path)
    write_atomic(path, _document(found, panels))
    return [problem for made in found.values() for study in made for problem in study.problems]


def _document(found: _Profiles, panels: Panels) -> str:
    parts = "\n".join(_profile(profile, made, panels) for profile, made in found.items())
    style, script = _asset("page.css"), _asset("page.js")
    # nothing but what stands in the page is loaded or run, whatever a result may hold
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(f"Scale-Dropout: results of {_listed(found)}")}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#results">To the results</a>
<div class="page">
<header class="top">
<div><h1>Scale-Dropout: results</h1>
<p>Every table and figure that has results, beside the numbers of <a href="{_PAPER}">the paper</a>.
The button in a row says how its numbers were made. Grey rows are the paper's, not measured here.</p></div>
<button type="button" id="theme" hidden>Dark colours</button>
</header>
<aside>
{_filters(found)}
{_contents(found)}
</aside>
<main id="results">
{parts}
</main>
</div>
{panels.html()}
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (files("lit_scaledrop.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _listed(found: _Profiles) -> str:
    return "profile " + ", ".join(found) if len(found) == 1 else "profiles " + ", ".join(found)


def _profile(profile: str, made: list[Study], panels: Panels) -> str:
    number = sum(len(study.results) for study in made)
    heading = tag("h2", f"Profile {escape(profile)}", id=slug("profile", profile))
    about = tag("p", f"{number} result{'s' * (number != 1)}; no number of another profile stands here.", class_="notes")
    articles = "\n".join(article(study, slug(profile, study.name), panels) for study in made)
    return f'<section class="profile" data-profile="{escape(profile)}">\n{heading}\n{about}\n{articles}\n</section>'


def _filters(found: _Profiles) -> str:
    runs = [run for made in found.values() for study in made for run in study.results]
    topologies = sorted({TOPOLOGIES.get(run.network, run.network) for run in runs}, key=lambda t: (ORDER.get(t, 9), t))
    methods = sorted({run.label for run in runs})
    chosen = {"profile": list(found), "topology": topologies, "method": methods}
    selects = "\n".join(
        f'<label>{name.capitalize()} <select name="{name}">'
        f"{tag('option', 'all', value='')}{''.join(tag('option', escape(v), value=v) for v in values)}</select></label>"
        for name, values in chosen.items()
    )
    return f"""<form id="filters" class="filters" aria-label="Filters" hidden>
{selects}
<label class="check"><input type="checkbox" name="measured"> measured rows only</label>
<button type="reset">Show all</button>
<output aria-live="polite"></output>
</form>"""


def _contents(found: _Profiles) -> str:
    parts = []
    for profile, made in found.items():
        items = "".join(
            tag("li", tag("a", escape(title(study)), href=f"#{id}"), data_for=id)
            for study, id in ((study, slug(profile, study.name)) for study in made)
        )
        link = tag("a", f"Profile {escape(profile)}", href=f"#{slug('profile', profile)}")
        parts.append(tag("li", link + tag("ol", items)))
    listed = tag("ol", "".join(parts))
    return f'<nav aria-label="Contents"><details open><summary>Contents</summary>{listed}</details></nav>'
