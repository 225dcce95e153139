"""Table V: segmentation by topology, data set and method: the paper's seven metrics and additional ones."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lit_scaledrop.report.groups import ORDER, by_row, data_name, one_profile, seed_of, t_interval
from lit_scaledrop.report.measures import lines, percent
from lit_scaledrop.report.spec import TableSpec
from lit_scaledrop.report.table import BITS, RUNS, Column, Row, mean_column, spread, text
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


def _groups(results: Sequence[Result]) -> list[list[Result]]:
    """Results on one data set after as many epochs; folds of it may differ in their numbers of images."""
    one_profile(results)
    if others := sorted(result.id for result in results if "seg/iou" not in result.metrics):
        raise ValueError(f"no metric seg/iou in the results {', '.join(others)}; Table V is of segmentation")
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in sorted(results, key=lambda result: result.id):
        data = (result.data["stand_in"], result.data["name"], result.data["fingerprint"])
        groups.setdefault((*data, result.training["epochs"]), []).append(result)
    return [group for _, group in sorted(groups.items())]


def _lines(results: Sequence[Result], notes: list[str]) -> pd.DataFrame:
    shown = by_row(results, notes, _setting)
    frame = lines(shown, PAPERS | BEYOND).assign(dataset=data_name(results[0]))
    return frame.assign(runs=[_names(runs) for runs in shown.values()])


def _arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """Lines of this data set by topology and method, FP first and ours last."""
    ranks = {"FP": 0, "MC-Dropout": 1, "Proposed": 9}
    frame = frame[frame.dataset.isin(frame.dataset[frame.n.notna()])]
    order = frame.assign(_topology=frame.topology.map(ORDER), _rank=frame.method.map(ranks).fillna(5))
    return order.sort_values(["_topology", "_rank", "method"], kind="stable").drop(columns=["_topology", "_rank"])


def _numbers(runs: Sequence[Result]) -> str:
    sizes = sorted({run.config["data"]["init_args"].get("image_size", 128) for run in runs})
    return (
        f"Images of {' or '.join(map(str, sizes))} pixels a side. Mean ± sample standard deviation over n runs, the "
        f"paper's in brackets."
    )


def _intervals(used: Sequence[Result]) -> list[str]:
    """What repetitions say of the mean IoU, and of differences to FP on the same seeds and folds."""
    rows = list(by_row(used, [], _setting).values())
    means, differences = [], []
    ious = [{seed_of(run): 100 * run.metrics["seg/iou"] for run in runs} for runs in rows]
    references = {runs[0].network: of_run for runs, of_run in zip(rows, ious, strict=True) if runs[0].method == "fp"}
    for runs, of_run in sorted(zip(rows, ious, strict=True), key=lambda row: row[0][0].label):
        if len(of_run) < 2:
            continue
        name = f"{runs[0].topology} {runs[0].label}"
        means.append(f"{name} {{:.1f}} ({{:.1f}} to {{:.1f}})".format(*t_interval(list(of_run.values()))))
        reference = references.get(runs[0].network, {})
        both = sorted(reference.keys() & of_run.keys())
        if runs[0].method != "fp" and len(both) > 1:
            paired = t_interval([of_run[place] - reference[place] for place in both])
            differences.append(f"{name} {{:+.1f}} ({{:+.1f}} to {{:+.1f}})".format(*paired))
    lines = [f"Mean IoU over runs, with its 95 % interval (Student's t): {'; '.join(means)}."] if means else []
    if differences:
        lines.append(f"IoU minus FP's on the same seed and fold, paired: {'; '.join(differences)}.")
    if lines and len({fold for of_run in ious for _, fold in of_run}) > 1:
        lines[-1] += " Folds share training images, which makes these intervals too narrow."
    return lines


def _setting(run: Result) -> str:
    config = json.loads(json.dumps({**run.config, "seed_everything": None}))
    for name in _VARIES:
        config["data"]["init_args"].pop(name, None)
    for name in _FROM_DATA:
        config["model"]["init_args"].pop(name, None)
    config.get("trainer", {}).pop("max_time", None)
    return json.dumps(config, sort_keys=True)


def _names(runs: Sequence[Result]) -> str:
    """Seeds of the runs, and the folds of each."""
    seeds, folds = (sorted({place[kind] for place in map(seed_of, runs)}) for kind in (0, 1))
    return f"seeds {' '.join(map(str, seeds))}" + f", folds {' '.join(map(str, folds))}" * (len(folds) > 1)


def _beside_paper(name: str) -> Column:
    """Ours, and the paper's number in brackets."""

    def cell(row: Row) -> str:
        ours, papers = spread(row[name], row[f"{name}_std"]), row.get(f"paper_{name}")
        return ours if pd.isna(papers) else f"{ours} ({papers:.2f})".strip()

    return Column(METRICS[PAPERS[name].metric].title, cell, name=name)


TABLE5 = TableSpec(
    "Table V: segmentation",
    PAPERS | BEYOND,
    [
        text("topology"),
        text("method"),
        BITS,
        *map(_beside_paper, PAPERS),
        *(mean_column(name, METRICS[measure.metric].title) for name, measure in BEYOND.items()),
        RUNS,
    ],
    [*_KEY, *(f"paper_{name}" for name in PAPERS), "source", "n", "runs"]
    + [name for measure in PAPERS | BEYOND for name in (measure, f"{measure}_std")]
    + ["epochs"],
    row=_KEY,
    renamed={name: f"paper_{name}" for name in PAPERS},
    lines=_lines,
    arrange=_arrange,
    numbers=_numbers,
    groups=_groups,
    below=_intervals,
    notes=[
        "All in per cent, for lesion pixels; means over images count an image without lesion in truth and prediction "
        "as 100. Sensitivity, specificity and precision are at the most probable class.",
        "The paper does not say how it split its data; ours are split as the data modules say (the challenge's own "
        "split, groups of near-duplicates, folds), at another image size, so there is no column of differences.",
    ],
)
