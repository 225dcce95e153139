"""Finds the swept settings of trainings from their results: one row per combination of values, over seeds."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import (
    by_data,
    caption,
    data_name,
    epochs_heading,
    identity,
)
from lit_scaledrop.report.measures import Measure, head, mean_columns, over_runs, percent
from lit_scaledrop.report.table import RESULT_IDS, RUNS, Column, Report, Section, mean_column, named, text
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

PARAMETERS = {
    "model.p": "drop probability p",
    "model.drop_value": "dropped scale",
    "model.mask": "mask",
    "model.mask_per": "mask in training",
    "model.scale_placement": "scale",
    "model.scale_bias": "affine",
    "model.scale_start": "start",
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
MEASURES = {
    "accuracy": percent("cls/acc", "{data} test accuracy (%)"),
    "nll": Measure("cls/nll", "NLL", percent=False, digits=3, optional=True),
    "ece": Measure("cal/ece", "ECE", percent=False, digits=3, optional=True),
    "mutual_information": Measure(
        "unc/mutual_information", "mutual information (nats)", percent=False, digits=4, optional=True
    ),
}
OF_MASKS = {
    "iou": percent("seg/iou", "{data} test IoU (%)"),
    "nll": Measure("seg/nll", "NLL", percent=False, digits=3, optional=True),
    **{name: MEASURES[name] for name in ("ece", "mutual_information")},
}
"""The same where the runs are of segmentation."""


def _titles(validation: str, measures: Mapping[str, Measure]) -> dict[str, str]:
    return {"validation": f"Validation {validation} (%)"} | {
        name: METRICS[measure.metric].heading("" if "information" in name else "Test")
        for name, measure in measures.items()
    }


QUANTITIES = _titles("accuracy", MEASURES)
"""Title of what is shown of a row, in order."""
MASK_QUANTITIES = _titles("IoU", OF_MASKS)
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


def settings_frame(
    runs: Sequence[Result], names: Sequence[str], notes: list[str]
) -> tuple[pd.DataFrame, list[list[Result]]]:
    """A row for each combination of the settings `names`, in their order, and the runs of each."""
    found = rows(runs, names, notes)
    order = sorted(found, key=lambda key: [_place(json.loads(value)) for value in key])
    values = [dict(zip(names, map(json.loads, key), strict=True)) for key in order]
    return pd.DataFrame(values, index=range(len(order))), [found[key] for key in order]


def sweep_frame(runs: Sequence[Result], names: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """One row a combination of values, in their order; the best one by the validation split is marked."""
    values, shown = settings_frame(runs, names, notes)
    frame = with_validation(values, shown)
    measures = OF_MASKS if "val_iou" in runs[0].training else MEASURES
    frame = frame.join(over_runs(shown, measures)).join(pd.DataFrame(map(head, shown)))
    frame["best"] = [place == frame.validation.idxmax() for place in frame.index]
    return frame


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
    masks = "iou" in frame
    return named(
        *(setting_column(frame, name) for name in names),
        mean_column("validation", f"validation {'IoU' if masks else 'accuracy'} (%)"),
        Column("best", lambda row: "best" if row["best"] else "", left=True, name="best"),
        *mean_columns(OF_MASKS if masks else MEASURES, data).values(),
        RUNS,
        text("seeds"),
    )


def setting_column(frame: pd.DataFrame, name: str) -> Column:
    """The column of a setting, which says what the numbers of a list are of."""
    of = f" ({', '.join(word.partition(' ')[0] for word in CLASSES[name])})" if name in CLASSES else ""
    has_lists = frame[name].map(lambda value: isinstance(value, list)).any()
    return Column(label(name) + (of if has_lists else ""), lambda row: show_value(row[name]), left=True, name=name)


_ABOUT = (
    "Mean ± sample standard deviation over n seeds. Best: on the validation split; nothing is selected on test images."
)
Frame = Callable[[Sequence[Result], Sequence[str], list[str]], pd.DataFrame]
Columns = Callable[[pd.DataFrame, Sequence[str], str], dict[str, Column]]


def sweep_table(
    results: Sequence[Result],
    title: str,
    frame_of: Frame = sweep_frame,
    columns_of: Columns = _columns,
    about: str = _ABOUT,
) -> Report:
    """The table of a sweep of trainings.

    Args:
        results: of one profile.
        title: of the table.
        frame_of: runs, swept settings and notes to add to -> rows, which begin with the settings.
        columns_of: rows, swept settings and name of the data -> columns.
        about: what the caption says of the numbers.

    Raises:
        ValueError: no results, results of several profiles, or of something that was not trained here.
    """
    notes: list[str] = []
    sections, frames = [], []
    for group in by_data(results):
        names = swept(group)
        frame = frame_of(group, names, notes)
        columns = columns_of(frame, names, data_name(group[0]))
        sections.append(Section(epochs_heading(group[0]), frame, columns, caption(group, about)))
        named = frame.assign(**identity(group[0]))
        frames.append(named.rename(columns={name: name.partition(".")[2] for name in names}))
    data = pd.concat(frames, ignore_index=True)
    first = list(identity(results[0]))
    return Report(title, sections, notes, data[first + [name for name in data if name not in (*first, RESULT_IDS)]])


def with_validation(frame: pd.DataFrame, rows: Sequence[Sequence[Result]]) -> pd.DataFrame:
    """Lines with the validation accuracy, or IoU, of their runs, mean and sample standard deviation.

    Raises:
        ValueError: a run was not trained with one.
    """
    scores = [[run.training.get("val_acc", run.training.get("val_iou")) for run in runs] for runs in rows]
    if any(score is None for of_runs in scores for score in of_runs):
        raise ValueError("the results have no validation accuracy; a sweep's table needs runs of `scaledrop fit`")
    values = [100 * pd.Series(of_runs, dtype=float) for of_runs in scores]
    means, deviations = [of_runs.mean() for of_runs in values], [of_runs.std() for of_runs in values]
    return frame.assign(validation=means, validation_std=deviations)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _place(value: Any) -> tuple[Any, ...]:
    """Order of values: nothing, words, numbers, lists."""
    kinds = (value is None, isinstance(value, str), not isinstance(value, list), True)
    return kinds.index(True), "" if value is None else value
