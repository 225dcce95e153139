"""Text alternatives of figures, generated from their numbers."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import pandas as pd

from lit_scaledrop.report.energies import component_name, readable
from lit_scaledrop.report.page.contents import Shown
from lit_scaledrop.report.table import Report, Section
from lit_scaledrop.results.glossary import METRICS

_NAMES = 3
"""Columns of a table that name a row in words."""
_COUNTS = ("n", "seed", "epochs")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?( |$)")
_READ = {
    "cls/acc": "",
    "cls/nll": "",
    "unc/predictive_entropy": "",
    "unc/mutual_information": "",
    "ood/rate": "",
    "uniform/ood/rate": "uniform noise called OOD",
    "uniform/ood/auroc/predictive_entropy": "AUROC of uniform noise",
}
"""Metrics that are read out, where there are any, and what they are called where it is not the glossary's title."""
_LINES = ("effect", "part", "component", "of", "metric")
"""Columns of a figure's numbers that tell its lines apart."""
_MANY = 12
"""Lines of one network above which only those of the first metric are read out."""
_AXES = ("angle", "strength", "passes", "level", "quantile", "bin")
"""Columns that a line runs along."""


def alt_text(shown: Shown, report: Report | None) -> str:
    """Sentences on a picture: what it is of, then the lowest and the highest value of each of its lines.

    Args:
        shown: the picture.
        report: table of its study, which has the numbers of a picture that is no figure of `FIGURES`.
    """
    if shown.words:
        return shown.words
    if shown.picture is None:
        ranges = [words for section in report.sections for words in _ranges(section)] if report else []
        networks = dict.fromkeys(f"{run.topology} {run.label}" for run in shown.runs)
        return f"Plot {shown.name.replace('-', ' ')} of {', '.join(networks)}. {'; '.join(ranges)}."
    runs = shown.picture.frame.groupby(["topology", "method"], sort=False)
    of = (f"{' '.join(map(str, name))}: {'; '.join(_lines(run))}." for name, run in runs)
    return f"Plot {shown.name.replace('-', ' ')}. {' '.join(of)}"


def _lines(run: pd.DataFrame) -> Iterator[str]:
    """Lowest and highest mean of each line of one network, with where they are."""
    counts = Counter(run.metric) if "metric" in run else {}
    metrics = [metric for metric in _READ if counts.get(metric, 0) > 1] or list(counts)
    if metrics:
        run = run[run.metric.isin(metrics)]
    told = [column for column in _LINES if column in run and (column == "metric" or run[column].nunique() > 1)]
    if metrics and len(run[told].drop_duplicates()) > _MANY:
        run = run[run.metric == metrics[0]]
    axis = next((column for column in _AXES if column in run), None)
    value = "distance" if "distance" in run else "mean"
    for names, line in run.groupby(told, sort=False) if told else [((value,), run)]:
        line = line.dropna(subset=[value])
        if len(line):
            ends = [line.iloc[line[value].argmin()], line.iloc[line[value].argmax()]]
            said = [
                _value(end, value) + (f" at {axis} {end[axis]:g}" if axis and len(line) > 1 else "") for end in ends
            ]
            yield f"{', '.join(_name(name) for name in names)} {' to '.join(dict.fromkeys(said))}"


def _name(value: object) -> str:
    name = str(value)
    return _READ[name] or METRICS[name].title if name in _READ else component_name(name).replace("_", " ")


def _value(row: pd.Series, column: str) -> str:
    if "component" in row:
        return readable(row[column])
    if (metric := str(row.get("metric"))) not in _READ:
        return f"{row[column]:.3g}"
    entry = METRICS[metric.removeprefix("uniform/")]
    return f"{entry.factor * row[column]:.3g} {'%' if entry.factor == 100 else entry.unit}"


def _ranges(section: Section) -> Iterator[str]:
    """Lowest and highest value of each column of numbers, with the rows that have them."""
    records = section.frame.to_dict("records")
    names = [column for column in section.columns.values() if column.left][:_NAMES]
    for column in section.columns.values():
        cells = [(column.cell(row), _joined(name.cell(row) for name in names)) for row in records]
        found = [(float(cell.split()[0]), cell, row) for cell, row in cells if _NUMBER.match(cell)]
        if not column.left and column.header not in _COUNTS and len(found) > 1:
            (_, low, of_low), (_, high, of_high) = min(found), max(found)
            yield f"{section.heading}: {column.header} from {low} ({of_low}) to {high} ({of_high})"


def _joined(words: Iterable[str]) -> str:
    return ", ".join(filter(None, words))
