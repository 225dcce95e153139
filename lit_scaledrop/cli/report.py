"""`scaledrop report NAME`: makes a table, a figure or the plots of a sweep from the results folder.

Prints a table and writes `<results>/<profile>/<name>.md` and `.csv`; of a figure it writes `.svg`, `.png` and `.csv`. A
sweep has a table and pictures, `<name>-<what>.svg` and `.png`; any folder of trainings is one, whatever was swept.
`--figure-format pdf` writes figures as PDF instead, for a paper.
`curves` shows error against epochs of a profile's trainings, with `--runs` of those that are not finished as well.
With `--html` in place of a name, all tables, figures and sweeps that have results go on one HTML page.
Atomically and deterministically: the same results give the same bytes.
"""

import errno
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from lit_scaledrop.cli.command import APPEND, UsageError, call
from lit_scaledrop.cli.words import last_value, without
from lit_scaledrop.extras import extra
from lit_scaledrop.naming import nearest
from lit_scaledrop.report.figures import FIGURES, pictures
from lit_scaledrop.report.figures.learning import keep_curves, learning_picture, write_curves
from lit_scaledrop.report.figures.style import FORMS
from lit_scaledrop.report.page import write_page
from lit_scaledrop.report.page.contents import profiles_in
from lit_scaledrop.report.page.summary import best_first
from lit_scaledrop.report.sound import from_sound
from lit_scaledrop.report.sweeps import SWEEPS, sweep_pictures, sweep_report
from lit_scaledrop.report.table import Report, csv, latex, markdown, show
from lit_scaledrop.report.tables import TABLES, build
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.failures import load_failures, notes
from lit_scaledrop.results.reading import read_text
from lit_scaledrop.results.result import Result, ResultError
from lit_scaledrop.results.store import load_results
from lit_scaledrop.results.text import plain
from lit_scaledrop.results.trials import trials_in
from lit_scaledrop.results.yaml_text import load_yaml


def main(argv: list[str]) -> int:
    """Run ``scaledrop report`` with ``argv`` behind it."""
    names = [*TABLES, *FIGURES, *SWEEPS, "curves"]
    try:
        return call(report, _of_own(argv, {*names}), "scaledrop report", known={"name": names})
    except (ValueError, OSError, ResultError) as error:
        return _warn(str(error))


def _of_own(argv: list[str], known: set[str]) -> list[str]:
    """The words with the study of own pictures in place of ``--images DATA.yaml``, or that which is named beside it.

    Raises:
        ValueError: for a folder, or where no such file is.
    """
    if (file := last_value(argv, "--images")) is None:
        return argv
    if not file.endswith((".yaml", ".yml")):
        raise ValueError(f"--images takes the file that `fit --images {file}` wrote, DATA.yaml, not the folder")
    profile = [] if last_value(argv, "--profile") else ["--profile", "own"]
    if not Path(file).is_file():
        raise ValueError(f"--images {file}: there is no such file; `fit --images DIR` writes DATA.yaml")
    own = load_yaml(read_text(file))
    if not isinstance(own, dict) or not isinstance(own.get("name"), str):
        raise ValueError(f"{file} was not written by `fit --images`")
    rest = without(argv, "--images")
    return [*([] if known.intersection(rest) else [own["name"]]), *profile, *rest]


def report(
    name: str | None = None,
    *,
    results: str = "results",
    profile: Annotated[list[str] | None, APPEND] = None,
    runs: str | None = None,
    keep: bool = False,
    format: Literal["terminal", "markdown", "latex", "csv"] = "terminal",
    figure_format: Literal["svg", "png", "pdf"] | None = None,
    html: bool = False,
    out: str | None = None,
) -> int:
    """Print a table or draw a figure, and write it to the results folder.

    Args:
        name: a table, a figure or a sweep; --images DATA.yaml for runs on your own images, with the name of a figure
            for that figure of them.
        results: folder of the results.
        profile: quick, cpu, gpu or paper (default: quick); with --html it may be repeated (default: all that have
            results).
        runs: for `curves`: folder of runs, to add unfinished ones.
        keep: for `curves`: write logged curves into results that lack one.
        format: format of a table.
        figure_format: format of figures and plots (default: svg and png).
        html: write all tables and figures to one HTML page; takes no name.
        out: file of the page (default: index.html in the results folder).

    Returns:
        0 after writing it, 1 where there is nothing to show, 2 for a name we do not know.
    """
    if not html and (name is None or out is not None or len(profile or ()) > 1):
        raise UsageError("give the name of a table, figure or sweep and one profile, or --html for a page with all")
    if (runs or keep) and (html or name != "curves"):
        raise UsageError("--runs and --keep are for `report curves`")
    if keep and not runs:
        raise UsageError("--keep needs --runs DIR, where the logs are")
    if html and figure_format:
        raise UsageError("--figure-format is for the files of one table, figure or sweep; the page shows its own")
    if html:
        return _page(results, profile, out)
    chosen = profile[0] if profile else "quick"
    forms = (figure_format,) if figure_format else FORMS
    if name == "curves":
        return _curves(results, chosen, runs, keep, forms)
    return _one(name or "", results, chosen, format, forms)


