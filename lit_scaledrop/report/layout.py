"""What a table is before it is rendered: sections, each a frame of numbers and how its columns are shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

LOST = "lost in our copy"
"""Source of a published number that our copy of the paper has lost."""
RESULT_IDS = "result_ids"
"""Column of a section's frame, not shown: ids of the results that a row is made of, as `ids_of` writes them."""
Row = dict[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column as it is shown."""

    header: str
    cell: Callable[[Row], str]
    """Row of the frame -> text, empty where there is nothing."""
    left: bool = False
    """Whether it is text and stands on the left."""
    source: str | None = None
    """Column of the frame that says where a published number comes from, for a footnote."""


@dataclass(frozen=True)
class Section:
    """Rows that may stand in one table: one profile, one data set, one number of epochs."""

    heading: str
    frame: pd.DataFrame
    """Numbers, one row a line of the table."""
    columns: dict[str, Column]
    """By name, in the order of display."""
    caption: list[str]
    """Sentences that say what the numbers are and how to make them again."""


@dataclass(frozen=True)
class Report:
    """A finished table."""

    title: str
    sections: list[Section]
    notes: list[str]
    """What a reader has to know about single rows."""
    data: pd.DataFrame
    """All the numbers, as they go into the CSV file."""


def text(name: str, header: str | None = None) -> Column:
    """A column of text on the left.

    >>> text("method").cell({"method": "FP"})
    'FP'
    """
    return Column(header or name, lambda row: "" if pd.isna(row[name]) else str(row[name]), left=True)


def number(name: str, header: str, form: str, source: str | None = None) -> Column:
    """A column of numbers in one format.

    >>> number("nll", "NLL", ".3f").cell({"nll": 0.5}), number("nll", "NLL", ".3f").cell({"nll": float("nan")})
    ('0.500', '')
    """
    return Column(header, lambda row: "" if pd.isna(row[name]) else format(row[name], form), source=source)


def bits() -> Column:
    """Bits of a weight and an activation."""
    return Column("W/A", lambda row: f"{row['bits_w']}/{row['bits_a']}")


def spread(mean: float, std: float, digits: int = 2) -> str:
    """Mean and sample standard deviation, which one seed has not.

    >>> spread(86.333, 1.528), spread(86.0, float("nan")), spread(float("nan"), float("nan"))
    ('86.33 ± 1.53', '86.00', '')
    """
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(std) else f" ± {std:.{digits}f}")


def mean_column(name: str, header: str, digits: int = 2) -> Column:
    """A column `name` with its deviations in the column `name`_std."""
    return Column(header, lambda row: spread(row[name], row[f"{name}_std"], digits))
