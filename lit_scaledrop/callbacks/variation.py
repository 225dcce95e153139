"""Variation of the drop probability in training and evaluation: every use of a layer has the p of its junction."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor

from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.posterior.drop_probability import (
    chip_probabilities,
    injected,
    read_probabilities,
    scale_dropouts,
    seeded,
    set_probabilities,
)
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.variation import Redraw, Variation, Within
from lit_scaledrop.shapes import Float

When = Literal["train", "eval", "both"]
_PREFIX = {"train": "", "validate": "val/", "test": "test/"}


class MTJVariation(L.Callback):
    r"""Give the Scale-Dropout layers $\hat p$ in place of p at every batch, and p back behind it.

    $\hat p$ comes from a Gaussian around p (paper eq. 24) or from a device's spread (eq. 25); see
    :mod:`lit_scaledrop.posterior.variation`. A layer has one for the whole batch. The generator follows from ``seed``,
    stage, epoch and batch and from nothing else: a resumed training draws what it would have drawn, all processes draw
    alike, and the global random stream is left alone. Buffers are written in place: a compiled network is not compiled
    again.

    Evaluation hooks (validation, test, prediction) are for modules that draw masks inside their steps. Those of
    ``LitClassifier`` are deterministic; with ``when="eval"`` or ``"both"`` the posterior that ``scaledrop fit`` and
    ``assess`` measure is drawn with this variation.

    Logged once an epoch: ``hw/p_shift``, ``hw/p_min``, ``hw/p_max``, behind ``val/`` and ``test/`` in evaluations.

    Args:
        sigma: standard deviation of p (eq. 24); or
        device: a junction of ``hardware/presets/devices.yaml``, e.g. ``"sot_80nm"``, or of a file, ``"lab.yaml:name"``.
        when: in training, in evaluations, or in both.
        redraw: ``"use"`` draws for every batch; ``"chip"`` keeps those of one finished chip, the one that
            ``--evaluation.redraw=chip --evaluation.chip=SEED`` evaluates.
        within: how eq. 24 stays in [0, 1]: ``"clipped"`` or ``"truncated"``.
        seed: seed of all draws, and number of the chip.
        temperature_k: temperature of the device, K; its drive was chosen at its own.

    Raises:
        ValueError: not exactly one of ``sigma`` and ``device``, an unknown device or ``when``; before training, for a
            network without Scale-Dropout, or a p that the device cannot reach.
    """

    def __init__(
        self,
        sigma: float | None = None,
        device: str | None = None,
        when: When = "both",
        redraw: Redraw = "use",
        within: Within = "clipped",
        seed: int = 0,
        temperature_k: float | None = None,
    ) -> None:
        if when not in get_args(When):
            raise ValueError(f"when must be one of {', '.join(get_args(When))}, got {when!r}")
        self.variation = Variation(sigma, device, redraw, seed, within, temperature_k)
        self.when, self.seed = when, seed
        self._probability = self.variation.probability()
        self._layers: list[ScaleDropout] = []
        self._nominal: Float[Tensor, " layers"] = torch.empty(0)
        self._drawn: dict[str, list[dict[str, float]]] = {}

    @property
    def every_step(self) -> bool:
        """Whether each step of the training has probabilities of its own."""
        return self.when != "eval"

    def acts_in(self, stage: str) -> bool:
        """Whether a stage of the trainer is among those that were asked for."""
        return self.when in ("both", "train" if stage == "train" else "eval")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be varied before anything is trained."""
        self.variation.require(pl_module)
        self._drawn.clear()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the probabilities of this use."""
        stage = _stage(trainer)
        if not self.acts_in(stage):
            return
        if stage not in self._drawn:
            # once an epoch, since a look at the buffers makes the host wait for the device
            self._layers, self._drawn[stage] = scale_dropouts(pl_module), []
            self._nominal = read_probabilities(self._layers)
        if self.variation.redraw == "chip":
            actual = chip_probabilities(self._nominal, self._probability, self.seed)
        else:
            generator = seeded(stage, self.seed, trainer.current_epoch, batch_idx, dataloader_idx)
            actual = self._probability(self._nominal, generator)
        set_probabilities(self._layers, actual)
        self._drawn[stage].append(injected(self._nominal, actual))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Set the nominal probabilities again: nothing but a step sees others."""
        set_probabilities(self._layers, self._nominal)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what was injected."""
        stage = _stage(trainer)
        drawn = self._drawn.pop(stage, [])
        if not drawn or stage not in _PREFIX:
            return
        values = {name: [entry[name] for entry in drawn] for name in drawn[0]}
        for name, summary in (("hw/p_shift", lambda each: sum(each) / len(each)), ("hw/p_min", min), ("hw/p_max", max)):
            # alike in all processes, so the mean over them changes nothing
            pl_module.log(_PREFIX[stage] + name, float(summary(values[name])), sync_dist=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave a network behind that has its nominal probabilities."""
        set_probabilities(self._layers, self._nominal)

    # the same hooks around every kind of evaluation
    on_validation_batch_start = on_test_batch_start = on_predict_batch_start = on_train_batch_start
    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_train_batch_end
    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = on_train_epoch_end


def evaluation_with(callbacks: Iterable[L.Callback], evaluation: Evaluation) -> Evaluation:
    """The evaluation behind a training: with the variation of a callback, where one is for evaluations.

    Raises:
        ValueError: a callback and the evaluation want different things.
    """
    for callback in callbacks:
        if not isinstance(callback, MTJVariation) or callback.when == "train":
            continue
        theirs = callback.variation
        if theirs.sigma == 0:
            continue
        chip = theirs.chip if theirs.redraw == "chip" else 0
        source: dict[str, Any] = {"sigma": theirs.sigma or 0.0, "mtj": theirs.device, "within": theirs.within}
        wanted = replace(evaluation, **source, redraw=theirs.redraw, chip=chip, temperature_k=theirs.temperature_k)
        asked = replace(evaluation, correlation=0.0).variation
        if asked not in (None, replace(wanted, correlation=0.0).variation):
            raise ValueError(
                f"MTJVariation(when={callback.when!r}) evaluates with {theirs.record()}, and evaluation.* asks for "
                f"{asked.record()}: make them agree, or set when='train'"
            )
        evaluation = wanted
    return evaluation


def _stage(trainer: L.Trainer) -> str:
    stage = trainer.state.stage
    return "" if stage is None else str(stage.value)
