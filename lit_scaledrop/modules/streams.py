"""Random streams of a training: unchanged by resuming, and masks that processes share or draw separately."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lit_scaledrop.layers.stochastic import batch_draws
from lit_scaledrop.posterior.drop_probability import seeded


class ResumableModule(L.LightningModule):
    """A LightningModule whose random draws do not tell whether its training was interrupted."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random streams, which a resumed training continues."""
        checkpoint["torch_rng_state"] = torch.get_rng_state()
        checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random streams until training starts: what is built before it draws from them."""
        self._rng_state = checkpoint.get("torch_rng_state"), checkpoint.get("cuda_rng_state")

    def on_fit_start(self) -> None:
        """Refuse a training whose processes would resume from different checkpoints, or one of them from none."""
        if self.trainer.world_size == 1:
            return
        path = self.trainer.ckpt_path
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and Path(path).is_file() else None
        strategy = self.trainer.strategy
        if not strategy.reduce_boolean_decision(strategy.broadcast(digest) == digest):
            raise ValueError(
                "the processes of this training found different checkpoints to resume from: all nodes need the same "
                "folder of runs on a shared file system (--run.runs=DIR), and the same current folder"
            )

    def on_train_start(self) -> None:
        """Go on with the random streams of the checkpoint, if there is one."""
        cpu, cuda = getattr(self, "_rng_state", (None, None))
        if cpu is not None:
            torch.set_rng_state(cpu.cpu())
        # a checkpoint of another number of devices has no stream for each of these
        if cuda and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in cuda])
        if self._trainer is not None:
            # the optimizer's schedule has asked for the loaders before Lightning knew of the checkpoint's place in them
            self.trainer.fit_loop._load_combined_loader_states()
            self.on_train_epoch_start()  # which a checkpoint from within an epoch would leave out

    def on_train_epoch_start(self) -> None:
        """Give every process but the first a random stream of its own, so that no two examples share their masks.

        A checkpoint has the first one's stream. The others' follow from seed, process and epoch: a training that is
        resumed between two epochs draws what it would have drawn.
        """
        self._seed = int(self.trainer.strategy.broadcast(torch.initial_seed()))
        if rank := self.trainer.global_rank:
            torch.manual_seed(seeded("process", self._seed, rank, self.current_epoch).initial_seed())

    def _one_mask_for_all_processes(self, batch_idx: int) -> AbstractContextManager[None]:
        """What is drawn once for a batch is drawn once for the global batch: alike in all processes."""
        if self._trainer is None or self._trainer.world_size == 1:
            return nullcontext()
        return batch_draws(self, seeded("batch", self._seed, self.current_epoch, batch_idx))
