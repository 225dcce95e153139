"""Classification as a LightningModule."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from lit_scaledrop.layers.scale_dropout import DropValue, Mask, MaskPer, SizeClasses
from lit_scaledrop.methods.classification import METHODS, Method, Placement, Shortcut
from lit_scaledrop.metrics.classification import classification_metrics
from lit_scaledrop.modules.base import Batch, LitNetwork, NonFiniteLossError, PredictionMetrics
from lit_scaledrop.modules.normalized_update import Update, require_normalized_update
from lit_scaledrop.modules.stepping import Capture
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks import build_network
from lit_scaledrop.shapes import Float, Int

if TYPE_CHECKING:
    from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.modules.segmenter import LitSegmenter


class LitClassifier(LitNetwork):
    """A classification network trained by the paper's objective.

    Args:
        network: topology, a key of ``NETWORKS``.
        method: row of Table III, a key of ``METHODS``.
        num_classes: classes of the data.
        in_channels: channels of the images.
        width: multiplier of all hidden channel counts.
        shortcut: a ResNet's skip at a change of shape: every second pixel or 2x2 averages, both without weights, or a
            1x1 convolution; by default as the method says, else the network (ResNet-20 subsample, ResNet-18 pool).
        p: drop probability of every Scale-Dropout layer, or of the small, the middle and the large ones; by default as
            the method says (layer-adaptive).
        drop_value: what a dropped scale becomes; by default as the method says.
        mask: one bit a layer or one a channel; by default as the method says.
        mask_per: in training, a draw for each sample or for the batch; by default as the method says.
        scale_placement: the scale before or after BatchNorm; by default as the method says.
        lambda_scale: weight of the scale term of the objective.
        lambda_weight: weight of the term on the proxy weights.
        label_smoothing: smoothing of the cross-entropy.
        optimizer: the paper's Adam, or SGD with Nesterov momentum.
        update: ``normalized`` turns every filter of a normalized binary layer by 0.03 radians a step, times the
            schedule, along SGD's momentum, and keeps its norm (:mod:`lit_scaledrop.modules.normalized_update`).
        lr: peak learning rate.
        momentum: momentum of SGD.
        schedule: learning rate after the warm-up.
        warmup_epochs: epochs of linear warm-up.
        compile_network: run the network through ``torch.compile``.
        channels_last: keep images and weights in channels-last memory.
        steps_per_call: optimizer steps in a call of ``training_step``; by default 50 on a GPU, else 1. The numbers are
            those of single steps.
        capture: on a GPU, replay a step from one CUDA graph where several are taken a call, or never.
    """

    monitor: ClassVar[str] = "val/acc"
    methods: ClassVar[Mapping[str, Method]] = METHODS

    def __init__(
        self,
        network: str = "resnet20",
        method: str = "proposed",
        num_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        shortcut: Shortcut | None = None,
        p: float | SizeClasses | None = None,
        drop_value: DropValue | None = None,
        mask: Mask | None = None,
        mask_per: MaskPer | None = None,
        scale_placement: Placement | None = None,
        lambda_scale: float = 1e-2,
        lambda_weight: float = 5e-5,
        label_smoothing: float = 0.0,
        optimizer: Literal["adam", "sgd"] = "adam",
        update: Update = "plain",
        lr: float = 1e-3,
        momentum: float = 0.9,
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup_epochs: float = 0.0,
        compile_network: bool = False,
        channels_last: bool = False,
        steps_per_call: int | None = None,
        capture: Capture = "auto",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.method = METHODS[lookup("method", method, METHODS)].with_scale(
            p=p, drop_value=drop_value, mask=mask, mask_per=mask_per, placement=scale_placement
        )
        self._take(build_network(network, self.method, num_classes, in_channels, width, shortcut))
        require_normalized_update(self.network, update, optimizer)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def task_loss(self, logits: Float[Tensor, "batch classes"], target: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy, with the smoothing that was asked for."""
        return F.cross_entropy(logits.float(), target, label_smoothing=self.hparams["label_smoothing"])

    def test_metrics(self, evaluation: "Evaluation") -> PredictionMetrics:
        """Accuracy, likelihood, calibration, entropies, OOD rate."""
        rule = evaluation.quantile, evaluation.threshold, evaluation.interpolation
        return classification_metrics(self.hparams["num_classes"], *rule)

    def evaluation_step(self, batch: Batch, stage: str) -> None:
        """Accuracy and loss of the deterministic network."""
        images, target = batch
        logits = self(images)
        self.val_accuracy.update(logits, target)
        self.log(f"{stage}/acc", self.val_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        loss = F.cross_entropy(logits.float(), target)
        self.log(f"{stage}/nll", loss, on_step=False, on_epoch=True, batch_size=len(target), sync_dist=True)


__all__ = ["LitClassifier", "LitSegmenter", "NonFiniteLossError"]
