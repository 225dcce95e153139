"""`scaledrop report TABLE`: make a table of the paper from the results folder.

Prints the table and writes `<results>/<profile>/<table>.md` and `.csv`, atomically and deterministically: the
same results give the same bytes.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lit_scaledrop.report.results import load_results, write_atomic
from lit_scaledrop.report.tables import TABLES, Report, Section, build

_LOST = "lost in our copy"
_WIDTH = 115  # columns of a terminal that take the table without breaking a number


def main(argv: list[str]) -> int:
    """Run the command on `argv` (what follows `report`).

    Returns:
        0 after writing the table, 1 where there is nothing to show, 2 for a table we do not know.
    """
    args = _parser().parse_args(argv)
    if args.table not in TABLES:
        close = difflib.get_close_matches(args.table, TABLES, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(sorted(TABLES))}."
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
        _show(report)
    else:
        print(texts[args.format], end="")
    print(f"Written: {stem.with_suffix('.md')} and {stem.with_suffix('.csv')}", file=sys.stderr)
    return 0


def markdown(report: Report) -> str:
    """The report as GitHub Markdown; footnotes say where each published number comes from."""
    sources: dict[str, int] = {}
    lines = [f"# {report.title}", ""]
    for section in report.sections:
        cells = section_cells(section, sources)
        align = ["left" if name in ("topology", "method") else "right" for name in section.columns()]
        lines += [f"## {_heading(section)}", ""]
        lines += [cells.to_markdown(index=False, disable_numparse=True, colalign=align), ""]
        lines += [line for caption in section.caption for line in (caption, "")]
    lines += [line for note in _notes(report) for line in (f"- {note}", "")]
    lines += [f"[^{number}]: {source}" for source, number in sources.items()]
    return "\n".join(lines).rstrip() + "\n"


def csv(report: Report) -> str:
    """The report as CSV, one line per section and row; accuracy columns carry the name of their data."""
    frames = []
    for section in report.sections:
        data = section.data.lower().replace("-", "")
        names = {"accuracy": f"{data}_accuracy_percent", "std": f"{data}_accuracy_std"}
        names |= {"paper": "paper_cifar10_accuracy_percent", "source": "paper_source"}
        names |= {"difference": "difference_points"} if section.comparable else {}
        names |= {"nll": "nll", "ece": "ece", "ood_rate": "ood_rate", "seconds": "training_seconds"}
        key = [
            "profile",
            "data",
            "fingerprint",
            "topology",
            "method",
            "bits_w",
            "bits_a",
            "bayesian",
            "n",
            "seeds",
        ]
        frame = section.frame[[*key, "epochs", *names]].rename(columns=names)
        frame["bayesian"] = frame.bayesian.map({True: "yes", False: "no"})
        frames.append(frame.astype({"n": "Int64", "epochs": "Int64"}))
    return pd.concat(frames, ignore_index=True).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _heading(section: Section) -> str:
    epochs = int(section.frame.epochs.max())
    return f"{section.data}, {epochs} epoch{'s' * (epochs != 1)}"


def section_cells(section: Section, sources: dict[str, int] | None = None) -> pd.DataFrame:
    """The section as text, headers included; with `sources`, published numbers carry footnote marks."""
    columns = section.columns()
    return pd.DataFrame(
        [[_cell(name, row, sources) for name in columns] for row in section.frame.to_dict("records")],
        columns=list(columns.values()),
    )


def _cell(name: str, row: dict[Any, Any], sources: dict[str, int] | None) -> str:
    if name == "bits":
        return f"{row['bits_w']}/{row['bits_a']}"
    value = row[name]
    if pd.isna(value):
        return ""
    if name == "accuracy":
        spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.2f}"
        return f"{value:.2f}{spread} (n={row['n']:.0f})"
    if name == "paper":
        mark = "" if sources is None else f" [^{sources.setdefault(row['source'], len(sources) + 1)}]"
        return f"{value:.2f}{mark}"
    if name == "seconds":
        return _duration(value)
    formats = {"difference": "+.2f", "nll": ".3f", "ece": ".3f", "ood_rate": ".3f", "epochs": ".0f"}
    return format(value, formats[name]) if name in formats else {True: "yes", False: "no"}.get(value, str(value))


def _duration(seconds: float) -> str:
    """A duration for people.

    >>> _duration(12.34), _duration(200.0), _duration(9000.0)
    ('12.3 s', '3.3 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _notes(report: Report) -> Iterator[str]:
    yield from report.notes
    frame = pd.concat([section.frame[["topology", "method", "source"]] for section in report.sections])
    if (frame.source == _LOST).any():
        yield "An empty cell in the paper's column: the number is lost in our copy of the paper."
    extra = frame[frame.source.isna()].drop_duplicates()
    if len(extra):
        rows = ", ".join(f"{row.topology} {row.method}" for row in extra.itertuples())
        yield f"Not in the paper's table: {rows}."


def _show(report: Report) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(report.title)
    for section in report.sections:
        cells = section_cells(section)
        console.print(f"\n{_heading(section)}")
        if console.is_terminal and console.width >= _WIDTH:
            table = RichTable(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
            for name in cells.columns:
                table.add_column(name, overflow="fold", no_wrap=name in ("topology", "method"))
            for row in cells.itertuples(index=False):
                table.add_row(*row)
            console.print(table, soft_wrap=False)
        else:  # rich would fold numbers to fit a narrow terminal, or the 80 columns it assumes of a pipe
            console.print(cells.to_string(index=False))
        for caption in section.caption:
            console.print(caption)
    for note in _notes(report):
        console.print(f"- {note}")


def _nothing(table: str, results: str, profile: str) -> str:
    others = sorted(path.parent.name for path in Path(results).glob(f"*/{table}/") if any(path.glob("*.json")))
    hint = f" (there are results of: {', '.join(others)})" if others else ""
    return (
        f"scaledrop report: no results in {Path(results) / profile / table}{hint}; make them with\n"
        f"    scaledrop sweep sweeps/{table}.yaml --profile {profile}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scaledrop report", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("table", help=f"which table: {', '.join(sorted(TABLES))}")
    parser.add_argument("--results", default="results", help="folder of results (default: %(default)s)")
    parser.add_argument("--profile", default="quick", help="quick, cpu or paper (default: %(default)s)")
    parser.add_argument("--format", choices=("terminal", "markdown", "csv"), default="terminal", help="what to print")
    return parser
