"""What a sweep of trainings varied, found from its results: one row a combination of values, seeds together."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import (
    by_data,
    caption,
    data_name,
    epochs_heading,
    identity,
    ids_of,
    mean_and_std,
    seeds_of,
)
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Row, Section, mean_column, number, text
from lit_scaledrop.results.result import Result

PARAMETERS = {
    "model.p": "drop probability p",
    "model.drop_value": "dropped scale",
    "model.mask": "mask",
    "model.mask_per": "mask in training",
    "model.scale_placement": "scale",
    "model.lambda_scale": "weight of the scale term",
    "model.lambda_weight": "half the weight decay",
    "model.lr": "learning rate",
    "model.warmup_epochs": "warm-up (epochs)",
}
"""Name of a swept setting for people; others are called as on the command line."""
CLASSES = {"model.p": ("small layers", "middle layers", "large layers")}
"""What the numbers of a list-valued setting are of."""
LOGARITHMIC = ("model.lr", "model.lambda_scale", "model.lambda_weight")
"""Settings whose axis is logarithmic whatever their values."""
QUANTITIES = {
    "validation": ("Validation accuracy (%)", 100),
    "accuracy": ("Test accuracy (%)", 100),
    "nll": ("Test NLL (nats)", 1),
    "ece": ("Test ECE", 1),
    "mutual_information": ("Mutual information (nats)", 1),
}
"""Title and factor of what is shown of a row, in order."""
_METRICS = {
    "accuracy": "cls/acc",
    "nll": "cls/nll",
    "ece": "cal/ece",
    "mutual_information": "unc/mutual_information",
}
# neither a setting of the science nor one that only says where and how fast
_LEFT_OUT = {
    "data.root", "data.num_workers", "data.eval_batch_size", "data.seed", "evaluation.execution",
    "model.compile_network", "model.channels_last", "model.steps_per_call", "model.capture",
    "model.num_classes", "model.in_channels", "model.image_size",  # the last three: what the data says
}  # fmt: skip


def settings(run: Result) -> dict[str, Any]:
    """Settings of a run by their names on the command line."""
    groups = {
        "model": run.config.get("model", {}).get("init_args", {}),
        "data": (run.config.get("data") or {}).get("init_args") or {},
        "evaluation": run.config.get("evaluation") or {},
    }
    named = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    return {name: value for name, value in named.items() if name not in _LEFT_OUT}


def swept(runs: Sequence[Result]) -> list[str]:
    """Names of the settings in which the runs differ."""
    found = [settings(run) for run in runs]
    names = dict.fromkeys(name for values in found for name in values)
    return [name for name in names if len({_key(values.get(name)) for values in found}) > 1]


def rows(runs: Sequence[Result], names: Sequence[str], notes: list[str]) -> dict[tuple[str, ...], list[Result]]:
    """Runs by the values of the settings ``names``, one a seed and ordered by it; `notes` gets what is left out."""
    grouped: dict[tuple[str, ...], dict[int, Result]] = {}
    for run in sorted(runs, key=lambda run: (run.provenance["finished"], run.id)):
        values = settings(run)
        of_seed = grouped.setdefault(tuple(_key(values.get(name)) for name in names), {})
        if run.seed in of_seed:
            notes.append(f"Of two runs with seed {run.seed}, {run.id} is shown and {of_seed[run.seed].id} is left out.")
        of_seed[run.seed] = run
    return {key: [found[seed] for seed in sorted(found)] for key, found in grouped.items()}


def sweep_frame(runs: Sequence[Result], names: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """One row a combination of values, in their order; the best one by the validation split is marked."""
    lines = []
    for key, found in rows(runs, names, notes).items():
        line: Row = dict(zip(names, map(json.loads, key), strict=True))
        line["validation"], line["validation_std"] = _validation(found)
        for quantity, metric in _METRICS.items():
            factor = QUANTITIES[quantity][1]
            of_run = lambda metrics, k=metric, f=factor: f * metrics[k]  # noqa: E731
            line[quantity], line[f"{quantity}_std"] = mean_and_std(found, of_run)
        lines.append(
            line
            | {
                "n": len(found),
                "seeds": seeds_of(found),
                RESULT_IDS: ids_of(found),
                "epochs": found[0].training["epochs"],
            }
        )
    lines.sort(key=lambda line: [_place(line[name]) for name in names])
    frame = pd.DataFrame(lines)
    frame["best"] = [place == frame.validation.idxmax() for place in frame.index]
    return frame


def sweep_table(title: str, results: Sequence[Result]) -> Report:
    """The table of a sweep of trainings.

    Args:
        title: of the table.
        results: of one profile and study.

    Raises:
        ValueError: no results, results of several profiles, or of something that was not trained here.
    """
    notes: list[str] = []
    sections, frames = [], []
    for group in by_data(results):
        names = swept(group)
        frame = sweep_frame(group, names, notes)
        about = (
            "Mean ± sample standard deviation over n seeds. Best: by the validation split; test images choose nothing."
        )
        sections.append(
            Section(epochs_heading(group[0]), frame, _columns(frame, names, data_name(group[0])), caption(group, about))
        )
        head = frame.assign(**identity(group[0]))
        frames.append(head.rename(columns={name: name.partition(".")[2] for name in names}))
    data = pd.concat(frames, ignore_index=True)
    first = list(identity(results[0]))
    return Report(title, sections, notes, data[first + [name for name in data if name not in (*first, RESULT_IDS)]])


def show_value(value: Any) -> str:
    """A value for people.

    >>> show_value([0.1, 0.2, 0.5]), show_value(None), show_value(0.00012345), show_value("before_norm")
    ('0.1, 0.2, 0.5', 'default', '0.000123', 'before norm')
    """
    if value is None or value != value:  # a data frame turns None into NaN
        return "default"
    if isinstance(value, list):
        return ", ".join(map(show_value, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("_", " ")


def label(name: str) -> str:
    """A setting's name for people.

    >>> label("model.lr"), label("data.batch_size")
    ('learning rate', 'batch_size')
    """
    return PARAMETERS.get(name, name.partition(".")[2])


def _columns(frame: pd.DataFrame, names: Sequence[str], data: str) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name in names:
        of = f" ({', '.join(word.partition(' ')[0] for word in CLASSES[name])})" if name in CLASSES else ""
        has_lists = frame[name].map(lambda value: isinstance(value, list)).any()
        columns[name] = _setting(name, label(name) + (of if has_lists else ""))
    return columns | {
        "validation": mean_column("validation", "validation accuracy (%)"),
        "best": Column("best", lambda row: "best" if row["best"] else "", left=True),
        "accuracy": mean_column("accuracy", f"{data} test accuracy (%)"),
        "nll": mean_column("nll", "NLL", 3),
        "ece": mean_column("ece", "ECE", 3),
        "mutual_information": mean_column("mutual_information", "mutual information (nats)", 4),
        "n": number("n", "n", ".0f"),
        "seeds": text("seeds"),
    }


def _setting(name: str, header: str) -> Column:
    return Column(header, lambda row: show_value(row[name]), left=True)


def _validation(runs: Sequence[Result]) -> tuple[float, float]:
    values = pd.Series([run.training.get("val_acc", float("nan")) for run in runs], dtype=float) * 100
    if values.isna().any():
        raise ValueError("the results have no validation accuracy; a sweep's table is of runs of `scaledrop fit`")
    return values.mean(), values.std()


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _place(value: Any) -> tuple[Any, ...]:
    """Order of values: nothing, words, numbers, lists."""
    kinds = (value is None, isinstance(value, str), not isinstance(value, list), True)
    return kinds.index(True), "" if value is None else value
