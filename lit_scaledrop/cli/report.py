"""`scaledrop report NAME`: make a table or a figure of the paper, or those of a sweep, from the results folder.

Prints a table and writes `<results>/<profile>/<name>.md` and `.csv`; of a figure it writes `.svg`, `.png` and `.csv`. A
sweep has a table and pictures, `<name>-<what>.svg` and `.png`; any folder of trainings is one, whatever was swept.
`curves` shows error against epochs of a profile's trainings, with `--runs` of those that are not finished as well.
With `--html` in place of a name, all tables, figures and sweeps that have results go on one HTML page.
Atomically and deterministically: the same results give the same bytes.
"""

import argparse
import difflib
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from lit_scaledrop.report.figures import FIGURES, pictures
from lit_scaledrop.report.figures.learning import keep_curves, learning_picture, write_curves
from lit_scaledrop.report.page import write_page
from lit_scaledrop.report.page.contents import profiles_in
from lit_scaledrop.report.sweeps import SWEEPS, sweep_pictures, sweep_report
from lit_scaledrop.report.table import Report, csv, markdown, show
from lit_scaledrop.report.tables import TABLES, build
from lit_scaledrop.results.failures import load_failures, notes
from lit_scaledrop.results.result import ResultError, load_results, write_atomic
from lit_scaledrop.results.trials import JournalError, trials_in


