"""``scaledrop figure8``: images, truth, predictions and uncertainty of Table V's networks, side by side.

For each topology and data set of Table V two test images are shown, by their IoU under the full-precision network: the
one nearest to the median of the images with a lesion, and the one nearest to the lower quartile, so an ordinary and a
hard one. The networks are Table V's own runs (fold 0, seed 1); those without a checkpoint are trained first.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_scaledrop.cli.command import call
from lit_scaledrop.cli.fit import plan_fit, trained_networks
from lit_scaledrop.deploy.segmented import Panel, draw
from lit_scaledrop.evaluation.checkpoint import load_trained
from lit_scaledrop.evaluation.evaluate import evaluation_device
from lit_scaledrop.functional.segmentation import image_overlap
from lit_scaledrop.posterior.evaluation import build_posterior
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.progress import with_progress
from lit_scaledrop.report.figures.style import footer, style
from lit_scaledrop.report.figures.style import images as rendered
from lit_scaledrop.report.groups import TOPOLOGIES, data_name
from lit_scaledrop.results import provenance
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.result import Result
from lit_scaledrop.shapes import Float, Int

ROWS = ("unet/skin_lesion", "segnet/breast_ultrasound", "segnet/covid_ct.0")
METHODS = ("fp", "mc_dropout", "proposed")
QUANTILES = {"median": 0.5, "lower quartile": 0.25}
_CAPTION = (
    "Test images by their IoU under the full-precision network: nearest to the median and to the lower quartile of the "
    "images with a lesion. Green: outline of the truth; white: predicted; red: wrong pixels. Uncertainty: entropy of "
    "the mean prediction as a share of its maximum."
)


@dataclass(frozen=True)
class Segmented:
    """Test images as a network segments them."""

    mask: Int[Tensor, "images height width"]
    entropy: Float[Tensor, "images height width"]
    """of the mean prediction, as a share of its maximum"""


@dataclass(frozen=True)
class Segmenter:
    """A run of Table V, ready to be asked."""

    record: Result
    data: Any
    """data module, set up"""
    posterior: PosteriorPredictive
    device: torch.device

    def segment(self, indices: Sequence[int]) -> Segmented:
        """Segment some of the test images."""
        masks, entropies = [], []
        size, label = self.data.eval_batch_size, f"{self.record.label}: {len(indices)} images"
        chunks = [indices[start : start + size] for start in range(0, len(indices), size)]
        for chunk in with_progress(chunks, label):
            images, target = self.data.test_set.__getitems__(chunk)
            prediction = self.posterior(self.data.normalized(images).to(self.device)).cpu()
            masks.append(prediction.predicted_class.view_as(target))
            entropies.append((prediction.predictive_entropy / math.log(prediction.num_classes)).view(target.shape))
        return Segmented(torch.cat(masks), torch.cat(entropies).clamp(0, 1))


def main(argv: list[str]) -> int:
    """Run ``scaledrop figure8`` with ``argv`` behind it."""
    usage = "%(prog)s [--profile PROFILE] [--results RESULTS] [--rows ROW ...] [-- FLAGS OF fit]"
    cut = argv.index("--") if "--" in argv else len(argv)
    return call(partial(figure8, argv[cut + 1 :]), argv[:cut], "scaledrop figure8", usage)


def figure8(
    flags: list[str], /, *, profile: str = "quick", results: str = "results", rows: list[str] | None = None
) -> int:
    """Draw test images of Table V's data sets with truth, predictions and uncertainty; train missing networks.

    Args:
        flags: additional flags of every ``fit``.
        profile: quick, cpu, gpu or paper.
        results: folder of the results.
        rows: NETWORK/DATA pairs (default: those of Table V).
    """
    common = ["--config", "segment.yaml", "--profile", profile, "--run.study=table5", *flags]
    common += [f"--run.results={results}"]
    panels: list[Panel] = []
    records: list[Result] = []
    shown: dict[str, Any] = {}
    for row in rows or ROWS:
        networks = [_segmenter([*common, f"--row={row}/{method}"]) for method in METHODS]
        data, first = networks[0].data, networks[0].record
        title = f"{TOPOLOGIES[first.network]}, {data_name(first)}"
        if title in shown:
            continue  # a stand-in for several data sets
        print(f"{title}: selects among {len(data.test_set)} test images", flush=True)
        everything = networks[0].segment(range(len(data.test_set)))
        chosen = _chosen(everything.mask, data.test_set.masks, data.num_classes)
        segmented = [(one.record, one.segment(list(chosen.values()))) for one in networks]
        about = []
        for place, (name, index) in enumerate(chosen.items()):
            image, truth = data.test_set[index]
            panels.append(_panel(image, truth, segmented, place, "\n".join([*title.split(", "), name])))
            numbers = _numbers(truth, segmented, place, data.num_classes)
            about.append({"example": name, "image": data.test_set.names[index], **numbers})
        records += [record for record, _ in segmented]
        runs = {record.method: record.id for record, _ in segmented}
        shown[title] = {"fingerprint": data.fingerprint(), "runs": runs, "examples": about}
    with style():
        files = rendered(draw(panels), footer(records, _CAPTION))
    stem = Path(results) / profile / "figure8"
    for form, content in files.items():
        write_atomic(stem.with_suffix(f".{form}"), content)
    commit, dirty = provenance.commit()
    record = {"figure": "figure8", "commit": commit, "dirty": dirty, "shown": shown}
    write_atomic(stem.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    print(f"Written: {', '.join(str(stem.with_suffix(end)) for end in ('.svg', '.png', '.json'))}", flush=True)
    return 0


def _segmenter(words: list[str]) -> Segmenter:
    """A run's network, which is trained first where it is missing."""
    plan = plan_fit(words)
    networks = trained_networks(plan, plan.evaluation.checkpoint)
    if networks is None:
        raise ValueError("Figure 8 is drawn by one process: leave --trainer.devices out")
    data = plan.build().data
    data.setup("test")
    device = evaluation_device(plan.config["trainer"].get("accelerator"))
    posterior = build_posterior(load_trained(networks[0].checkpoint).network.to(device), plan.evaluation)
    return Segmenter(networks[0].record, data, posterior, device)


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


def _panel(image: Tensor, truth: Tensor, segmented: list[tuple[Result, Segmented]], place: int, title: str) -> Panel:
    return Panel(
        title,
        image.expand(3, -1, -1).movedim(0, -1).numpy(),
        truth.byte().numpy(),
        {record.label: (one.mask[place].byte().numpy(), one.entropy[place].numpy()) for record, one in segmented},
    )


def _numbers(truth: Tensor, segmented: list[tuple[Result, Segmented]], place: int, classes: int) -> dict[str, Any]:
    numbers = {}
    for record, one in segmented:
        iou, _ = image_overlap(one.mask[place : place + 1], truth[None], classes)
        entropy = one.entropy[place].mean()
        numbers[record.method] = {"iou": round(iou.item(), 4), "mean_entropy_share": round(entropy.item(), 4)}
    return numbers