def _one(name: str, results: str, chosen: str, format: str, forms: Sequence[str]) -> int:
    """Print a table, a figure or a sweep of one profile."""
    known = [*TABLES, *FIGURES, *SWEEPS, "curves"]
    if name not in known and not any((Path(results) / chosen / name).glob("*.json")):
        hint = nearest(name, known, f"; there is {', '.join(known)}.", 0.4)
        return _warn(f"no table, figure or sweep {name!r}{hint}", status=2)
    study = FIGURES[name].study or name if name in FIGURES else name
    found, problems = load_results(results, chosen, study)
    for problem in problems:
        _warn(f"left out: {problem}")
    failed = notes(load_failures(Path(results) / chosen / study, (result.id for result in found)))
    for note in failed if not found or name in FIGURES else ():
        print(note, file=sys.stderr)
    if not found:
        return _warn(_nothing(study, results, chosen))
    if name in FIGURES:
        extra("matplotlib", "a figure")
    written = _write(name, found, failed, Path(results) / chosen / name, format, forms)
    if written:
        print(f"Written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


def _write(
    name: str, results: list[Result], failed: list[str], stem: Path, form: str, forms: Sequence[str]
) -> list[Path]:
    """Write a figure, a sweep or a table with the figures that are drawn with it; the files."""
    plots = find_spec("matplotlib") is not None
    if name in FIGURES:
        return from_sound(lambda some: pictures(name, some, stem, forms), results, _warn)
    if name not in TABLES:
        trials = trials_in(stem, _warn)
        report = from_sound(lambda some: sweep_report(name, some, trials), results, _warn)
        written = _table(report, failed, stem, form)
        return written + (sweep_pictures(name, results, stem, trials, forms) if plots else [])
    written = _table(from_sound(lambda some: build(name, some), results, _warn), failed, stem, form)
    for drawing, figure in FIGURES.items():
        if figure.study == name and plots:
            try:
                place = stem.with_name(drawing)
                written += from_sound(partial(pictures, drawing, stem=place, forms=forms), results, _warn)
            except OSError as error:  # the table is shown already
                _warn(f"not drawn: {drawing} ({error.strerror or error})")
    return written


def _page(results: str, profiles: list[str] | None, out: str | None) -> int:
    """Write the page of all tables, figures and sweeps; what could not be shown is said on it, and here."""
    chosen = list(dict.fromkeys(profiles or best_first(results, profiles_in(results))))
    if absent := [profile for profile in chosen if profile not in profiles_in(results)]:
        there = ", ".join(profiles_in(results)) or "none"
        return _warn(f"no results of profile {', '.join(absent)} in {results}; there are: {there}")
    folder = Path(results) / chosen[0] if len(chosen) == 1 else Path(results)
    path = Path(out) if out else folder / "index.html"
    try:
        problems = write_page(results, chosen, path)
    except OSError as error:
        return _warn(f"cannot write {path} ({error.strerror or error}): choose another file with --out FILE")
    for problem in problems:
        _warn(f"not shown: {problem}")
    print(f"Written: {path} ({path.stat().st_size / 1e6:.2f} MB)", file=sys.stderr)
    return 0


def _curves(results: str, profile: str, runs: str | None, keep: bool, forms: Sequence[str]) -> int:
    """Write the learning curves, and where asked to, those that run folders hold into results that lack them."""
    extra("matplotlib", "a figure")
    changed = keep_curves(results, profile, runs) if keep and runs else []
    picture = learning_picture(results, profile, runs)
    written = write_curves(picture, Path(results) / profile / "curves", forms)
    print(picture.words())
    print(f"Written: {', '.join(map(str, [*changed, *written]))}", file=sys.stderr)
    return 0


def _table(report: Report, failed: list[str], stem: Path, form: str) -> list[Path]:
    report = replace(report, notes=[*report.notes, *failed])
    written = _written({stem.with_suffix(".md"): markdown(report), stem.with_suffix(".csv"): csv(report)})
    if form == "terminal":
        show(report)
    else:
        print({"markdown": markdown, "latex": latex, "csv": csv}[form](report), end="")
    return written


def _written(files: dict[Path, str]) -> list[Path]:
    """The files that could be written: a table is shown also where the results are read only."""
    done = []
    for path, text in files.items():
        try:
            write_atomic(path, text)
            done.append(path)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):  # a full disk is for the user to mend
                raise
            _warn(f"not written: {path} ({error.strerror or error})")
    return done


def _nothing(name: str, results: str, profile: str) -> str:
    others = sorted(path.parent.name for path in Path(results).glob(f"*/{name}/") if any(path.glob("*.json")))
    hint = f" (there are results of: {', '.join(others)})" if others else ""
    return (
        f"no results in {Path(results) / profile / name}{hint}; make them with\n"
        f"    scaledrop sweep sweeps/{name}.yaml --profile {profile}"
    )


def _warn(message: str, status: int = 1) -> int:
    print(f"scaledrop report: {plain(message)}", file=sys.stderr)
    return status
