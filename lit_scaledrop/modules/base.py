"""What the trainings of all tasks share: the paper's objective, optimizer and schedule."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.quantizers import follow_optimizer
from lit_scaledrop.layers.scale_dropout import DropValue, Mask, MaskPer, Placement, ScaleOptions, SizeClasses
from lit_scaledrop.methods.method import Method
from lit_scaledrop.modules.fitting import FittingModule
from lit_scaledrop.modules.normalized_update import Update, require_normalized_update, turn_filters
from lit_scaledrop.modules.objective import method_terms, parameter_groups, scale_regularization, weight_regularization
from lit_scaledrop.modules.schedule import steps_per_epoch, total_steps
from lit_scaledrop.modules.stepping import Capture, Stepper, require_gradients, settle_rates, steps_per_call
from lit_scaledrop.modules.streams import ResumableModule
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks.own import OWN, is_own, own_network
from lit_scaledrop.posterior.any_network import logits_in, two_classes
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.shapes import Float

Batch = Sequence[Tensor]
"""Images and targets, as a pair of any kind: a ``DataLoader`` gives lists."""


@runtime_checkable
class PredictionMetrics(Protocol):
    """What adds up over batches of predictions: a collection of metrics, or a module of several."""

    def update(self, predictive: Predictive, target: Tensor) -> None:
        """Add a batch."""

    def compute(self) -> dict[str, Tensor]:
        """Metrics by their keys in the glossary."""

    def to(self, device: Any) -> "PredictionMetrics":
        """The same on another device."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message says where and what to try."""


