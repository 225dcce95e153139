"""A trainer that says nothing, and batches of noise."""

from typing import Any

import lightning as L
import torch


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
