"""Metrics of segmentation: Table V's seven over all pixels, overlap per image, and quality of the uncertainty.

A pixel is an example: ``Predictive`` has a row for each pixel of the batch, image by image and line by line, and the
target is the batch of masks. Pixels with the class :data:`lit_scaledrop.functional.segmentation.IGNORE` count nowhere.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    AUROC,
    Accuracy,
    BinaryAUROC,
    F1Score,
    JaccardIndex,
    Precision,
    Recall,
    Specificity,
)

from lit_scaledrop.functional.segmentation import IGNORE, Masks, image_overlap, patch_counts, pavpu
from lit_scaledrop.metrics.classification import (
    CalibrationError,
    ExpectedEntropy,
    MutualInformation,
    NegativeLogLikelihood,
    PredictiveEntropy,
)
from lit_scaledrop.posterior.predictive import Predictive


def table5_metrics(num_classes: int) -> MetricCollection:
    """The seven of the paper's Table V, micro over pixels: of the lesion for two classes, else means over classes.

    Updated with probabilities, ``(pixels,)`` of the lesion or ``(pixels, classes)``, and classes ``(pixels,)``.
    """
    task: dict[str, Any] = {"task": "binary"}
    if num_classes > 2:
        task = {"task": "multiclass", "num_classes": num_classes, "average": "macro"}
    metrics: dict[str, Metric | MetricCollection] = {
        "seg/acc": Accuracy(**{**task, "average": "micro"}),
        "seg/iou": JaccardIndex(**task),
        "seg/auc": AUROC(**task),
        "seg/f1": F1Score(**task),
        "seg/sensitivity": Recall(**task),
        "seg/specificity": Specificity(**task),
        "seg/precision": Precision(**task),
    }
    return MetricCollection(metrics)


class ImageOverlap(Metric):
    """Mean over images of IoU and Dice; an image where neither mask has foreground counts 1.

    >>> metric = ImageOverlap(2)
    >>> metric.update(torch.tensor([[[0, 1, 0]]]), torch.tensor([[[1, 1, 0]]]))
    >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
    {'seg/image_iou': 0.5, 'seg/image_dice': 0.667}
    """

    is_differentiable = False
    full_state_update = False
    plot = Metric._plot
    higher_is_better = True
    overlap: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state("overlap", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Masks, target: Masks) -> None:
        """Add a batch of masks."""
        iou, dice = image_overlap(predicted, target, self.num_classes)
        self.overlap += torch.stack([iou.double().sum(), dice.double().sum(), iou.new_tensor(len(iou)).double()])

    def compute(self) -> dict[str, Tensor]:
        """Means over all images so far."""
        iou, dice, images = self.overlap
        return {"seg/image_iou": iou / images, "seg/image_dice": dice / images}


class PatchUncertainty(Metric):
    """PAvPU and its two conditional probabilities, over patches of 4 x 4 pixels of all images.

    Uncertainty is predictive entropy as a share of its maximum; from half of it on a patch is uncertain.
    """

    is_differentiable = False
    full_state_update = False
    plot = Metric._plot
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(2, 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, wrong: Tensor, uncertainty: Tensor, valid: Tensor) -> None:
        """Add a batch; arguments as :func:`lit_scaledrop.functional.segmentation.patch_counts`."""
        self.counts += patch_counts(wrong.double(), uncertainty.double(), valid.double())

    def compute(self) -> dict[str, Tensor]:
        """The three shares over all patches so far, without those that nothing defines."""
        return {f"err/{name}": value for name, value in pavpu(self.counts).items() if not value.isnan()}


class SegmentationMetrics(nn.Module):
    """All metrics of a segmentation network, updated with ``(predictive, masks)``; keys as in the glossary.

    >>> metrics = SegmentationMetrics(2)
    >>> prediction = Predictive(torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]]).log())
    >>> metrics.update(prediction, torch.tensor([[[0, 1], [1, 0]]]))
    >>> round(metrics.compute()["seg/iou"].item(), 3), round(metrics.compute()["seg/image_dice"].item(), 3)
    (0.5, 0.667)
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"segmentation has a background and at least one more class, got {num_classes}")
        self.num_classes = num_classes
        self.table5 = table5_metrics(num_classes)
        self.images, self.patches = ImageOverlap(num_classes), PatchUncertainty()
        self.error_detection = BinaryAUROC()
        examples: dict[str, Metric | MetricCollection] = {
            "seg/nll": NegativeLogLikelihood(num_classes=num_classes),
            "cal/ece": CalibrationError(num_classes=num_classes),
            "unc/predictive_entropy": PredictiveEntropy(num_classes=num_classes),
            "unc/expected_entropy": ExpectedEntropy(num_classes=num_classes),
            "unc/mutual_information": MutualInformation(num_classes=num_classes),
        }
        self.examples = MetricCollection(examples)

    def update(self, predictive: Predictive, masks: Masks) -> None:
        """Add a batch.

        Args:
            predictive: a row for each pixel of the batch.
            masks: true classes, or :data:`lit_scaledrop.functional.segmentation.IGNORE`.

        Raises:
            ValueError: if there are not as many rows as pixels, or a mask has other values.
        """
        if predictive.logits.shape[1:] != (masks.numel(), self.num_classes):
            raise ValueError(
                f"masks of shape {tuple(masks.shape)} and {self.num_classes} classes need predictions for "
                f"{masks.numel()} pixels, got logits of shape {tuple(predictive.logits.shape)}"
            )
        self.images.update(predictive.predicted_class.view_as(masks), masks)
        valid = masks != IGNORE
        kept, target = predictive, masks.flatten()
        if not valid.all():
            rows = valid.flatten()
            kept = Predictive(predictive.logits[:, rows], predictive.weights, predictive.uncovered)
            target = target[rows]
        if len(target):
            self.examples.update(kept, target)
            self.table5.update(kept.mean[:, 1] if self.num_classes == 2 else kept.mean, target)
            self.error_detection.update(self._share(kept.predictive_entropy), (kept.predicted_class != target).long())
        wrong = predictive.predicted_class.view_as(masks) != masks
        self.patches.update(wrong, self._share(predictive.predictive_entropy).view_as(wrong), valid)

    def compute(self) -> dict[str, Tensor]:
        """All metrics; ``err/auroc`` is left out where no pixel, or every one, is wrong."""
        values = {**self.table5.compute(), **self.examples.compute(), **self.images.compute()}
        values |= self.patches.compute()
        wrong = 1 - values["seg/acc"]
        return values | ({"err/auroc": self.error_detection.compute()} if 0 < wrong < 1 else {})

    def reset(self) -> None:
        """Forget all batches."""
        for metric in (self.table5, self.examples, self.images, self.patches, self.error_detection):
            metric.reset()

    def _share(self, entropy: Tensor) -> Tensor:
        return (entropy / math.log(self.num_classes)).clamp(0, 1)
