"""Refuses settings that make a training impossible, before it begins."""

import math
import os
from typing import Any

import torch

from lit_scaledrop.callbacks.limits import no_validation

#: LightningCLI's ways to change the optimizer, which a LitNetwork builds itself, and what does so here
INSTEAD = {
    "optimizer": "--model.optimizer=sgd|adam, --model.lr and --model.momentum",
    "lr_scheduler": "--model.schedule=cosine|constant and --model.warmup_epochs",
}
_LENGTHS = ("max_epochs", "max_steps", "limit_train_batches", "limit_val_batches")
_ABOVE_ZERO = (*_LENGTHS, "check_val_every_n_epoch", "val_check_interval")


def require_model_optimizer(config: Any) -> None:
    """Refuse an optimizer or schedule beside the model's own, as LightningCLI takes it.

    Raises:
        ValueError: saying what to use instead.
    """
    for name, instead in INSTEAD.items():
        if config.get(name):
            raise ValueError(f"--{name} is not used here, the model has its own: use {instead}")


def require_named_network(config: dict[str, Any]) -> None:
    """Refuse a network that is given as a class: a checkpoint could not say what its weights belong to.

    Raises:
        ValueError: saying how it is given.
    """
    network = (config["model"].get("init_args") or {}).get("network")
    if isinstance(network, dict):
        raise ValueError(
            f"model.network must be a name: --model.network={network.get('class_path')} for your own class or "
            f"function, which is called with num_classes"
        )


def require_trainer(trainer: dict[str, Any]) -> None:
    """Refuse what a run cannot do without: its checkpoint.

    Raises:
        ValueError: naming the setting.
    """
    for name, without in (("enable_checkpointing", False), ("barebones", True)):
        if trainer[name] is without:
            raise ValueError(
                f"trainer.{name}={str(without).lower()} leaves no checkpoint to evaluate: remove it; "
                f"--trainer.fast_dev_run=1 is a trial that writes nothing"
            )
    devices, cores = str(trainer.get("devices", "")), os.cpu_count() or 1
    on_cpu = trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
    if devices.isdecimal() and on_cpu and trainer.get("accelerator") in ("cpu", "auto") and int(devices) > cores:
        raise ValueError(
            f"trainer.devices={devices}: this machine has {cores} cores, and each process needs at least one"
        )


def require_validation(config: dict[str, Any]) -> None:
    """Refuse a training that could choose no checkpoint, before it begins.

    What depends on the size of the data is refused before the first step, see
    :class:`lit_scaledrop.callbacks.ValidationComes`.

    Raises:
        ValueError: saying which settings leave no validation.
    """
    trainer, data = config["trainer"], config["data"].get("init_args") or {}
    zero = [f"trainer.{name}" for name in _ABOVE_ZERO if trainer[name] == 0 and trainer[name] is not False]
    zero += ["data.val_fraction"] if data.get("val_fraction") == 0 else []
    if zero:
        raise ValueError(f"the validation split chooses the checkpoint: {' and '.join(zero)} must be above 0")
    if trainer["fast_dev_run"]:
        return  # has its own length
    epochs, batches = trainer["max_epochs"], trainer["limit_train_batches"]
    every, interval = trainer["check_val_every_n_epoch"], trainer["val_check_interval"]
    if every and epochs and 0 < epochs < every:
        raise ValueError(no_validation(f"trainer.check_val_every_n_epoch={every} and trainer.max_epochs={epochs}"))
    if type(interval) is not int:
        return
    limits = {"limit_train_batches": batches} if type(batches) is int else {}
    longest = limits.get("limit_train_batches", math.inf)
    if every is None:
        limits |= {name: trainer[name] for name in ("max_epochs", "max_steps") if (trainer[name] or 0) > 0}
        in_steps = limits.get("max_steps", math.inf) * trainer["accumulate_grad_batches"]
        longest = min(longest * limits.get("max_epochs", math.inf), in_steps)
    if interval > longest:
        known = ", ".join(f"trainer.{name}={value}" for name, value in limits.items())
        raise ValueError(no_validation(f"trainer.val_check_interval={interval} and {known}"))
