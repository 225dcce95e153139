"""A trainer that says nothing, batches of noise, and a Lightning module that writes down what it is shown."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint


def quiet_trainer(**options: Any) -> L.Trainer:
    """Lightning's trainer on the CPU without bars, summaries, loggers and checkpoints, unless they are asked for."""
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return L.Trainer(**{"accelerator": "cpu", "num_sanity_val_steps": 0, **dict.fromkeys(quiet, False), **options})


class Batches:
    """Images and classes in batches, without a DataLoader's advice on workers."""

    def __init__(self, count: int, size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(count * size, 3, 32, 32, generator=generator)
        self.batches = list(zip(images.split(size), (torch.arange(count * size) % 10).split(size), strict=True))

    def __iter__(self):
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Recorder(L.LightningModule):
    """A linear layer on each pixel; ``shown`` has (epoch, sum of the images, labels) of every training batch."""

    def __init__(self, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(channels, classes, 1)
        self.shown: list[tuple[int, float, list[Any]]] = []
        self.evaluated: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        self.shown.append((self.trainer.current_epoch, images.double().sum().item(), labels.tolist()))
        pixels, targets = (images, labels) if labels.dim() > 1 else (images.mean((2, 3), True), labels[:, None, None])
        return torch.nn.functional.cross_entropy(self.layer(pixels), targets, ignore_index=255)

    def validation_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.evaluated.append(batch)
        return torch.zeros(())

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Any, **options: Any) -> L.Trainer:
    """A quiet trainer of one process that keeps its files in ``folder``."""
    return quiet_trainer(devices=1, default_root_dir=folder, log_every_n_steps=1, **options)


def check_resumed(
    make: Any, data: Any, folder: Any, options: dict[str, Any], saving: dict[str, Any], steps: tuple[int, ...] = ()
) -> None:
    """Train, and once more from checkpoints: what is shown and learnt must be the same.

    Args:
        make: Makes a fresh ``Recorder``.
        data: Makes a fresh data module.
        folder: Where checkpoints go.
        options: Of the trainer.
        saving: When checkpoints are written.
        steps: Where to resume; none is every checkpoint but the last.
    """

    def fit(where: Any, **start: Any) -> Recorder:
        torch.manual_seed(len(str(where)))  # the global stream plays no part
        model = make()
        torch.nn.init.zeros_(model.layer.weight), torch.nn.init.zeros_(model.layer.bias)
        checkpoints = ModelCheckpoint(where, filename="{step}", save_top_k=-1, **saving)
        run = trainer(where, enable_checkpointing=True, callbacks=[checkpoints], **options)
        run.fit(model, datamodule=data(), **start)
        return model

    whole = fit(folder)
    saved = {int(path.stem.partition("=")[2]): path for path in folder.glob("step=*.ckpt")}
    assert len(saved) >= 3
    for step in steps or sorted(saved)[:-1]:
        resumed = fit(folder / str(step), ckpt_path=saved[step], weights_only=True)
        assert resumed.shown == whole.shown[step:], f"resumed from step {step}"
        torch.testing.assert_close(resumed.layer.weight, whole.layer.weight, rtol=0, atol=0)
