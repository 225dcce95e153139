"""Callbacks on the length of a training: its time limit, and whether it is validated at all."""

import math
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_scaledrop.modules.anybody import monitor_of, not_logged
from lit_scaledrop.modules.schedule import steps_per_epoch


class TimeUpError(RuntimeError):
    """The training stopped at ``trainer.max_time``; the same command resumes it."""

    exit_code = 124  # that of timeout(1)


class AttemptTimer(Timer):
    """Training time over all attempts at a run, and an end to this attempt at ``trainer.max_time``.

    The end comes with the epoch in which the time is up: nothing is lost, and a resumed one gets the numbers of a
    training that was never stopped.

    Args:
        max_time: of this attempt, as Lightning's ``Trainer`` takes it (``"DD:HH:MM:SS"``); ``None`` is no limit.

    Raises:
        ValueError: for another format.
    """

    def __init__(self, max_time: str | timedelta | dict[str, int] | None = None) -> None:
        try:
            super().__init__(max_time, interval="epoch", verbose=False)
        except MisconfigurationException as error:
            raise ValueError(f"trainer.max_time takes DD:HH:MM:SS, not {max_time!r}") from error
        self.time_up = False
        """whether the time has stopped a training that was not at its end"""

    @property
    def state_key(self) -> str:
        """That of Lightning's class, which wrote the checkpoints of earlier versions."""
        return Timer.__qualname__

    def on_fit_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Earlier attempts do not count, Lightning's would."""

    def on_train_epoch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Stop if the time is up, unless the training ends here anyway."""
        if self._duration is None:
            return
        epochs, steps = trainer.max_epochs or -1, trainer.max_steps
        ends = 0 < epochs <= trainer.current_epoch + 1 or 0 < steps <= trainer.global_step
        up = self.time_elapsed() - self._offset >= self._duration and not ends and not trainer.should_stop
        self.time_up = trainer.strategy.broadcast(up)
        trainer.should_stop = trainer.should_stop or self.time_up


class ValidationComes(L.Callback):
    """Refuse a training that ends before its first validation, before its first step."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Say in our words what Lightning refuses with the advice to validate nothing.

        Raises:
            ValueError: naming the settings.
        """
        try:
            trainer.fit_loop.setup_data()
        except ValueError as error:
            if "val_check_interval" not in str(error):
                raise
            batches = f"{trainer.fit_loop.max_batches} batches an epoch"
            why = f"trainer.val_check_interval={trainer.val_check_interval} and {batches}"
            raise ValueError(no_validation(why)) from error

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count in batches, now that the size of the data is known.

        Raises:
            ValueError: naming the settings.
        """
        if getattr(trainer, "_val_check_time_interval", None) is not None:
            return
        batches, steps = int(trainer.num_training_batches), steps_per_epoch(trainer)
        every, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch
        interval = batches if interval in (None, math.inf) else interval
        ends = []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            ends.append(trainer.max_epochs * batches)
        if trainer.max_steps > 0:
            epochs, rest = divmod(trainer.max_steps, steps)
            ends.append(epochs * batches + rest * math.ceil(batches / steps))
        first = interval if every is None else (every - 1) * batches + interval
        if ends and first > min(ends):
            raise ValueError(
                no_validation(
                    f"trainer.max_epochs={trainer.max_epochs}, trainer.max_steps={trainer.max_steps}, "
                    f"{batches} batches an epoch and the first validation after batch {first}"
                )
            )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a module that does not log what chooses the checkpoint.

        Raises:
            ValueError: naming what it logs.
        """
        if monitor_of(pl_module) not in trainer.callback_metrics:
            logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ValueError(not_logged(pl_module, f"its validation logged {logged}"))


def no_validation(why: str) -> str:
    """What to say of a training that ends before its first validation; ``why`` names the settings."""
    return (
        f"no validation would select a checkpoint with {why}: lower trainer.check_val_every_n_epoch or "
        "trainer.val_check_interval, or train longer"
    )
