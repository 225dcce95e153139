"""`scaledrop report TABLE`: make a table of the paper from the results folder.

Prints the table and writes `<results>/<profile>/<table>.md` and `.csv`, atomically and deterministically: the
same results give the same bytes.
"""

import argparse
import difflib
import sys
from pathlib import Path

from lit_scaledrop.report.rendering import csv, markdown, show
from lit_scaledrop.report.results import load_results, write_atomic
from lit_scaledrop.report.tables import TABLES, build


def main(argv: list[str]) -> int:
    """Run the command on `argv` (what follows `report`).

    Returns:
        0 after writing the table, 1 where there is nothing to show, 2 for a table we do not know.
    """
    args = _parser().parse_args(argv)
    if args.table not in TABLES:
        close = difflib.get_close_matches(args.table, TABLES, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(TABLES)}."
        print(f"scaledrop report: no table {args.table!r}; {hint}", file=sys.stderr)
        return 2
    results, problems = load_results(args.results, args.profile, args.table)
    for problem in problems:
        print(f"scaledrop report: left out: {problem}", file=sys.stderr)
    if not results:
        print(_nothing(args.table, args.results, args.profile), file=sys.stderr)
        return 1
    stem = Path(args.results) / args.profile / args.table
    try:
        report = build(args.table, results)
        texts = {"markdown": markdown(report), "csv": csv(report)}
        write_atomic(stem.with_suffix(".md"), texts["markdown"])
        write_atomic(stem.with_suffix(".csv"), texts["csv"])
    except (ValueError, OSError) as error:
        print(f"scaledrop report: {error}", file=sys.stderr)
        return 1
    if args.format == "terminal":
        show(report)
    else:
        print(texts[args.format], end="")
    print(f"Written: {stem.with_suffix('.md')} and {stem.with_suffix('.csv')}", file=sys.stderr)
    return 0


def _nothing(table: str, results: str, profile: str) -> str:
    others = sorted(path.parent.name for path in Path(results).glob(f"*/{table}/") if any(path.glob("*.json")))
    hint = f" (there are results of: {', '.join(others)})" if others else ""
    return (
        f"scaledrop report: no results in {Path(results) / profile / table}{hint}; make them with\n"
        f"    scaledrop sweep sweeps/{table}.yaml --profile {profile}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scaledrop report", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("table", help=f"which table: {', '.join(TABLES)}")
    parser.add_argument("--results", default="results", help="folder of results (default: %(default)s)")
    parser.add_argument("--profile", default="quick", help="quick, cpu or paper (default: %(default)s)")
    parser.add_argument("--format", choices=("terminal", "markdown", "csv"), default="terminal", help="what to print")
    return parser
