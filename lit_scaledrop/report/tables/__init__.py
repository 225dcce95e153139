"""Tables of the paper as functions of the results folder: `TABLES` names them, `build` makes one.

A table is made for one profile. Within it, runs on other data (fingerprint or sizes), of another length (epochs) or
measured on another number of images get *sections* of their own, so no column ever mixes them. On stand-in data the
columns are headed by the stand-in's name, and there is no difference to the paper, since that would mean nothing.

A row's mean and standard deviation (n - 1 in the denominator; left out for n = 1) are taken over seeds of one
*setting*, which `provenance.setting` names (a hash of the configuration without its seed). Of several
settings in a row, or several runs of one seed where that key is missing, the newest is shown and a note says
so. A number missing from our copy of the paper is an empty cell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from lit_scaledrop.report.table import Report, published
from lit_scaledrop.report.tables.accuracy import table3
from lit_scaledrop.report.tables.corruptions import table10
from lit_scaledrop.report.tables.design import design_table
from lit_scaledrop.report.tables.dropout_modules import table7
from lit_scaledrop.report.tables.energy import table8
from lit_scaledrop.report.tables.ood import table6
from lit_scaledrop.report.tables.segmentation import TABLE5
from lit_scaledrop.report.tables.selective import TABLE9
from lit_scaledrop.report.tables.variation import TABLE4
from lit_scaledrop.results.result import Result


@dataclass(frozen=True)
class Table:
    """How one table of the paper is made. A further table is one entry of `TABLES`."""

    paper: str | None
    """File with the published numbers in `lit_scaledrop/report/paper/`; none where nothing is published."""
    make: Callable[[Sequence[Result], pd.DataFrame], Report]
    """Results of one profile and the published numbers -> the report."""


TABLES: dict[str, Table] = {
    "table3": Table("table3.csv", table3),
    "table4": Table("table4.csv", TABLE4.report),
    "table5": Table("table5.csv", TABLE5.report),
    "table6": Table("table6.csv", table6),
    "table7": Table("table7.csv", table7),
    "table8": Table("table8.csv", table8),
    "table9": Table("table9.csv", TABLE9.report),
    "table10": Table("table10.csv", table10),
    "pareto": Table(None, design_table),
}


def build(name: str, results: Sequence[Result]) -> Report:
    """Make the table `name` of `TABLES` from results.

    Raises:
        KeyError: there is no such table.
        ValueError: the results do not fit the table; the message says why.
    """
    table = TABLES[name]
    return table.make(results, pd.DataFrame() if table.paper is None else published(table.paper))
