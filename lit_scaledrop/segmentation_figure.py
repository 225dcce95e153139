"""``scaledrop figure8``: images, truth, predictions and uncertainty of Table V's networks, side by side.

For each topology and data set of Table V two test images are shown, by their IoU under the full-precision network: the
one nearest to the median of the images with a lesion, and the one nearest to the lower quartile, so an ordinary and a
hard one. The networks are Table V's own runs (fold 0, seed 1); those without a checkpoint are trained first.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_scaledrop import provenance
from lit_scaledrop.cli import fit, plan_fit
from lit_scaledrop.evaluate import CheckpointError, evaluation_device, load_trained
from lit_scaledrop.evaluation import build_posterior
from lit_scaledrop.pixels import image_overlap
from lit_scaledrop.progress import with_progress
from lit_scaledrop.report.drawing import images as rendered
from lit_scaledrop.report.drawing import style
from lit_scaledrop.report.results import Result, write_atomic
from lit_scaledrop.report.segmentation import DATA_NAMES, TOPOLOGIES
from lit_scaledrop.run import find_network
from lit_scaledrop.segmentation_picture import Panel, draw
from lit_scaledrop.shapes import Float, Int

ROWS = ("unet/skin_lesion", "segnet/breast_ultrasound", "segnet/covid_ct.0")
METHODS = ("fp", "mc_dropout", "proposed")
QUANTILES = {"median": 0.5, "lower quartile": 0.25}


@dataclass(frozen=True)
class Segmented:
    """A network's prediction of a test set."""

    record: Result
    mask: Int[Tensor, "images height width"]
    entropy: Float[Tensor, "images height width"]
    """of the mean prediction, as a share of its maximum"""


def main(argv: list[str]) -> int:
    """Draw Figure 8 and write what is in it."""
    arguments = _parser().parse_args(argv)
    common = [*arguments.words, "--config", "segment.yaml", "--profile", arguments.profile, "--run.study=table5"]
    common += [f"--run.results={arguments.results}"]
    panels: list[Panel] = []
    shown: dict[str, Any] = {}
    for row in arguments.rows:
        data, segmented = _row(row, common)
        if (title := f"{_title(segmented)} [{data.fingerprint()}]") in shown:
            continue  # a stand-in for several data sets
        about = []
        for name, index in _chosen(segmented["fp"].mask, data.test_set.masks, data.num_classes).items():
            panels.append(_panel(data, segmented, index, f"{_title(segmented)}\n{name}"))
            about.append({"example": name, "image": data.test_set.names[index], **_numbers(data, segmented, index)})
        shown[title] = {"runs": {name: one.record.id for name, one in segmented.items()}, "examples": about}
    commit, dirty = provenance.commit()
    records = [one.record for one in segmented.values()]
    footer = (
        f"Profile {arguments.profile}; commit {commit[:10]}{' (dirty)' * dirty}. Test images by their IoU under the "
        "full-precision network: nearest to the median and to the lower quartile of the images with a lesion. Green: "
        "outline of the truth; white: predicted; red: wrong pixels. Uncertainty: entropy of the mean prediction as a "
        f"share of its maximum, T = {max(one.evaluation['samples'] for one in records)} for methods with passes."
    )
    with style():
        files = rendered(draw(panels), footer)
    stem = Path(arguments.results) / arguments.profile / "figure8"
    for form, content in files.items():
        write_atomic(stem.with_suffix(f".{form}"), content)
    record = {"figure": "figure8", "commit": commit, "dirty": dirty, "shown": shown}
    write_atomic(stem.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    print(f"Written: {', '.join(str(stem.with_suffix(end)) for end in ('.svg', '.png', '.json'))}", flush=True)
    return 0


def _row(row: str, common: list[str]) -> tuple[Any, dict[str, Segmented]]:
    """The data of a topology and data set, set up, and each method's prediction of its test images."""
    data: Any = None
    segmented: dict[str, Segmented] = {}
    network, name = row.split("/")
    for method in METHODS:
        words = [*common, f"--row={network}/{name}/{method}"]
        fit(words, need_network=True)
        plan = plan_fit(words)
        found = find_network(plan.run, plan.run_id, plan.evaluation.checkpoint)
        if found is None:
            raise CheckpointError(f"there is no checkpoint in {plan.run_dir / 'checkpoints'} after training")
        if data is None:
            data = plan.build().data
            data.setup("test")
        module = load_trained(found.checkpoint)
        device = evaluation_device(plan.resolved["trainer"].get("accelerator"))
        posterior = build_posterior(module.network.to(device), plan.evaluation)
        masks, entropies = [], []
        for images, target in with_progress(data.test_dataloader(), f"{row} {method}"):
            prediction = posterior(images.to(device)).cpu()
            masks.append(prediction.predicted_class.view_as(target))
            entropies.append((prediction.predictive_entropy / math.log(prediction.num_classes)).view(target.shape))
        segmented[method] = Segmented(found.record, torch.cat(masks), torch.cat(entropies).clamp(0, 1))
    return data, segmented


def _chosen(predicted: Tensor, truth: Tensor, classes: int) -> dict[str, int]:
    """Test images nearest to quantiles of the IoU, among those with a lesion; no image twice."""
    iou, _ = image_overlap(predicted, truth, classes)
    with_lesion = ((truth > 0) & (truth < classes)).flatten(1).any(1)
    chosen: dict[str, int] = {}
    for name, quantile in QUANTILES.items():
        distance = (iou - iou[with_lesion].quantile(quantile)).abs()
        distance[~with_lesion] = torch.inf
        distance[list(chosen.values())] = torch.inf
        chosen[name] = int(distance.argmin())
    return chosen


def _panel(data: Any, segmented: dict[str, Segmented], index: int, title: str) -> Panel:
    image = data.test_set.images[index]
    picture = image.expand(3, -1, -1) if len(image) == 1 else image
    return Panel(
        title,
        picture.movedim(0, -1).numpy(),
        data.test_set.masks[index].numpy().astype(np.uint8),
        {
            one.record.label: (one.mask[index].numpy().astype(np.uint8), one.entropy[index].numpy())
            for one in segmented.values()
        },
    )


def _numbers(data: Any, segmented: dict[str, Segmented], index: int) -> dict[str, Any]:
    truth = data.test_set.masks[index : index + 1]
    numbers = {}
    for name, one in segmented.items():
        iou, _ = image_overlap(one.mask[index : index + 1], truth, data.num_classes)
        numbers[name] = {"iou": round(iou.item(), 4), "mean_entropy_share": round(one.entropy[index].mean().item(), 4)}
    return numbers


def _title(segmented: dict[str, Segmented]) -> str:
    record = segmented["fp"].record
    name = record.data["name"]
    return f"{TOPOLOGIES.get(record.network, record.network)}, {DATA_NAMES.get(name, name)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scaledrop figure8", description=__doc__)
    parser.add_argument("--profile", default="quick", help="quick, cpu or paper (default: %(default)s)")
    parser.add_argument("--results", default="results", help="folder of the results (default: %(default)s)")
    parser.add_argument("--rows", nargs="+", default=ROWS, help="NETWORK/DATA pairs (default: those of Table V)")
    parser.add_argument("words", nargs="*", help="behind --: further flags of every fit")
    return parser


__all__: Sequence[str] = ["main"]
