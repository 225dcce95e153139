"""LightningModules: what is trained, with which objective and optimizer. Formulas live elsewhere."""

import math
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from lit_scaledrop.layers.binarization import follow_optimizer
from lit_scaledrop.layers.scale_dropout import DropValue, Mask, MaskPer
from lit_scaledrop.methods import Placement, get_method
from lit_scaledrop.networks import Shortcut, build_network
from lit_scaledrop.objective import method_terms, scale_regularization, weight_regularization
from lit_scaledrop.shapes import Float, Int

Batch = tuple[Tensor, Tensor]


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message says where and what to try."""


class LitClassifier(L.LightningModule):
    """A classification network trained by the paper's objective.

    Test-time settings (passes T, quantile, threshold) are no arguments of this class, so that a checkpoint never
    overrides the ones asked for; see :class:`lit_scaledrop.evaluation.Evaluation`.

    Args:
        network: topology, a key of ``NETWORKS``.
        method: row of Table III, a key of ``METHODS``.
        num_classes: classes of the data.
        in_channels: channels of the images.
        width: multiplier of all hidden channel counts.
        shortcut: ResNet-18's skip at a change of shape: weight-free pooling or a 1x1 convolution; by default as the
            network says (pooling).
        p: drop probability of every Scale-Dropout layer; by default as the method says (layer-adaptive).
        drop_value: what a dropped scale becomes; by default as the method says.
        mask: one bit a layer or one a channel; by default as the method says.
        mask_per: in training, a draw for each sample or for the batch; by default as the method says.
        scale_placement: the scale before or after BatchNorm; by default as the method says.
        lambda_scale: weight of the scale term of the objective.
        lambda_weight: weight of the term on the proxy weights.
        label_smoothing: smoothing of the cross-entropy.
        optimizer: the paper's Adam, or SGD with Nesterov momentum.
        lr: peak learning rate.
        momentum: momentum of SGD.
        schedule: learning rate after the warm-up.
        warmup_epochs: epochs of linear warm-up.
        compile_network: run the network through ``torch.compile``.
        channels_last: keep images and weights in channels-last memory.
    """

    def __init__(
        self,
        network: str = "resnet20",
        method: str = "proposed",
        num_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        shortcut: Shortcut | None = None,
        p: float | None = None,
        drop_value: DropValue | None = None,
        mask: Mask | None = None,
        mask_per: MaskPer | None = None,
        scale_placement: Placement | None = None,
        lambda_scale: float = 1e-2,
        lambda_weight: float = 5e-5,
        label_smoothing: float = 0.0,
        optimizer: Literal["adam", "sgd"] = "adam",
        lr: float = 1e-3,
        momentum: float = 0.9,
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup_epochs: float = 0.0,
        compile_network: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.method = get_method(method).with_scale(
            p=p, drop_value=drop_value, mask=mask, mask_per=mask_per, placement=scale_placement
        )
        self.network = build_network(network, self.method, num_classes, in_channels, width, shortcut)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        if compile_network:
            # static shapes: training, validation and test batches get a graph each
            self.network.compile(dynamic=False)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, images: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch classes"]:
        """Logits of one deterministic pass (of a random one in training)."""
        if self.hparams["channels_last"]:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Task loss, both regularization terms and what the method adds, each logged on its own."""
        images, target = batch
        task = self._task_loss(self(images), target)
        scale, weight = scale_regularization(self.network), weight_regularization(self.network)
        loss = task + self.hparams["lambda_scale"] * scale + self.hparams["lambda_weight"] * weight
        terms = {"loss/task": task, "loss/scale": scale, "loss/weight": weight}
        for name, (factor, term) in method_terms(self.network, self.method).items():
            loss = loss + factor * term
            terms[f"loss/{name}"] = term
        terms["loss/total"] = loss
        self.log_dict(
            {name: term.detach() for name, term in terms.items()}, on_step=False, on_epoch=True, sync_dist=True
        )
        # looked at only now and then: a look makes the host wait for the device
        if batch_idx % 50 == 0:
            self._refuse_non_finite(loss.detach())
        self._last_loss = loss.detach()
        return loss

    def on_validation_start(self) -> None:
        """Stop before a checkpoint of a broken network is written."""
        if hasattr(self, "_last_loss"):
            self._refuse_non_finite(self._last_loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accuracy and loss of the deterministic network on the validation split."""
        self._deterministic_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on the test set; the posterior's numbers come from ``scaledrop evaluate``."""
        self._deterministic_step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, "batch classes"]:
        """Class probabilities of the deterministic network."""
        return self(batch[0]).float().softmax(-1)

    def configure_optimizers(self) -> Any:
        """The optimizer, with a learning rate that changes every step."""
        if self.method.members > 1:
            raise ValueError(
                f"an ensemble has no training of its own: train {self.method.members} networks of method "
                f"{self.method.member!r}, as `scaledrop fit` does"
            )
        h = self.hparams
        if h["optimizer"] == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(
                self.parameters(), h["lr"], momentum=h["momentum"], nesterov=h["momentum"] > 0
            )
        else:
            optimizer = torch.optim.Adam(self.parameters(), h["lr"])
        follow_optimizer(self.network, optimizer)
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ValueError("the learning rate schedule needs an end: set trainer.max_epochs or trainer.max_steps")
        warmup = h["warmup_epochs"] * steps / max(self.trainer.max_epochs or 1, 1)

        def factor(step: int) -> float:
            ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
            return ramp * (0.5 * (1 + math.cos(math.pi * min(step / steps, 1))) if h["schedule"] == "cosine" else 1.0)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random streams, so that a resumed run goes on with the masks that it would have drawn."""
        checkpoint["torch_rng_state"] = torch.get_rng_state()
        checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random streams until training starts: what is built before it draws from them."""
        self._rng_state = checkpoint.get("torch_rng_state"), checkpoint.get("cuda_rng_state")

    def on_train_start(self) -> None:
        """Go on with the random streams of the checkpoint, if there is one."""
        cpu, cuda = getattr(self, "_rng_state", (None, None))
        if cpu is not None:
            torch.set_rng_state(cpu.cpu())
        # a checkpoint of another number of devices has no stream for each of these
        if cuda and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in cuda])

    def _task_loss(self, logits: Float[Tensor, "batch classes"], target: Int[Tensor, " batch"]) -> Tensor:
        return F.cross_entropy(logits.float(), target, label_smoothing=self.hparams["label_smoothing"])

    def _deterministic_step(self, batch: Batch, stage: str) -> None:
        images, target = batch
        logits = self(images)
        self.val_accuracy.update(logits, target)
        self.log(f"{stage}/acc", self.val_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        loss = F.cross_entropy(logits.float(), target)
        self.log(f"{stage}/nll", loss, on_step=False, on_epoch=True, batch_size=len(target), sync_dist=True)

    def _refuse_non_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {float(loss)} in epoch {self.current_epoch}: training stopped, the last good checkpoint "
                "is kept. Lower --model.lr, or add --trainer.gradient_clip_val=1 or --trainer.precision=32-true"
            )