def main(argv: list[str]) -> int:
    """Run the command on `argv` (what follows `report`).

    Returns:
        0 after writing it, 1 where there is nothing to show, 2 for a name we do not know.
    """
    args = _parsed(argv)
    if args.html:
        return _page(args.results, args.profile, args.out)
    args.profile = args.profile[0] if args.profile else "quick"
    if args.name == "curves":
        return _curves(args.results, args.profile, args.runs, args.keep)
    known = [*TABLES, *FIGURES, *SWEEPS, "curves"]
    if args.name not in known and not any((Path(args.results) / args.profile / args.name).glob("*.json")):
        close = difflib.get_close_matches(args.name, known, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known)}."
        print(f"scaledrop report: no table, figure or sweep {args.name!r}; {hint}", file=sys.stderr)
        return 2
    study = FIGURES[args.name].study or args.name if args.name in FIGURES else args.name
    results, problems = load_results(args.results, args.profile, study)
    print(*(f"scaledrop report: left out: {problem}\n" for problem in problems), sep="", end="", file=sys.stderr)
    failed = notes(load_failures(Path(args.results) / args.profile / study, (result.id for result in results)))
    for note in failed if not results or args.name in FIGURES else ():
        print(note, file=sys.stderr)
    if not results:
        print(_nothing(study, args.results, args.profile), file=sys.stderr)
        return 1
    if args.name in FIGURES and find_spec("matplotlib") is None:
        print("scaledrop report: figures need matplotlib; install it with pip install matplotlib", file=sys.stderr)
        return 1
    stem = Path(args.results) / args.profile / args.name
    try:
        if args.name in FIGURES:
            written = pictures(args.name, results, stem)
        elif args.name not in TABLES:
            trials = trials_in(stem)
            written = _table(sweep_report(args.name, results, trials), failed, stem, args.format)
            written += sweep_pictures(args.name, results, stem, trials) if find_spec("matplotlib") else []
        else:
            written = _table(build(args.name, results), failed, stem, args.format)
            drawn = [name for name, figure in FIGURES.items() if figure.study == args.name and find_spec("matplotlib")]
            written += [path for name in drawn for path in pictures(name, results, stem.with_name(name))]
    except (ValueError, OSError, JournalError) as error:
        print(f"scaledrop report: {error}", file=sys.stderr)
        return 1
    print(f"Written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


def _page(results: str, profiles: list[str] | None, out: str | None) -> int:
    """Write the page of all tables, figures and sweeps; what could not be shown is said on it, and here."""
    chosen = list(dict.fromkeys(profiles or profiles_in(results)))
    if absent := [profile for profile in chosen if profile not in profiles_in(results)]:
        there = ", ".join(profiles_in(results)) or "none"
        print(
            f"scaledrop report: no results of profile {', '.join(absent)} in {results}; there are: {there}",
            file=sys.stderr,
        )
        return 1
    folder = Path(results) / chosen[0] if len(chosen) == 1 else Path(results)
    path = Path(out) if out else folder / "index.html"
    try:
        problems = write_page(results, chosen, path)
    except (ValueError, OSError) as error:
        print(f"scaledrop report: {error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"scaledrop report: not shown: {problem}", file=sys.stderr)
    print(f"Written: {path} ({path.stat().st_size / 1e6:.2f} MB)", file=sys.stderr)
    return 0


def _curves(results: str, profile: str, runs: str | None, keep: bool) -> int:
    """Write the learning curves, and where asked to, those that run folders hold into results that lack them."""
    if find_spec("matplotlib") is None:
        print("scaledrop report: figures need matplotlib; install it with pip install matplotlib", file=sys.stderr)
        return 1
    try:
        changed = keep_curves(results, profile, runs) if keep and runs else []
        picture = learning_picture(results, profile, runs)
        written = write_curves(picture, Path(results) / profile / "curves")
    except (ValueError, OSError, ResultError) as error:
        print(f"scaledrop report: {error}", file=sys.stderr)
        return 1
    print(picture.words())
    print(f"Written: {', '.join(map(str, [*changed, *written]))}", file=sys.stderr)
    return 0


def _table(report: Report, failed: list[str], stem: Path, form: str) -> list[Path]:
    report = replace(report, notes=[*report.notes, *failed])
    texts = {"markdown": markdown(report), "csv": csv(report)}
    files = {stem.with_suffix(".md"): texts["markdown"], stem.with_suffix(".csv"): texts["csv"]}
    for path, text in files.items():
        write_atomic(path, text)
    if form == "terminal":
        show(report)
    else:
        print(texts[form], end="")
    return list(files)


def _nothing(name: str, results: str, profile: str) -> str:
    others = sorted(path.parent.name for path in Path(results).glob(f"*/{name}/") if any(path.glob("*.json")))
    hint = f" (there are results of: {', '.join(others)})" if others else ""
    return (
        f"scaledrop report: no results in {Path(results) / profile / name}{hint}; make them with\n"
        f"    scaledrop sweep sweeps/{name}.yaml --profile {profile}"
    )


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.html and (args.name is None or args.out is not None or len(args.profile or ()) > 1):
        parser.error("give the name of a table, figure or sweep and one profile, or --html for a page of all")
    if (args.runs or args.keep) and (args.html or args.name != "curves"):
        parser.error("--runs and --keep are of `report curves`")
    if args.keep and not args.runs:
        parser.error("--keep needs --runs DIR, where the logs are")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scaledrop report", description=(__doc__ or "").split("\n\n")[1])
    names = f"table ({', '.join(TABLES)}), figure ({', '.join(FIGURES)}, curves) or sweep ({', '.join(SWEEPS)})"
    parser.add_argument("name", nargs="?", help=names)
    parser.add_argument("--results", default="results", help="folder of results (default: %(default)s)")
    parser.add_argument(
        "--profile",
        action="append",
        help="quick, cpu, gpu or paper (default: quick); with --html several times, by default all that have results",
    )
    parser.add_argument("--runs", metavar="DIR", help="of `curves`: folder of runs, for those that are not finished")
    parser.add_argument("--keep", action="store_true", help="of `curves`: write logged curves into results without one")
    parser.add_argument("--format", choices=("terminal", "markdown", "csv"), default="terminal", help="of a table")
    parser.add_argument("--html", action="store_true", help="write all tables and figures as one page, without a name")
    parser.add_argument("--out", metavar="FILE", help="of the page (default: index.html in the folder of the results)")
    return parser
