"""Table IX: which test images the OOD rule accepts, and how often the network is right on them."""

from collections.abc import Sequence

import pandas as pd

from lit_scaledrop.report.groups import ATOM_NOTE, KEY, by_row
from lit_scaledrop.report.measures import Measure, lines, percent
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import RUNS, Column, Row, number, spread, text
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

QUANTITIES = {
    "accept": percent("sel/accept", "accepted (%)", suite="clean"),
    "reject": percent("sel/reject", "rejected (%)", suite="clean"),
    "tpr": percent("sel/tpr", "TPR (%): correct predictions that are accepted", suite="clean"),
    "tnr": percent("sel/tnr", "TNR (%): wrong predictions that are rejected", suite="clean"),
    "ar": percent("sel/ar", "AR (%): accepted predictions that are correct", suite="clean"),
    "accuracy": percent("cls/acc", "accuracy (%), nothing rejected", suite="clean"),
    "aurc": percent("sel/aurc", "AURC (%): mean error over all coverages", suite="clean"),
    "coverage": percent("sel/coverage_at_risk_5", "coverage (%) at 5 % error", suite="clean"),
    "ece": percent("cal/ece", "ECE (%)", suite="clean"),
    "adaptive_ece": percent("cal/adaptive_ece", "adaptive ECE (%)", suite="clean"),
}
"""Rows of a topology; the first five are the paper's."""


def _chosen(metric: str, header: str, **where: str) -> Measure:
    return Measure(metric, header, {"suite": "clean", **where}, METRICS[metric].unit == "1", optional=True)


_SECOND = {"rule": "validation"}
_TEMPERED = {"condition": "tempered"}
CHOSEN = {
    "accept_validation": _chosen("sel/accept", "accepted (%), second rule", **_SECOND),
    "tpr_validation": _chosen("sel/tpr", "TPR (%), second rule", **_SECOND),
    "tnr_validation": _chosen("sel/tnr", "TNR (%), second rule", **_SECOND),
    "ar_validation": _chosen("sel/ar", "AR (%), second rule", **_SECOND),
    "threshold_validation": _chosen("sel/threshold", "threshold of the second rule (%)", **_SECOND),
    "nll": _chosen("cls/nll", "NLL (nats)"),
    "nll_tempered": _chosen("cls/nll", "NLL (nats), temperature scaled", **_TEMPERED),
    "ece_tempered": _chosen("cal/ece", "ECE (%), temperature scaled", **_TEMPERED),
    "temperature": _chosen("cal/temperature", "temperature", **_TEMPERED),
}
"""Rows of what is chosen on the validation split, and what they are read beside; old results lack them."""
LACKING = "not measured"
_MEASURES = QUANTITIES | CHOSEN


def _lines(results: Sequence[Result], notes: list[str]) -> pd.DataFrame:
    wide = lines(by_row(list(results), notes), _MEASURES)
    head = [name for name in wide if str(name).removesuffix("_std") not in _MEASURES]
    chosen = CHOSEN if wide.accept_validation.notna().any() else {}
    shown = [*QUANTITIES, *chosen]
    long = [wide[head].assign(quantity=name, ours=wide[name], ours_std=wide[f"{name}_std"]) for name in shown]
    return pd.concat(long).sort_index(kind="stable").reset_index(drop=True)


def _arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """A topology's own quantities behind the paper's five."""
    place = {quantity: number for number, quantity in enumerate(_MEASURES)}
    group = frame.groupby(list(KEY), sort=False).ngroup()
    return frame.assign(_group=group, _place=frame.quantity.map(place)).sort_values(["_group", "_place"], kind="stable")


def _ours(row: Row) -> str:
    measured = spread(row["ours"], row["ours_std"], 3 if row["quantity"] in ("nll", "nll_tempered") else 2)
    return measured or (LACKING if row["quantity"] in CHOSEN and row["n"] == row["n"] else "")


TABLE9 = TableSpec(
    "Table IX: selective prediction on the test images",
    QUANTITIES,
    [
        text("topology"),
        text("method"),
        Column("quantity", lambda row: _MEASURES[row["quantity"]].header, left=True, name="quantity"),
        Column("{data} (ours)", _ours, name="ours"),
        number("paper", "CIFAR-10 (paper)", ".2f"),
        number("difference", "difference", "+.2f"),
        RUNS,
    ],
    [*KEY, "n", "seeds", "epochs", "quantity", "ours", "ours_std", "paper", "difference"],
    row=[*KEY, "quantity"],
    renamed={"percent": "paper"},
    differences={"difference": ("ours", "paper")},
    lines=_lines,
    arrange=_arrange,
    notes=[
        "The paper's definitions: accepted is what the rule does not call out of distribution; TPR, TNR, AR as in "
        "the rows.",
        "The paper's row of ResNet-20 contradicts its accuracy of 86 %: accepted times AR is the share of images "
        "that are accepted and correct, divided by TPR the accuracy, 41.00 % x 99.12 % / 59.24 % = 68.6 %. It is "
        "shown as printed.",
        ATOM_NOTE,
        "The second rule's threshold accepts 95 % of the validation images; the temperature divides the logits of "
        "each pass and minimizes the NLL of the validation split. Nothing is selected on test images.",
    ],
)
