"""All measurements of results as one tidy frame."""

from collections.abc import Iterable

import pandas as pd

from lit_scaledrop.results.measurement import COORDINATES
from lit_scaledrop.results.result import Result


def measurements(results: Iterable[Result]) -> pd.DataFrame:
    """All numbers of results: columns run (its id), `COORDINATES` (empty where they do not apply), metric, value.

    Rows stand in the order of the results and of the numbers in them.
    """
    rows = [
        {"run": result.id, **one.at, "metric": metric, "value": value}
        for result in results
        for one in result.measurements
        for metric, value in one.metrics.items()
    ]
    return pd.DataFrame(rows, columns=["run", *COORDINATES, "metric", "value"]).astype({"value": float})
