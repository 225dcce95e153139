"""One of two processes that train together; ``test_ddp.py`` starts both. What each saw goes to ``<folder>/<rank>.pt``.

Environment: LOCAL_RANK, MASTER_ADDR, MASTER_PORT, as Lightning reads them, and DATA. Argument: the folder.
"""

import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from datamodules import CIFAR10DataModule
from lit_scaledrop.callbacks import CrossbarEnergy, EstimatorSchedule, MTJVariation
from lit_scaledrop.layers.stochastic import StochasticLayer, stochastic_layers
from lit_scaledrop.modules.classifier import LitClassifier

SHARE = 16  # images of a process in a step


class Seen(L.Callback):
    """Loss, drop probabilities and draws of every training step, from the inside of this process."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.probabilities: list[list[float]] = []
        self.draws: list[dict[str, torch.Tensor]] = []

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("losses", "probabilities", "draws")}

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        layers = stochastic_layers(module.network)
        self.probabilities.append([float(getattr(layer, "p", 0)) for layer in layers.values()])
        self.draws.append(seen := {})

        def note(layer: StochasticLayer, x: torch.Tensor, name: str) -> torch.Tensor | None:
            seen[name] = StochasticLayer.active_draws(layer, x)
            return seen[name]

        for name, layer in layers.items():
            layer.active_draws = lambda x, layer=layer, name=name: note(layer, x, name)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        for layer in stochastic_layers(module.network).values():
            del layer.active_draws


class FrozenNorm(L.Callback):
    """BatchNorm with its running statistics, which no share of a batch moves."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()


class Doubles(L.Callback):
    """Images in double precision, where the network is: a sign would amplify rounding."""

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        made = trainer.datamodule.on_after_batch_transfer

        def doubled(batch: Any, dataloader_idx: int) -> Any:
            images, target = made(batch, dataloader_idx)
            return images.double(), target

        trainer.datamodule.on_after_batch_transfer = doubled


def data(batch_size: int) -> CIFAR10DataModule:
    return CIFAR10DataModule(batch_size=batch_size, checksums="recorded", augment="none", flip=False, seed=3)


def fit(
    model: LitClassifier, folder: Path, *callbacks: L.Callback, processes: int = 2, ckpt: Any = None, **trainer: Any
) -> tuple[Seen, L.Trainer]:
    """Train ``model`` on global batches of 32 images; its first weights and masks follow from the seed alone."""
    seen = Seen()
    several = {"devices": processes, "strategy": "ddp"} if processes > 1 else {}
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing"), False)
    options = {"num_sanity_val_steps": 0, "log_every_n_steps": 1, **quiet, **several, **trainer}
    callbacks = (*callbacks, EstimatorSchedule(), seen)
    made = L.Trainer(accelerator="cpu", default_root_dir=folder, callbacks=[*callbacks], **options)
    made.fit(model, data(2 * SHARE // processes), ckpt_path=ckpt)
    return seen, made


def build(method: str, **settings: Any) -> LitClassifier:
    L.seed_everything(5, verbose=False)
    return LitClassifier("lenet5", method, width=0.5, optimizer="sgd", lr=0.05, **settings)


def exact(build_model: Any, folder: Path, processes: int) -> dict[str, Any]:
    """One mask a batch, varied probabilities, running statistics in BatchNorm: nothing may depend on the shares."""
    model = build_model("proposed", mask_per="batch", p=0.4)
    callbacks = (
        Doubles(),
        FrozenNorm(),
        MTJVariation(sigma=0.1, when="train"),
        CrossbarEnergy(passes=2, every_epoch=True),
    )
    logger = CSVLogger(folder, name="logs")
    seen, _ = fit(model, folder, *callbacks, processes=processes, max_epochs=2, logger=logger, precision="64-true")
    return {**seen.record(), "weights": model.state_dict()}


def main(folder: Path) -> None:
    """Train in turn what the tests ask about."""
    found: dict[str, Any] = {"exact": exact(build, folder / "exact", 2)}
    for method in ("proposed", "mc_dropout_htanh", "spindrop", "mc_dropconnect", "spinbayes"):
        seen, _ = fit(build(method), folder, max_epochs=1, limit_train_batches=2, limit_val_batches=1)
        found[method] = seen.record()

    model = build("fp")
    seen, trainer = fit(model, folder, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    found["norm"] = {**seen.record(), "weights": model.state_dict()}

    checkpoints = ModelCheckpoint(folder / "whole", "{epoch}", save_top_k=-1)
    model = build("mc_dropout_htanh")
    fit(model, folder, checkpoints, max_epochs=2, enable_checkpointing=True)
    resumed = build("mc_dropout_htanh")
    torch.manual_seed(99)  # a new process's stream has nothing to do with it
    fit(resumed, folder, max_epochs=2, ckpt=folder / "whole" / "epoch=0.ckpt")
    found["whole"], found["resumed"] = model.state_dict(), resumed.state_dict()

    other = folder / "whole" / "epoch=0.ckpt" if trainer.global_rank == 0 else None
    try:
        fit(build("mc_dropout_htanh"), folder, max_epochs=2, ckpt=other)
    except ValueError as error:
        found["refused"] = str(error)
    torch.save(found, folder / f"{trainer.global_rank}.pt")


if __name__ == "__main__":
    os.environ.setdefault("NODE_RANK", "0")
    main(Path(sys.argv[1]))