class LitNetwork(ResumableModule, FittingModule, ABC):
    """A network that is trained by the paper's objective; a task says what its loss and its validation are.

    Test-time settings (passes T, quantile, threshold) are no arguments of a module, so that a checkpoint never
    overrides the ones asked for; see :class:`lit_scaledrop.posterior.Evaluation`.

    Args:
        method: key of :attr:`methods`.
        p: drop probability of all Scale-Dropout layers, or of small, middle and large layers; default: that of the
            method (by layer size).
        drop_value: value of a dropped scale; default: that of the method.
        mask: one bit per layer or per channel; default: that of the method.
        mask_per: in training, one mask per sample or per batch; default: that of the method.
        scale_placement: the scale before or after BatchNorm; default: that of the method.
        scale_bias: whether a bias is dropped together with the scale; default: that of the method.
        scale_start: largest initial distance of scales from one and of biases from zero; default: that of the method.
        lambda_scale: weight of the scale term of the objective.
        lambda_weight: weight of the term on the proxy weights.
        optimizer: the paper's Adam, or SGD with Nesterov momentum.
        update: ``normalized`` rotates every filter of a normalized binary layer by 0.03 radians per step, times the
            schedule, along SGD's momentum, and keeps its norm (:mod:`lit_scaledrop.modules.normalized_update`).
        lr: peak learning rate.
        momentum: momentum of SGD.
        schedule: learning rate after the warm-up.
        warmup_epochs: epochs of linear warm-up.
        compile_network: run the network through ``torch.compile``.
        channels_last: keep images and weights in channels-last memory.
        steps_per_call: optimizer steps per call of ``training_step``; default: 50 on a GPU, else 1. Results equal those
            of single steps.
        capture: on a GPU, replay steps from one CUDA graph if there are several per call, or never.
    """

    monitor: ClassVar[str]
    """logged metric of the validation split, larger is better, that chooses the checkpoint"""
    methods: ClassVar[Mapping[str, Method]]
    """the methods that there are for the task, by name"""
    method: Method
    steps_per_call: int = 1
    """optimizer steps in a call of ``training_step``; where it is above one the data come in as many batches at once"""
    _sums: Tensor | None = None
    _terms: tuple[str, ...] = ()
    _summed: int = 0
    _stepper: Stepper | None = None

    def __init__(
        self,
        method: str,
        p: float | SizeClasses | None = None,
        drop_value: DropValue | None = None,
        mask: Mask | None = None,
        mask_per: MaskPer | None = None,
        scale_placement: Placement | None = None,
        scale_bias: bool | None = None,
        scale_start: tuple[float, float] | None = None,
        lambda_scale: float = 1e-2,
        lambda_weight: float = 5e-5,
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
        self.save_hyperparameters(ignore=["network"])  # of every training; a task adds its own
        known = self.methods[lookup("method", method, self.methods)]
        self.method = known.with_scale(**ScaleOptions.given(self.hparams))

    def _build(self, network: str | nn.Module, build: Callable[..., nn.Module], **shape: Any) -> None:
        """Take a module of the user's, what an import path makes, or a topology."""
        if isinstance(network, nn.Module):
            given = [name for name in ScaleOptions.arguments().values() if self.hparams.get(name) is not None]
            if given:
                raise ValueError(f"{', '.join(given)}: options of networks that are built here; set them in yours")
            self._take(network)
        elif is_own(network):
            own, of_method = own_network(network, {**shape, "method": self.method})
            self.method = self.method if of_method else OWN
            self._take(own)
        else:
            self._take(build(network, self.method, **shape))

    def _take(self, network: nn.Module) -> None:
        """Make ``network`` the one that is trained, in the memory format and compiled as the hyper-parameters say."""
        self.network = network
        if self.hparams["channels_last"]:
            network.to(memory_format=torch.channels_last)
        if self.hparams["compile_network"]:
            # static shapes: training, validation and test batches get a graph each
            network.compile(dynamic=False)
        require_normalized_update(network, self.hparams["update"], self.hparams["optimizer"])

    @abstractmethod
    def task_loss(self, logits: Tensor, target: Tensor) -> Float[Tensor, ""]:
        """The task's term of the objective, a mean over the batch."""

    @abstractmethod
    def test_metrics(self, evaluation: Evaluation) -> PredictionMetrics:
        """Metrics of the posterior predictive, as an evaluation asks for them."""

    def baseline(self, data: Any) -> dict[str, float]:
        """What needs no network, to compare the result with; ``data`` is set up."""
        return {}

    @abstractmethod
    def evaluation_step(self, batch: Batch, stage: str) -> None:
        """Log metrics of the deterministic network on a batch as ``stage/...``."""

    def forward(self, images: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch classes ..."]:
        """Logits of one deterministic pass (of a random one in training)."""
        if self.hparams["channels_last"]:
            images = images.contiguous(memory_format=torch.channels_last)
        weight = next(self.network.parameters(), None)
        if weight is not None and images.is_floating_point():
            images = images.to(weight.dtype)  # of a training in bfloat16 or float64
        return two_classes(logits_in(self.network(images)))

    def setup(self, stage: str) -> None:
        """Decide how many steps a call of ``training_step`` takes."""
        if stage == "fit":
            self.steps_per_call = steps_per_call(self.trainer, self.hparams["steps_per_call"])
            self.automatic_optimization = self.steps_per_call == 1

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """One step by Lightning, or several by ourselves."""
        images, target = batch
        if batch_idx == 0:
            self._summed = 0
            if self._sums is not None:
                self._sums.zero_()
        loss = None
        if self.automatic_optimization:
            with self._one_mask_for_all_processes(batch_idx):
                loss = self.objective(images, target)
            self._summed += 1
        else:
            self._take_steps(images, target)
            self._summed += len(images)
        # looked at only now and then: a look makes the host wait for the device
        if batch_idx % 50 == 0 or not self.automatic_optimization:
            self._refuse_non_finite(self._last_loss)
        return loss

    def objective(self, images: Tensor, target: Tensor) -> Tensor:
        """The objective but for the term on the weights, whose gradient is the optimizer's weight decay."""
        logits = self(images)
        task, scale = self.task_loss(logits, target), scale_regularization(self.network)
        loss = task + self.hparams["lambda_scale"] * scale
        terms = {"loss/task": task, "loss/scale": scale}
        for name, (factor, term) in method_terms(self.network, self.method).items():
            loss = loss + factor * term
            terms[f"loss/{name}"] = term
        self._add_terms(terms | {"loss/total": loss})
        self._last_loss = loss.detach()
        return loss

    def _take_steps(self, images: Tensor, target: Tensor) -> None:
        """A step on each batch; images and targets have the batches in front."""
        optimizer, scheduler = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        if self._stepper is None:
            capture = self.hparams["capture"]
            self._stepper = Stepper(self.network, self.objective, optimizer, capture, self.device)  # type: ignore[arg-type]
            settle_rates(optimizer, self._stepper.capturing, self.device)  # type: ignore[arg-type]
        for batch in zip(images, target, strict=True):
            self._stepper.step(*batch)
            scheduler.step()  # type: ignore[union-attr]
        # what Lightning counts where it takes the steps: loggers, checkpoints and the end of the training read it
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for count in (progress.total, progress.current):
            count.ready, count.completed = count.ready + len(images), count.completed + len(images)

    @torch.no_grad()
    def _add_terms(self, terms: dict[str, Tensor]) -> None:
        """Add the terms up on the device, in place, so that a captured step does."""
        values = torch.stack([term.detach().float() for term in terms.values()])
        if self._sums is None or self._sums.device != values.device:
            self._terms, self._sums = tuple(terms), torch.zeros_like(values)
        self._sums += values

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the epoch's means behind its last step: a log at each step costs the host more than the step."""
        if not self.trainer.is_last_batch or self._sums is None:
            return
        means = dict(zip(self._terms, self._sums / self._summed, strict=True))
        means["loss/weight"] = weight_regularization(self.network).to(self._sums.device)
        means["loss/total"] = means["loss/total"] + self.hparams["lambda_weight"] * means["loss/weight"]
        self._refuse_non_finite(means["loss/total"])  # a binary network of weights that are NaN has a finite loss
        self.log_dict(means, on_step=False, on_epoch=True, sync_dist=True)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the gradients of the first step on a GPU."""
        if self.device.type == "cuda" and self.trainer.global_step == 0:
            require_gradients(self.network)

    def on_validation_start(self) -> None:
        """Stop before a checkpoint of a broken network is written."""
        if hasattr(self, "_last_loss"):
            self._refuse_non_finite(self._last_loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Metrics of the deterministic network on the validation split."""
        self.evaluation_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on the test set; the posterior's numbers come from ``scaledrop evaluate``."""
        self.evaluation_step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, "batch classes ..."]:
        """Class probabilities of the deterministic network."""
        return self(batch[0]).float().softmax(1)

    def configure_optimizers(self) -> Any:
        """The optimizer, with a learning rate that changes every step."""
        if self.method.members > 1:
            raise ValueError(
                f"an ensemble is not trained itself: train {self.method.members} networks of method "
                f"{self.method.member!r}, as `scaledrop fit` does"
            )
        h = self.hparams
        groups = parameter_groups(self.network, h["lambda_weight"], h["update"])
        fused = self.device.type == "cuda"
        if h["optimizer"] == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(
                groups, h["lr"], momentum=h["momentum"], nesterov=h["momentum"] > 0, fused=fused
            )
        else:
            optimizer = torch.optim.Adam(groups, h["lr"], fused=fused, capturable=fused and self.steps_per_call > 1)
        if h["update"] == "normalized":
            turn_filters(optimizer)
        follow_optimizer(self.network, optimizer)
        steps, warmup = total_steps(self.trainer), h["warmup_epochs"] * steps_per_epoch(self.trainer)

        def factor(step: int) -> float:
            ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
            return ramp * (0.5 * (1 + math.cos(math.pi * min(step / steps, 1))) if h["schedule"] == "cosine" else 1.0)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the task, what its images went through, which were held out, and the random streams."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["task"] = type(self).__name__
        data: Any = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        if hasattr(data, "image_facts"):
            checkpoint["images"], checkpoint["split"] = data.image_facts, data.split_facts

    def _refuse_non_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {float(loss)} in epoch {self.current_epoch}: training stopped, the last good "
                f"checkpoint is kept. Lower --model.lr, or add --trainer.gradient_clip_val=1 or "
                f"--trainer.precision=32-true"
            )
