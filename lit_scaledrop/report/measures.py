"""The values that a table or figure shows: measures, declared by metric and coordinates, and their means over seeds.

A measure names a metric of the glossary. Where a run was not measured at all at its coordinates (a part that was left
out), the cell is empty; a run that was measured there and lacks the metric is an error, unless it is `optional`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lit_scaledrop.naming import lookup
from lit_scaledrop.report.groups import KEY, ids_of, seeds_of
from lit_scaledrop.report.table import RESULT_IDS, Column, mean_column
from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.measurement import COORDINATES
from lit_scaledrop.results.result import Result

EVERY = ...
"""All values of a coordinate that were measured in the group of runs; a run that lacks one has no number."""
Shown = Mapping[tuple[Any, ...], list[Result]]
"""Runs of each row, one a seed."""


@dataclass(frozen=True)
class Measure:
    """A number of each run.

    Raises:
        ValueError: the glossary has no such metric, or the frame no such coordinate.
    """

    metric: str
    header: str = ""
    """Of its column, where `{data}` stands for the name of the data; without one it has no column."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Coordinates: a value, all of a list, those of a tuple that were measured, or `EVERY`; others do not apply."""
    percent: bool = True
    digits: int = 2
    combine: str = "mean"
    """Of several values of a coordinate: `mean` or `min`."""
    optional: bool = False

    def __post_init__(self) -> None:
        lookup("metric", self.metric, METRICS)
        for name in self.where:
            lookup("coordinate", name, COORDINATES)

    def values(self, frame: pd.DataFrame, by: Sequence[str] = ()) -> pd.Series:
        """Its value by run, and by the coordinates `by`.

        Raises:
            ValueError: runs that were measured at these coordinates lack the metric.
        """
        masks = []
        for name in COORDINATES:
            wanted = self.where.get(name)
            if name in by or wanted is EVERY:
                masks.append(frame[name].notna())
            elif wanted is None:
                masks.append(frame[name].isna())
            else:
                masks.append(frame[name].isin(wanted if isinstance(wanted, tuple | list) else [wanted]))
        here = frame[np.logical_and.reduce(masks)]
        chosen = here[here.metric == self.metric]
        lacking = sorted(set(here.run) - set(chosen.run))
        if lacking and not self.optional:
            ids = ", ".join(lacking)
            raise ValueError(f"no metric {self.metric} in the results {ids}; evaluate them again or delete them")
        chosen = chosen.assign(value=(100 if self.percent else 1) * chosen.value)
        if many := [name for name, wanted in self.where.items() if wanted is EVERY or isinstance(wanted, tuple | list)]:
            wide = chosen.pivot(index=["run", *by], columns=many, values="value")
            listed = [name for name in many if isinstance(self.where[name], list)]
            whole = bool(listed) or EVERY in self.where.values()
            complete = all(set(self.where[name]) <= set(chosen[name]) for name in listed)
            values = getattr(wide, self.combine)(axis=1, skipna=not whole)
            return values if complete else values * float("nan")
        return chosen.set_index(["run", *by]).value


def percent(metric: str, header: str = "", digits: int = 2, **where: Any) -> Measure:
    """A share, in per cent."""
    return Measure(metric, header, where, digits=digits)


def plain(metric: str, header: str = "", **where: Any) -> Measure:
    """A number as it is, with the digits that the glossary gives it."""
    return Measure(metric, header, where, percent=False, digits=METRICS[metric].digits)


def lines(
    shown: Shown, measures: Mapping[str, Measure], split: Sequence[str] = (), **by: Iterable[Any]
) -> pd.DataFrame:
    """One line a row and value of the coordinate `by`: `KEY`, n, seeds and ids of the runs, epochs; means, deviations.

    Args:
        shown: runs of each row.
        measures: by the names of their columns; the sample standard deviation over runs is `<name>_std`.
        split: names of what makes a row behind `KEY`.
        by: at most one coordinate, with its values in order.
    """
    heads = pd.DataFrame([dict(zip((*KEY, *split), key, strict=True)) | head(runs) for key, runs in shown.items()])
    for name, values in by.items():
        heads = heads.rename_axis("row").reset_index().merge(pd.DataFrame({name: list(values)}), how="cross")
    on = ["row", *by] if by else None
    frame = heads.join(over_runs(shown.values(), measures, list(by)), on=on)
    return frame.drop(columns="row", errors="ignore")


def head(runs: Sequence[Result]) -> dict[str, Any]:
    """What a line says of its runs."""
    return {"n": len(runs), "seeds": seeds_of(runs), RESULT_IDS: ids_of(runs), "epochs": runs[0].training["epochs"]}


def over_runs(
    rows: Iterable[Sequence[Result]], measures: Mapping[str, Measure], by: Sequence[str] = ()
) -> pd.DataFrame:
    """Mean and deviation over the runs of each row; index the number of the row, and `by`."""
    rows = list(rows)
    frame = measurements(run for runs in rows for run in runs)
    row_of = {run.id: number for number, runs in enumerate(rows) for run in runs}
    values = pd.DataFrame({name: measure.values(frame, by) for name, measure in measures.items()})
    keys = [
        values.index.get_level_values("run").map(row_of).rename("row"),
        *(values.index.get_level_values(c) for c in by),
    ]
    grouped = values.groupby(keys)
    both = grouped.mean().join(grouped.std().add_suffix("_std"))
    both = both[[column for name in measures for column in (name, f"{name}_std")]]
    return both if by else both.reindex(range(len(rows)))


def chips_of(runs: Sequence[Result]) -> int:
    """How many finished chips were measured."""
    return int(measurements(runs).chip.fillna(0).max())


def mean_columns(measures: Mapping[str, Measure], data: str = "{data}") -> dict[str, Column]:
    """Columns of the measures that have a header: mean and deviation."""
    return {
        name: mean_column(name, measure.header.format(data=data), measure.digits)
        for name, measure in measures.items()
        if measure.header
    }
