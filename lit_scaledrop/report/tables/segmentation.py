"""Table V: segmentation by topology, data set and method: the paper's seven metrics and what goes beyond them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import (
    ORDER,
    TOPOLOGIES,
    caption,
    data_name,
    epochs_heading,
    identity,
    ids_of,
    one_profile,
    t_interval,
)
from lit_scaledrop.report.measures import over_runs, percent
from lit_scaledrop.report.table import RESULT_IDS, Column, Report, Section, bits, mean_column, number, spread, text
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

PAPERS = {
    "pixel_acc": percent("seg/acc"),
    **{name: percent(f"seg/{name}") for name in ("iou", "auc", "f1", "sensitivity", "specificity", "precision")},
}
"""The seven of the paper, over all pixels."""
BEYOND = {
    "image_iou": percent("seg/image_iou"),
    "image_dice": percent("seg/image_dice"),
    "error_auroc": percent("err/auroc"),
    "pavpu": percent("err/pavpu"),
    "ece": percent("cal/ece"),
    "mean_mask_iou": percent("seg/mean_mask_iou"),
}
BEYOND = {name: replace(measure, optional=True) for name, measure in BEYOND.items()}  # FP has no samples to disagree
_KEY = ["topology", "dataset", "method", "bits_w", "bits_a"]
_VARIES = ("seed", "fold")
"""Arguments of the data that make other runs of one row, not another setting."""
_FROM_DATA = ("num_classes", "in_channels", "image_size")
"""Arguments of the model that follow from the data; results of earlier versions have the model's defaults there."""


def table5(results: Sequence[Result], paper: pd.DataFrame) -> Report:
    """Table V, a section a data set, a line a topology and method.

    Args:
        results: of segmentation, one profile and study.
        paper: columns topology, dataset, method, bits_w, bits_a, the seven of :data:`PAPERS` in per cent, source.

    Raises:
        ValueError: no results, or results of several profiles or studies, or of another task.
    """
    one_profile(results)
    if others := sorted(result.id for result in results if "seg/iou" not in result.metrics):
        raise ValueError(f"no metric seg/iou in the results {', '.join(others)}; Table V is of segmentation")
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in sorted(results, key=lambda result: result.id):
        data = (result.data["stand_in"], result.data["name"], result.data["fingerprint"])
        groups.setdefault((*data, result.training["epochs"]), []).append(result)
    notes: list[str] = []
    sections = [_section(group, paper, notes) for _, group in sorted(groups.items())]
    notes += [
        "All in per cent of pixels, of the lesion; means of images count an image without lesion in truth and "
        "prediction as 100. Sensitivity, specificity and precision are at the most probable class.",
        "The paper does not say how it split its data; ours are split as the data modules say (the challenge's own "
        "split, groups of near-duplicates, folds), at another image size, so there is no column of differences.",
    ]
    frame = pd.concat([section.frame for section in sections], ignore_index=True)
    return Report("Table V: segmentation", sections, notes, frame.drop(columns=RESULT_IDS))


def _section(results: list[Result], paper: pd.DataFrame, notes: list[str]) -> Section:
    first = results[0]
    name = data_name(first)
    rows: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        topology = TOPOLOGIES.get(result.network, result.network)
        rows.setdefault((topology, name, result.label, result.bits_w, result.bits_a), []).append(result)
    shown = {key: _newest(key, runs, notes) for key, runs in rows.items()}
    heads = [
        dict(zip(_KEY, key, strict=True)) | {"n": len(runs), "runs": _names(runs), RESULT_IDS: ids_of(runs)}
        for key, runs in shown.items()
    ]
    ours = pd.DataFrame(heads).join(over_runs(shown.values(), PAPERS | BEYOND))
    papers = paper.rename(columns={column: f"paper_{column}" for column in PAPERS})
    frame = papers[papers.dataset == name].merge(ours, on=_KEY, how="outer")
    order = frame.assign(
        _topology=frame.topology.map(ORDER),
        _method=frame.method.map({"FP": 0, "MC-Dropout": 1, "Proposed": 9}).fillna(5),
    ).sort_values(["_topology", "_method", "method"], kind="stable")
    frame = order.drop(columns=["_topology", "_method"]).assign(**identity(first), epochs=first.training["epochs"])
    used = [run for runs in shown.values() for run in runs]
    sizes = sorted({run.config["data"]["init_args"].get("image_size", 128) for run in used})
    numbers = (
        f"Images of {' or '.join(map(str, sizes))} pixels a side. Mean ± sample standard deviation over n runs, in "
        "brackets the paper's."
    )
    below = [*caption(used, numbers), *_intervals(list(shown.values()))]
    return Section(epochs_heading(first), frame.astype({"n": "Int64"}), _columns(), below)


