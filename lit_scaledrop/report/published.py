"""The paper's numbers, as data: one CSV file a table in `lit_scaledrop/report/paper/`."""

from importlib.resources import files

import pandas as pd


def published(name: str) -> pd.DataFrame:
    """The published numbers in `paper/<name>`; a cell lost in our copy of the paper is NaN.

    >>> published("table3.csv").query("method == 'IR-Net'").accuracy_percent.tolist()
    [91.5, 86.5, 90.4]
    """
    with (files("lit_scaledrop.report") / "paper" / name).open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    return frame.assign(bayesian=frame.bayesian == "yes") if "bayesian" in frame else frame
