"""Callbacks of the training: the sign estimator's schedule, the data gradient of the scales, progress for logs."""

import math
import os
import sys
import time
from pathlib import Path
from typing import Any
from weakref import proxy

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from lit_scaledrop.layers.binary import EDE
from lit_scaledrop.layers.quantizers import ReCUWeight
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.modules.schedule import steps_per_epoch, total_steps
from lit_scaledrop.results.disk import sync

PREVIOUS = "previous.ckpt"
"""The checkpoint before the last one."""


class EstimatorSchedule(L.Callback):
    """Set IR-Net's EDE and ReCU's quantile once per epoch to the share of the training that is behind it."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where a checkpoint from within an epoch is the start, that epoch does not begin again."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        """Move every estimator on."""
        progress = min(1.0, trainer.current_epoch * steps_per_epoch(trainer) / total_steps(trainer))
        for module in pl_module.modules():
            if isinstance(module, EDE | ReCUWeight):
                module.set_progress(progress)


def scale_data_gradients(model: nn.Module, lambda_scale: float) -> list[Tensor]:
    r"""Gradient of the task loss on every scale, from the gradients of the whole objective after ``backward``.

    The regularization's part, $-2 \lambda_s (1 - \operatorname{mean}\alpha) / C$ on each element, is taken away.

    Returns:
        One tensor ``(C,)`` for each Scale-Dropout layer.
    """
    gradients = []
    for layer in model.modules():
        if isinstance(layer, ScaleDropout) and layer.scale.grad is not None:
            term = -2 * lambda_scale * (1 - layer.scale.detach().mean()) / layer.num_features
            gradients.append(layer.scale.grad - term)
    return gradients


class ScaleGradient(L.Callback):
    """Log the size of the data's gradient on the scales: ``grad/alpha_data``, L2 norm over all layers, epoch mean.

    Args:
        every_n_steps: steps between two looks.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the gradients."""
        if trainer.global_step % self.every_n_steps:
            return
        gradients = scale_data_gradients(pl_module, pl_module.hparams["lambda_scale"])
        if gradients:
            norm = torch.cat(gradients).norm()
            pl_module.log("grad/alpha_data", norm, on_step=False, on_epoch=True)


#: seconds of training that a kill may cost where epochs are not validated
PATIENCE_S = 60.0


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint`` for a run whose folder may move, or that begins with another run's checkpoint.

    With ``save_last``, ``last.ckpt`` is the last epoch. Lightning 2.6 writes it only together with a new best one, so a
    killed run would go back to its best epoch and an evaluation of the last epoch would be one of the best. The one
    before is kept as ``previous.ckpt``. A file appears whole or not at all, and a run resumes with its own data only.
    """

    _saved_at: float = -math.inf

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the epoch if it is the best, and as the last one; of epochs without validation only some."""
        every, epoch = trainer.check_val_every_n_epoch or 1, trainer.current_epoch + 1
        validated = epoch % every == 0
        if validated:
            super().on_train_epoch_end(trainer, pl_module)
        due = (
            validated
            or trainer.should_stop
            or epoch == trainer.max_epochs
            or time.monotonic() - self._saved_at > PATIENCE_S
        )
        # it skips a step that is saved
        if self.save_last and due and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _should_save_on_train_epoch_end(self, trainer: L.Trainer) -> bool:
        """Where validation comes behind an epoch, so does the best checkpoint: it then is no place within one."""
        return trainer.check_val_every_n_epoch is not None and trainer.val_check_interval in (None, 1.0)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Write beside the file and rename: Lightning writes to the folder for temporary files and then copies."""
        target = Path(filepath)
        partial = target.with_name(f".{target.name}.part")
        try:
            trainer.save_checkpoint(partial, self.save_weights_only)
            if trainer.is_global_zero:
                with partial.open("rb") as file:
                    sync(file.fileno())
                if target.name == f"{self.CHECKPOINT_NAME_LAST}.ckpt" and target.exists():
                    os.replace(target, target.with_name(PREVIOUS))
                os.replace(partial, target)
        finally:
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
        trainer.strategy.barrier()
        self._saved_at = time.monotonic()
        self._last_global_step_saved, self._last_checkpoint_saved = trainer.global_step, filepath
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note which data it is trained on."""
        if fingerprint := _fingerprint(trainer):
            checkpoint["data_fingerprint"] = fingerprint

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with other data than the run started with.

        Raises:
            ValueError: saying what to do.
        """
        before, now = checkpoint.get("data_fingerprint"), _fingerprint(trainer)
        states = checkpoint["callbacks"]
        own = self._is_own(states.get(self.state_key, states.get(self._legacy_state_key, {})))
        if before and now and before != now and own:
            raise ValueError(
                f"the data has changed since this run began: its fingerprint was {before} and is {now}. Restore the "
                f"data, or remove {Path(str(self.dirpath)).parent} to train on the new data"
            )

    @property
    def _legacy_state_key(self) -> str:  # type: ignore[override]
        """The key of a plain ``ModelCheckpoint``, which ours had too: now a user's may be beside it."""
        return self.state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over which checkpoint is the best, in the folder as it is called now; not that of another run."""
        folder = Path(str(self.dirpath))
        if not self._is_own(state_dict):
            return

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else ""

        paths = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})
        if (last := folder / f"{self.CHECKPOINT_NAME_LAST}.ckpt").exists():
            self.last_model_path = str(last)  # the first checkpoint, a best one, knows of none

    def _is_own(self, state_dict: dict[str, Any]) -> bool:
        """Whether the state is that of this run, not of the one that it begins with."""
        return Path(state_dict.get("dirpath", "")).parent.name == Path(str(self.dirpath)).parent.name


def _fingerprint(trainer: L.Trainer) -> str | None:
    """That of the data, where it has one."""
    data: Any = getattr(trainer, "datamodule", None)
    return data.fingerprint() if hasattr(data, "fingerprint") else None


class EpochLines(L.Callback):
    """One line an epoch, for logs and pipes where a progress bar would be noise."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of an epoch that begins in its middle, too."""
        self._start = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's numbers."""
        if not trainer.is_global_zero:
            return
        shown = {
            name: trainer.callback_metrics.get(name)
            for name in ("loss/task", "val/acc", "val/nll", "val/iou", "val/loss")
        }
        numbers = "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items() if value is not None)
        seconds = time.perf_counter() - self._start
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {numbers}  {seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
