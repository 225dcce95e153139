"""The common form of tables: rows of measures next to published numbers, in sections of comparable results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from lit_scaledrop.report.groups import (
    KEY,
    by_data,
    by_row,
    caption,
    data_name,
    epochs_heading,
    identity,
    is_papers_data,
    rule_sentence,
    with_paper,
)
from lit_scaledrop.report.measures import Measure, chips_of, lines
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Section, named
from lit_scaledrop.results.result import Result

_MEAN = "Mean ± sample standard deviation over n seeds."

IDENTITY = ("profile", "data", "fingerprint")
"""Columns of `identity`."""


@dataclass(frozen=True)
class TableSpec:
    """How a table follows from results and published numbers."""

    title: str
    measures: Mapping[str, Measure]
    columns: Sequence[Column] | Callable[[pd.DataFrame, Sequence[Result], bool], dict[str, Column]]
    """What is shown; `{data}` and `{chips}` in headers stand for the name of the data and the number of chips.

    Or lines, their runs, and whether a difference to the paper means something -> what is shown.
    """
    export: Sequence[str] = ()
    """Columns of the CSV file behind those of `identity`; none: all."""
    row: Sequence[str] = tuple(KEY)
    """What our lines have in common with published ones."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Columns of published numbers, by the names that they get here."""
    differences: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Columns that are one column less another where the data is the paper's."""
    notes: Sequence[str] = ()
    """`{chips}` in them stands for the number of chips."""
    lines: Callable[[Sequence[Result], list[str]], pd.DataFrame] | None = None
    """Results of a group, and notes to add to -> lines; by default a line a row of runs."""
    arrange: Callable[[pd.DataFrame], pd.DataFrame] = pd.DataFrame.copy
    """Puts lines in order."""
    numbers: Callable[[Sequence[Result]], str] = lambda runs: f"{_MEAN} {rule_sentence(runs)}".strip()
    """Runs -> what the caption says of the numbers."""
    comparable: Callable[[Sequence[Result]], bool] = lambda _: True
    """What a difference to the paper needs beside the paper's data, all of it."""
    passes: Callable[[pd.DataFrame], str] = lambda _: ""
    """The T of the lines, where it is not that of the evaluation."""
    what: Callable[[Sequence[Result]], str] = lambda _: ""
    """End of the heading."""
    same: Callable[[Sequence[Result]], Mapping[str, str]] = lambda _: {}
    """Further columns that are the same in all lines."""
    groups: Callable[[Sequence[Result]], list[list[Result]]] = by_data
    """Results -> those of each section."""
    below: Callable[[Sequence[Result]], list[str]] = lambda _: []
    """Runs -> what stands below the caption."""

    def section(self, results: list[Result], paper: pd.DataFrame | None, notes: list[str]) -> Section:
        """One section; `notes` gets what is left out."""
        ours = self.lines(results, notes) if self.lines else lines(by_row(results, notes), self.measures)
        by_id = {run.id: run for run in results}
        used = [by_id[id] for ids in dict.fromkeys(ours[RESULT_IDS]) for id in ids.split()]
        frame = ours if paper is None else with_paper(ours, paper.rename(columns=self.renamed), list(self.row))
        frame = self.arrange(frame)
        first = used[0]
        comparable = is_papers_data(first) and not first.evaluation.get("limit") and self.comparable(used)
        for name, (left, right) in self.differences.items():
            frame[name] = frame[left] - frame[right] if comparable else float("nan")
        frame = frame.assign(**identity(first), **self.same(used), epochs=first.training["epochs"]).astype(
            {"n": "Int64"}
        )
        columns = self.columns(frame, used, comparable) if callable(self.columns) else self._shown(used, comparable)
        below = [*caption(used, self.numbers(used), self.passes(frame)), *self.below(used)]
        return Section(epochs_heading(first) + self.what(used), frame, columns, below)

    def _shown(self, runs: Sequence[Result], comparable: bool) -> dict[str, Column]:
        """Columns that are declared; differences where they mean something."""
        assert not callable(self.columns)
        words = {"data": data_name(runs[0]), "chips": f"{chips_of(runs) or ''} chips".strip()}
        columns = [column for column in self.columns if comparable or column.name not in self.differences]
        return named(*(replace(column, header=column.header.format(**words)) for column in columns))

    def report(self, results: Sequence[Result], paper: pd.DataFrame | None = None, title: str = "") -> Report:
        """The table.

        Raises:
            ValueError: no results, or results of several profiles or studies, or a metric is missing.
        """
        notes: list[str] = []
        sections = [self.section(group, paper, notes) for group in self.groups(results)]
        own = [note.format(chips=chips_of(results)) for note in self.notes]
        return replace(self, notes=own).report_of(sections, notes, title)

    def report_of(self, sections: list[Section], notes: list[str], title: str = "") -> Report:
        """The table of sections that are made."""
        data = pd.concat([section.frame for section in sections], ignore_index=True)
        names = self.export or [str(name) for name in data if name not in (*IDENTITY, RESULT_IDS)]
        return Report(title or self.title, sections, [*notes, *self.notes], data[[*IDENTITY, *names]])
