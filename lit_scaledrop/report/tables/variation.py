"""Table IV: accuracy under variation of drop probabilities, for networks trained with and without it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import KEY, ORDER, by_row, rule_sentence
from lit_scaledrop.report.measures import EVERY, Measure, lines, mean_columns, percent, plain
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import RUNS, Row, mean_column, number, text
from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.result import Result

SIGMAS = {"0.02": "sigma_1", "0.05": "sigma_2", "0.1": "sigma_3"}
"""Our standard deviations in place of the paper's three, in their order."""
BASELINE, WITH, WITHOUT = "baseline", "trained with variation", "trained without variation"
ASKED = ("nominal", "use")
"""Condition of the masks: without variation, or drawn anew at each use; a run has one of the two."""
MEASURES = {
    "accuracy": percent("cls/acc", "{data} accuracy (ours, %)", condition=ASKED),
    "nll": plain("cls/nll", "NLL", condition=ASKED),
    "ece": plain("cal/ece", "ECE", condition=ASKED),
    "rejected": percent("ood/rate", "noise rejected (%)", condition=ASKED, suite="uniform"),
    "clean_rejected": percent("ood/rate", "test images rejected (%)", condition=ASKED),
    "chips": percent("cls/acc", chip=EVERY),
    "worst": Measure("cls/acc", where={"chip": EVERY}, combine="min"),
}


def condition_of(run: Result) -> tuple[str, str]:
    """How a run was trained and asked, and the sigma or device that it was asked with."""
    trained, asked = trained_and_asked(run)
    if not trained:
        return (WITHOUT, asked) if asked else (BASELINE, "")
    return (WITH if trained == asked else f"trained with {trained}, evaluated with {asked or 'none'}"), asked


def trained_and_asked(run: Result) -> tuple[str, str]:
    """The sigma or device that a run was trained with, and that it was asked with; empty for none."""
    trained = ""
    for callback in run.config.get("trainer", {}).get("callbacks") or []:
        about = callback.get("init_args", {})
        if callback["class_path"].endswith(".MTJVariation") and about["when"] != "eval":
            trained = _named({**about, "chip": about["seed"] if about["redraw"] == "chip" else None})
    variation = run.evaluation.get("variation")
    return trained, _named(variation) if variation else ""


def _named(variation: Mapping[str, Any]) -> str:
    name = str(variation["device"] or f"{variation['sigma']:g}")
    if fingerprint := variation.get("device_fingerprint"):
        name += f" ({fingerprint})"
    if kelvin := variation.get("temperature_k"):
        name += f" at {kelvin:g} K"
    if drift := variation.get("drift"):
        name += f" aged by {drift:+.2%}"
    if draws := variation.get("calibration"):
        bits = f", {variation['dac_bits']} bits" if variation["dac_bits"] else ""
        name += f", calibrated{' again' if variation['recalibrate'] else ''} by {draws} draws{bits}"
    if correlation := variation.get("correlation"):
        name += f", correlation {correlation:g}"
    truncated = ", truncated" if variation["within"] == "truncated" else ""
    return name + truncated + (f", chip {variation['chip']}" if variation["chip"] is not None else "")


def _lines(results: Sequence[Result], notes: list[str]) -> pd.DataFrame:
    shown = by_row(results, notes, split=condition_of)
    accuracy = MEASURES["accuracy"].values(measurements(results))
    nominal = {
        (*key[:-2], run.seed): accuracy.get(run.id, float("nan"))
        for key, runs in shown.items()
        if key[-2] == BASELINE
        for run in runs
    }
    frame = lines(shown, MEASURES, ("condition", "sigma"))
    # of the same seeds; without a number where one of them has no baseline
    theirs = pd.Series(
        [
            sum(nominal.get((*key[:-2], run.seed), float("nan")) for run in runs) / len(runs)
            for key, runs in shown.items()
        ]
    ).where(frame.condition != BASELINE)
    frame["level"] = [SIGMAS.get(sigma, sigma) for sigma in frame.sigma]
    return frame.assign(change=frame.accuracy - theirs, chips_change=frame.chips - theirs)


def _arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """Lines by topology, condition and sigma; the paper's have ours in place of its own."""
    frame["sigma"] = frame.sigma.fillna(frame.level.map({level: sigma for sigma, level in SIGMAS.items()})).fillna("")
    places = [_place(row) for row in frame.to_dict("records")]
    return frame.iloc[sorted(range(len(frame)), key=places.__getitem__)]


def _place(row: Row) -> tuple[Any, ...]:
    ranks = (ORDER, {BASELINE: 0, WITH: 1, WITHOUT: 2}, {level: rank for rank, level in enumerate(SIGMAS.values())})
    names = ("topology", "condition", "level")
    order = [(rank.get(row[name], len(rank)), row[name]) for name, rank in zip(names, ranks, strict=True)]
    return order[0], row["method"], *order[1:]


def _numbers(runs: Sequence[Result]) -> str:
    noise = [run.evaluation["suites"]["uniform"]["images"] for run in runs if "uniform" in run.evaluation["suites"]]
    images = f" Uniform noise: {noise[0]} images." if noise else ""
    return f"Mean ± sample standard deviation over n seeds. {rule_sentence(runs)}{images}"


_NOTES = [
    "The paper's three sigmas are missing in our copy. Its rows are matched to ours in order: 0.02, 0.05, 0.10.",
    "Accuracy: p is redrawn for each pass and layer (eq. 24). A mask is then a bit with the mean p, so this has "
    "little effect except where p is clipped at 0 and 1. On a simulated chip the deviations of p are fixed: the "
    "{chips} chips are the harder case, mean and worst.",
    "Change: against our baseline, seed by seed, with the same random numbers behind the masks. The same network "
    "evaluated with variation differs only by its masks. A network trained with variation is another training, which "
    "differs from the baseline as two seeds do: a change smaller than the spread over seeds is not significant.",
]

_MEANS = mean_columns(MEASURES)
_BESIDE = ("change", "chips_change", "paper", "difference", "source")
_NUMBERS = [name for quantity in MEASURES for name in (quantity, f"{quantity}_std")]
TABLE4 = TableSpec(
    "Table IV: variation of drop probabilities",
    MEASURES,
    [
        text("topology"),
        text("condition"),
        text("sigma", "sigma or device"),
        _MEANS.pop("accuracy"),
        number("paper", "CIFAR-10 accuracy (paper, %)", ".2f", source="source"),
        number("difference", "difference (points)", "+.2f"),
        number("change", "change (points)", "+.2f"),
        mean_column("chips", "{chips}, mean (%)"),
        mean_column("worst", "worst chip (%)"),
        *_MEANS.values(),
        RUNS,
    ],
    [*KEY, "n", "seeds", "epochs", "condition", "level", "sigma", *_NUMBERS, *_BESIDE],
    row=[*KEY, "condition", "level"],
    renamed={"accuracy_percent": "paper"},
    differences={"difference": ("accuracy", "paper")},
    lines=_lines,
    arrange=_arrange,
    numbers=_numbers,
    notes=_NOTES,
)
