"""How long a training will take, measured on a few images before it begins."""

import copy
import platform
import sys
import time
from typing import Any

import torch
from torch import nn

from lit_scaledrop.layers.exact import native_bfloat16
from lit_scaledrop.naming import count

IMAGES, REPEATS = 16, 3
WORTH_MEASURING = 2_000_000
"""Images to train on below which nobody has to be warned: CIFAR-10 for 44 epochs."""
WORTH_SAYING_H = 6.0


def training_hours(network: nn.Module, shape: tuple[int, ...], images: int, epochs: int) -> float:
    """Hours that forward and backward passes over ``epochs`` times ``images`` take, eager in float32, on the CPU.

    The network, its BatchNorm and the random streams are left as they are. Compiled bf16 is about three times as fast.
    """
    with torch.random.fork_rng(devices=[]):
        trial = copy.deepcopy(network).train()
        x = torch.randn(IMAGES, *shape)
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            trial(x).float().square().mean().backward()
            seconds.append(time.perf_counter() - start)
    return min(seconds) / IMAGES * images * epochs / 3600


def warning(network: nn.Module, data: Any, epochs: int | None, profile: str, fast: bool) -> str | None:
    """What to say before a training on a CPU that will take long; ``None`` if nothing."""
    images = len(data.train_set)
    if epochs is None or epochs < 0 or images * epochs < WORTH_MEASURING:
        return None
    shape = tuple(data.train_set[0][0].shape)
    hours = training_hours(network, shape, images, epochs) / (3 if fast else 1)
    if hours < WORTH_SAYING_H:
        return None
    how_long = f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
    instead = "" if profile in ("quick", "cpu") else "; `--profile cpu` is made for CPUs"
    return (
        f"this training will take about {how_long} on this CPU: {count(epochs, 'epoch')} of {count(images, 'image')}"
        f"{instead}. Ctrl-C stops it, the same command resumes"
    )


def emulates_bfloat16() -> bool:
    """Whether this is an x86 processor without instructions for bfloat16; of others, nothing is known."""
    known = platform.machine().lower() in ("x86_64", "amd64") and hasattr(torch.cpu, "_is_avx512_bf16_supported")
    return known and not native_bfloat16()


def announce(trainer: Any, model: Any, data: Any, profile: str) -> None:
    """Print the warnings before a training on a CPU; arguments are Lightning's, and the profile of the run."""
    if trainer.strategy.root_device.type != "cpu" or trainer.global_rank > 0:
        return
    if str(trainer.precision).startswith("bf16") and emulates_bfloat16():
        print(
            f"scaledrop: this CPU has no bfloat16 instructions and emulates {trainer.precision}, which is slower "
            f"than float32: add --trainer.precision=32-true (a different run)",
            file=sys.stderr,
            flush=True,
        )
    data.setup("fit")
    fast = bool(model.hparams.get("compile_network"))
    if said := warning(getattr(model, "network", model), data, trainer.max_epochs, profile, fast):
        print(f"scaledrop: {said}", file=sys.stderr, flush=True)
