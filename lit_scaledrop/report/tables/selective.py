"""Table IX: which test images the OOD rule accepts, and how often the network is right on them."""

from collections.abc import Sequence

import pandas as pd

from lit_scaledrop.report.groups import KEY, by_row, data_name
from lit_scaledrop.report.measures import lines, percent
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import Column, mean_column, number, text
from lit_scaledrop.results.result import Result

QUANTITIES = {
    "accept": percent("sel/accept", "accepted (%)", suite="clean"),
    "reject": percent("sel/reject", "rejected (%)", suite="clean"),
    "tpr": percent("sel/tpr", "TPR (%): right predictions that are accepted", suite="clean"),
    "tnr": percent("sel/tnr", "TNR (%): wrong predictions that are rejected", suite="clean"),
    "ar": percent("sel/ar", "AR (%): accepted predictions that are right", suite="clean"),
    "accuracy": percent("cls/acc", "accuracy (%), nothing rejected", suite="clean"),
    "aurc": percent("sel/aurc", "AURC (%): mean error over all coverages", suite="clean"),
    "coverage": percent("sel/coverage_at_risk_5", "coverage (%) at 5 % error", suite="clean"),
    "ece": percent("cal/ece", "ECE (%)", suite="clean"),
    "adaptive_ece": percent("cal/adaptive_ece", "adaptive ECE (%)", suite="clean"),
}
"""Rows of a topology; the first five are the paper's."""


def _lines(results: Sequence[Result], notes: list[str]) -> pd.DataFrame:
    wide = lines(by_row(list(results), notes), QUANTITIES)
    head = [name for name in wide if str(name).removesuffix("_std") not in QUANTITIES]
    long = [wide[head].assign(quantity=name, ours=wide[name], ours_std=wide[f"{name}_std"]) for name in QUANTITIES]
    return pd.concat(long).sort_index(kind="stable").reset_index(drop=True)


def _arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """A topology's own quantities behind the paper's five."""
    place = {quantity: number for number, quantity in enumerate(QUANTITIES)}
    group = frame.groupby(list(KEY), sort=False).ngroup()
    return frame.assign(_group=group, _place=frame.quantity.map(place)).sort_values(["_group", "_place"], kind="stable")


def _columns(_: pd.DataFrame, runs: Sequence[Result], comparable: bool) -> dict[str, Column]:
    columns = {
        "topology": text("topology"),
        "method": text("method"),
        "quantity": Column("quantity", lambda row: QUANTITIES[row["quantity"]].header, left=True),
        "ours": mean_column("ours", f"{data_name(runs[0])} (ours)"),
        "paper": number("paper", "CIFAR-10 (paper)", ".2f"),
    }
    if comparable:
        columns["difference"] = number("difference", "difference", "+.2f")
    return columns | {"n": number("n", "n", ".0f")}


TABLE9 = TableSpec(
    "Table IX: selective prediction on the test images",
    QUANTITIES,
    _columns,
    [*KEY, "n", "seeds", "epochs", "quantity", "ours", "ours_std", "paper", "difference"],
    row=[*KEY, "quantity"],
    renamed={"percent": "paper"},
    differences={"difference": ("ours", "paper")},
    lines=_lines,
    arrange=_arrange,
    notes=[
        "The paper's words: accepted is what the rule does not call out-of-distribution; TPR, TNR, AR as in the rows.",
        "The paper's row of ResNet-20 contradicts its accuracy of 86 %: accepted times AR is the share of images that "
        "are accepted and right, and divided by TPR the share that is right, 41.00 % x 99.12 % / 59.24 % = 68.6 %. It "
        "is shown as it is printed.",
    ],
)
