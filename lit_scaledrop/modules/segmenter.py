"""Segmentation as a LightningModule."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import JaccardIndex

from lit_scaledrop.functional.segmentation import IGNORE, Masks, dice_loss, mean_mask_iou
from lit_scaledrop.methods.method import Method
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.metrics.segmentation import SegmentationMetrics
from lit_scaledrop.modules.base import Batch, LitNetwork, PredictionMetrics
from lit_scaledrop.networks import build_segmentation_network
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.shapes import Float


class LitSegmenter(LitNetwork):
    """A segmentation network trained by the paper's objective; its task loss is cross-entropy plus soft Dice.

    Pixels of a mask with the value :data:`lit_scaledrop.functional.segmentation.IGNORE` count nowhere. The
    checkpoint is chosen by the IoU of the validation split, over all its pixels.

    Args:
        network: topology, a key of ``SEGMENTATION_NETWORKS``, or your own network as in :class:`LitClassifier`.
        method: row of Table V, a key of ``SEGMENTATION_METHODS``.
        num_classes: classes of the masks, including the background.
        in_channels: channels of the images.
        image_size: side of the images in pixels; masks for single neurons depend on it.
        width: multiplier of all hidden channel counts.
        dice_weight: weight of the Dice loss relative to the cross-entropy.
        training: arguments of :class:`LitNetwork`.
    """

    monitor: ClassVar[str] = "val/iou"
    has_masks: ClassVar[bool] = True
    methods: ClassVar[Mapping[str, Method]] = SEGMENTATION_METHODS

    def __init__(
        self,
        network: str | nn.Module = "unet",
        method: str = "proposed",
        num_classes: int = 2,
        in_channels: int = 3,
        image_size: int = 128,
        width: float = 1.0,
        dice_weight: float = 1.0,
        **training: Any,
    ) -> None:
        super().__init__(method, **training)
        self.save_hyperparameters(ignore=["network"] if isinstance(network, nn.Module) else None)
        if dice_weight < 0:
            raise ValueError(f"dice_weight must not be negative, got {dice_weight}")
        shape = {"num_classes": num_classes, "in_channels": in_channels, "width": width, "image_size": image_size}
        self._build(network, build_segmentation_network, **shape)
        kind = {"task": "binary"} if num_classes == 2 else {"task": "multiclass", "num_classes": num_classes}
        self.val_iou = JaccardIndex(**kind, ignore_index=IGNORE)

    def task_loss(self, logits: Float[Tensor, "batch classes h w"], target: Masks) -> Float[Tensor, ""]:
        """Cross-entropy over the labelled pixels plus soft Dice."""
        entropy = F.cross_entropy(logits.float(), target, ignore_index=IGNORE)
        return entropy + self.hparams["dice_weight"] * dice_loss(logits, target)

    def test_metrics(self, evaluation: Evaluation) -> PredictionMetrics:
        """Table V's seven, overlap by image, calibration, entropies, how well they find wrong pixels."""
        return SegmentationMetrics(self.hparams["num_classes"])

    def baseline(self, data: Any) -> dict[str, float]:
        """IoU of the mean training mask."""
        return {"seg/mean_mask_iou": mean_mask_iou(data.train_set.masks, data.test_set.masks)}

    def evaluation_step(self, batch: Batch, stage: str) -> None:
        """IoU over all pixels, and the task loss."""
        images, target = batch
        logits = self(images)
        self.val_iou.update(logits.argmax(1), target)
        self.log(f"{stage}/iou", self.val_iou, on_step=False, on_epoch=True, prog_bar=True)
        loss = self.task_loss(logits, target)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(target), sync_dist=True)
