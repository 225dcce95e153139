"""Tables and pictures of a finished run for loggers that take them, which W&B's does."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningModule
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lit_scaledrop.functional.segmentation import IGNORE
from lit_scaledrop.modules.base import PredictionMetrics
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.modules.segmenter import LitSegmenter
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.shapes import Float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 4
"""Test images of a segmentation that are shown: the first ones."""


def log_media(
    loggers: Sequence[Logger],
    module: LightningModule,
    measured: PredictionMetrics,
    data: Any,
    evaluation: Evaluation,
    step: int,
) -> None:
    """Log a reliability diagram with its bins, or a few masks.

    Args:
        loggers: of the trainer; those that take no tables and images are left out.
        module: with the network that was evaluated.
        measured: its metrics, computed.
        data: data module, set up.
        evaluation: how the network was asked.
        step: of the training.
    """
    for logger in loggers:
        if not (hasattr(logger, "log_table") and hasattr(logger, "log_image")):
            continue
        if isinstance(module, LitSegmenter):
            _log_masks(logger, module, data, evaluation, step)
        elif isinstance(module, LitClassifier):
            _log_reliability(logger, measured, step)


def _log_reliability(logger: Any, measured: Any, step: int) -> None:
    bins = measured["cal/ece"].sums.cpu()
    columns = ["confidence above", "images", "confidence", "accuracy"]
    logger.log_table("test/reliability", columns, table(bins), step=step)
    if find_spec("matplotlib"):
        logger.log_image("test/reliability_diagram", [draw_reliability(bins)], step=step)


def table(bins: Float[Tensor, "bins 3"]) -> list[list[float | None]]:
    """Rows of a reliability diagram: lower edge, images, their mean confidence and accuracy (none without images).

    Args:
        bins: sums of :func:`lit_scaledrop.functional.calibration.calibration_bins`.

    >>> table(torch.tensor([[0.0, 0.0, 0.0], [2.0, 1.5, 1.0]]))
    [[0.0, 0.0, None, None], [0.5, 2.0, 0.75, 0.5]]
    """
    return [
        [number / len(bins), count, *((confidence / count, right / count) if count else (None, None))]
        for number, (count, confidence, right) in enumerate(bins.tolist())
    ]


def draw_reliability(bins: Float[Tensor, "bins 3"]) -> "Figure":
    """Accuracy in each bin of confidence beside the diagonal, above the number of images in it.

    Args:
        bins: sums of :func:`lit_scaledrop.functional.calibration.calibration_bins`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 5), layout="constrained")
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    counts, right, width = bins[:, 0], bins[:, 2], 1 / len(bins)
    middles = [(number + 0.5) * width for number in range(len(bins))]
    diagram.bar(middles, (right / counts.clamp_min(1)).tolist(), width=0.92 * width, color="#0072B2")
    diagram.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    diagram.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    histogram.bar(middles, counts.tolist(), width=0.92 * width, color="0.6")
    histogram.set(xlabel="confidence", ylabel="images")
    return figure


def _log_masks(logger: Any, module: LitSegmenter, data: Any, evaluation: Evaluation, step: int) -> None:
    shown = min(IMAGES, len(data.test_set))
    images, truths = zip(*(data.test_set[index] for index in range(shown)), strict=True)
    device = next(module.parameters()).device
    prediction = build_posterior(module.network, evaluation)(data.normalized(torch.stack(images)).to(device)).cpu()
    size = (shown, *truths[0].shape)
    labels = {**dict(enumerate(data.class_names)), IGNORE: "not labelled"}

    def layer(mask: Tensor) -> dict[str, Any]:
        return {"mask_data": mask.byte().numpy(), "class_labels": labels}

    predicted = prediction.predicted_class.view(size)
    entropy = prediction.predictive_entropy.view(size)
    pictures = [image.expand(3, -1, -1).movedim(0, -1).numpy() for image in images]
    masks = [{"prediction": layer(a), "truth": layer(b)} for a, b in zip(predicted, truths, strict=True)]
    names = list(data.test_set.names[:shown])
    logger.log_image("test/masks", pictures, step=step, masks=masks, caption=names)
    shades = list((entropy / entropy.max().clamp_min(1e-12) * 255).byte().numpy())
    logger.log_image("test/uncertainty", shades, step=step, caption=names)
