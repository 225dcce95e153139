"""The learning curve of a run: metrics after each epoch, across restarts."""

from typing import Any

import lightning as L

from lit_scaledrop.results.run_logs import Points, rounded

LOSS = "loss/task"


class LearningCurve(L.Callback):
    """Keep the monitored validation metric and the task loss of every epoch; the state goes through checkpoints.

    Attributes:
        points: by epochs behind them, from 1, values by the names they are logged under, rounded to 4 digits.
    """

    def __init__(self) -> None:
        self.points: Points = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the metric in; an epoch without validation has none."""
        if not trainer.sanity_checking:
            self._take(trainer, str(getattr(pl_module, "monitor", "")))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the loss in."""
        self._take(trainer, LOSS)

    def _take(self, trainer: L.Trainer, name: str) -> None:
        value = trainer.callback_metrics.get(name)
        if value is not None:
            self.points.setdefault(trainer.current_epoch + 1, {})[name] = rounded(float(value))

    def state_dict(self) -> dict[str, Any]:
        """The points, as plain numbers."""
        return {"points": {epoch: dict(values) for epoch, values in self.points.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the points of the checkpoint."""
        self.points = {int(epoch): dict(values) for epoch, values in state_dict["points"].items()}
