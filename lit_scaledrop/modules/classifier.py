"""Classification as a LightningModule."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.method import Method, Shortcut
from lit_scaledrop.metrics.classification import classification_metrics
from lit_scaledrop.modules.base import Batch, LitNetwork, PredictionMetrics
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.shapes import Float, Int


class LitClassifier(LitNetwork):
    """A classification network trained by the paper's objective.

    Args:
        network: topology, a key of ``NETWORKS``; your own module, in Python; or the import path of a class or function
            that builds one from ``num_classes`` (and ``in_channels``, ``width``, ``method`` if it takes them).
        method: row of Table III, a key of ``METHODS``.
        num_classes: classes of the data.
        in_channels: channels of the images.
        width: multiplier of all hidden channel counts.
        shortcut: a ResNet's skip at a change of shape: every second pixel or 2x2 averages, both without weights, or a
            1x1 convolution; default: that of the method, else of the network (ResNet-20 subsample, ResNet-18 pool).
        label_smoothing: smoothing of the cross-entropy.
        training: arguments of :class:`LitNetwork`.
    """

    monitor: ClassVar[str] = "val/acc"
    methods: ClassVar[Mapping[str, Method]] = METHODS

    def __init__(
        self,
        network: str | nn.Module = "resnet20",
        method: str = "proposed",
        num_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        shortcut: Shortcut | None = None,
        label_smoothing: float = 0.0,
        **training: Any,
    ) -> None:
        super().__init__(method, **training)
        self.save_hyperparameters(ignore=["network"] if isinstance(network, nn.Module) else None)
        shape = {"num_classes": num_classes, "in_channels": in_channels, "width": width, "shortcut": shortcut}
        self._build(network, build_network, **shape)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def task_loss(
        self, logits: Float[Tensor, "batch classes"], target: Int[Tensor, " batch"] | Float[Tensor, "batch classes"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy to classes, or to their probabilities, with the smoothing that was asked for."""
        return F.cross_entropy(logits.float(), target, label_smoothing=self.hparams["label_smoothing"])

    def test_metrics(self, evaluation: Evaluation) -> PredictionMetrics:
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
