"""How many optimizer steps a training and its epochs have, which schedules need to know."""

import math
from typing import Any


def total_steps(trainer: Any) -> int:
    """Optimizer steps of the whole training, which schedules need to know.

    Raises:
        ValueError: if it has no end.
    """
    steps = trainer.estimated_stepping_batches
    if not math.isfinite(steps):
        raise ValueError("the learning rate schedule needs a length: set trainer.max_epochs or trainer.max_steps")
    blocks = _blocks(trainer)
    return int(steps) if blocks is None else len(blocks.batches) * trainer.max_epochs


def steps_per_epoch(trainer: Any) -> int:
    """Optimizer steps of an epoch, also where the training is counted in steps or takes several a call."""
    if (blocks := _blocks(trainer)) is not None:
        return len(blocks.batches)
    if not math.isfinite(trainer.num_training_batches):  # of a training in steps, Lightning has not counted them yet
        trainer.fit_loop.setup_data()
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def _blocks(trainer: Any) -> Any:
    """What gives several batches at once, if it does; the data is set up."""
    if getattr(getattr(trainer, "lightning_module", None), "steps_per_call", 1) == 1:
        return None
    return trainer.train_dataloader.batch_sampler