def _intervals(rows: list[list[Result]]) -> list[str]:
    """What repetitions say of the mean IoU, and of differences to FP on the same seeds and folds."""
    means, differences = [], []
    ious = [{_place(run): 100 * run.metrics["seg/iou"] for run in runs} for runs in rows]
    references = {runs[0].network: of_run for runs, of_run in zip(rows, ious, strict=True) if runs[0].method == "fp"}
    for runs, of_run in sorted(zip(rows, ious, strict=True), key=lambda row: row[0][0].label):
        if len(of_run) < 2:
            continue
        name = f"{TOPOLOGIES.get(runs[0].network, runs[0].network)} {runs[0].label}"
        means.append(f"{name} {{:.1f}} ({{:.1f}} to {{:.1f}})".format(*t_interval(list(of_run.values()))))
        reference = references.get(runs[0].network, {})
        both = sorted(reference.keys() & of_run.keys())
        if runs[0].method != "fp" and len(both) > 1:
            paired = t_interval([of_run[place] - reference[place] for place in both])
            differences.append(f"{name} {{:+.1f}} ({{:+.1f}} to {{:+.1f}})".format(*paired))
    lines = [f"Mean IoU over runs, with its 95 % interval (Student's t): {'; '.join(means)}."] if means else []
    if differences:
        lines.append(f"IoU less FP's on the same seed and fold, paired: {'; '.join(differences)}.")
    if lines and len({fold for of_run in ious for _, fold in of_run}) > 1:
        lines[-1] += " Folds share training images, which makes these intervals narrow."
    return lines


def _newest(key: tuple[Any, ...], runs: list[Result], notes: list[str]) -> list[Result]:
    """Runs of the newest setting, one a seed and fold; a note names what is left out."""
    runs = sorted(runs, key=lambda run: (run.provenance["finished"], run.id))
    setting = _setting(runs[-1])
    chosen = {_place(run): run for run in runs if _setting(run) == setting}
    shown = [chosen[place] for place in sorted(chosen)]
    if left_out := [run.id for run in runs if run not in shown]:
        notes.append(f"{key[0]}, {key[2]} on {key[1]}: older runs are left out ({', '.join(left_out)}).")
    return shown


def _setting(run: Result) -> str:
    config = json.loads(json.dumps({**run.config, "seed_everything": None}))
    for name in _VARIES:
        config["data"]["init_args"].pop(name, None)
    for name in _FROM_DATA:
        config["model"]["init_args"].pop(name, None)
    config.get("trainer", {}).pop("max_time", None)
    return json.dumps(config, sort_keys=True)


def _place(run: Result) -> tuple[int, int]:
    return run.seed, run.config["data"]["init_args"].get("fold") or 0


def _names(runs: list[Result]) -> str:
    """Seeds of the runs, and the folds of each.

    >>> _names([])
    ''
    """
    seeds = sorted({run.seed for run in runs})
    folds = sorted({place[1] for place in map(_place, runs)})
    several = len(folds) > 1
    return f"seeds {' '.join(map(str, seeds))}" + f", folds {' '.join(map(str, folds))}" * several if seeds else ""


def _columns() -> dict[str, Column]:
    columns = {"topology": text("topology"), "method": text("method"), "bits": bits()}
    for name, measure in PAPERS.items():
        columns[name] = Column(METRICS[measure.metric].title, lambda row, name=name: _beside(row, name))  # type: ignore[misc]
    for name, measure in BEYOND.items():
        columns[name] = mean_column(name, METRICS[measure.metric].title)
    return columns | {"n": number("n", "n", ".0f")}


def _beside(row: dict[Any, Any], name: str) -> str:
    """Ours, and the paper's number in brackets."""
    ours = spread(row.get(name, float("nan")), row.get(f"{name}_std", float("nan")))
    papers = row.get(f"paper_{name}")
    return f"{ours} ({papers:.2f})".strip() if papers is not None and not pd.isna(papers) else ours
