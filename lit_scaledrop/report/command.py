"""`scaledrop report NAME`: make a table or a figure of the paper from the results folder.

Prints a table and writes `<results>/<profile>/<name>.md` and `.csv`; of a figure it writes `.svg`, `.png` and `.csv`.
Atomically and deterministically: the same results give the same bytes.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from lit_scaledrop.report.failures import load_failures, notes
from lit_scaledrop.report.figures import FIGURES, pictures
from lit_scaledrop.report.rendering import csv, markdown, show
from lit_scaledrop.report.results import Result, load_results, write_atomic
from lit_scaledrop.report.tables import TABLES, build


def main(argv: list[str]) -> int:
    """Run the command on `argv` (what follows `report`).

    Returns:
        0 after writing it, 1 where there is nothing to show, 2 for a name we do not know.
    """
    args = _parser().parse_args(argv)
    known = [*TABLES, *FIGURES]
    if args.name not in known:
        close = difflib.get_close_matches(args.name, known, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known)}."
        print(f"scaledrop report: no table or figure {args.name!r}; {hint}", file=sys.stderr)
        return 2
    study = FIGURES[args.name].study or args.name if args.name in FIGURES else args.name
    results, problems = load_results(args.results, args.profile, study)
    for problem in problems:
        print(f"scaledrop report: left out: {problem}", file=sys.stderr)
    failed = notes(load_failures(Path(args.results) / args.profile / study, (result.id for result in results)))
    if not results or args.name in FIGURES:
        print(*failed, sep="\n", end="\n" if failed else "", file=sys.stderr)
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
        else:
            written = _table(args.name, results, failed, stem, args.format)
            drawn = [name for name, figure in FIGURES.items() if figure.study == args.name and find_spec("matplotlib")]
            written += [path for name in drawn for path in pictures(name, results, stem.with_name(name))]
    except (ValueError, OSError) as error:
        print(f"scaledrop report: {error}", file=sys.stderr)
        return 1
    print(f"Written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


def _table(name: str, results: Sequence[Result], failed: list[str], stem: Path, form: str) -> list[Path]:
    report = build(name, results)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scaledrop report", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("name", help=f"table ({', '.join(TABLES)}) or figure ({', '.join(FIGURES)})")
    parser.add_argument("--results", default="results", help="folder of results (default: %(default)s)")
    parser.add_argument("--profile", default="quick", help="quick, cpu or paper (default: %(default)s)")
    parser.add_argument("--format", choices=("terminal", "markdown", "csv"), default="terminal", help="of a table")
    return parser
