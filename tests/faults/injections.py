"""Faults that strike a process from inside, at an exact place. Each leaves the file `struck` when it has happened."""

import errno
import itertools
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def strike(how: str) -> None:
    Path("struck").touch()
    if how == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if how == "read-only":
        raise OSError(errno.EROFS, "Read-only file system")
    if how == "out of memory":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of the driver's words.")
    os.kill(os.getpid(), signal.Signals[how])


def at(owner: Any, name: str, how: str, call: int = 1, behind: bool = False) -> None:
    """Strike before, or behind, the `call`-th call of a function."""
    whole, counter = getattr(owner, name), itertools.count(1)

    def struck(*args: Any, **kwargs: Any) -> Any:
        is_it = next(counter) == call
        if is_it and not behind:
            strike(how)
        value = whole(*args, **kwargs)
        if is_it and behind:
            strike(how)
        return value

    setattr(owner, name, struck)


def in_second_epoch(act: Callable[[Any], object]) -> None:
    """Do something to the module, or the world, in each step of the second epoch."""
    from lit_scaledrop.modules.classifier import LitClassifier

    whole: Callable[..., Any] = LitClassifier.training_step

    def stepped(self: Any, *args: Any) -> Any:
        if self.current_epoch == 1:
            Path("struck").touch()
            act(self)
        return whole(self, *args)

    LitClassifier.training_step = stepped  # type: ignore[method-assign]


def step(how: str, number: int) -> None:
    """In the training step `number`, counted from 1; an epoch has 5."""
    from lit_scaledrop.modules.classifier import LitClassifier

    at(LitClassifier, "training_step", how, number)


def validation(how: str) -> None:
    from lit_scaledrop.modules.classifier import LitClassifier

    at(LitClassifier, "validation_step", how, 2)


def checkpoint_half_written(how: str, call: int) -> None:
    """Half of the bytes of the `call`-th checkpoint are on the disk."""
    import lightning

    whole, counter = lightning.Trainer.save_checkpoint, itertools.count(1)

    def save(self: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        whole(self, path, *args, **kwargs)
        if next(counter) == call:
            os.truncate(path, os.stat(path).st_size // 2)
            strike(how)

    lightning.Trainer.save_checkpoint = save


def module_function(how: str, module: str, name: str, call: int = 1) -> None:
    """Before the `call`-th call of a function by the name that a module has for it, e.g. `os.replace`."""
    __import__(module)
    owner, parts = sys.modules[module], name.split(".")
    if parts[0] == "os":  # only for this module, not for all
        fake = type(os)("os")
        fake.__dict__.update(vars(os))
        owner.os = fake
    for part in parts[:-1]:
        owner = getattr(owner, part)
    at(owner, parts[-1], how, call)


def after_function(how: str, module: str, name: str) -> None:
    __import__(module)
    at(sys.modules[module], name, how, behind=True)


def last_checkpoint(how: str) -> None:
    """The best checkpoint of the second epoch is written, the last one is not."""
    from lit_scaledrop.callbacks import RunCheckpoint

    whole = RunCheckpoint._save_last_checkpoint

    def save(self: Any, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1:
            strike(how)
        whole(self, trainer, *args)

    RunCheckpoint._save_last_checkpoint = save  # type: ignore[method-assign]


def evaluation(how: str) -> None:
    """In the middle of the evaluation."""
    from lit_scaledrop.cli import training

    whole = training.normalized_test_set

    def batches(data: Any) -> Any:
        for images, labels in whole(data):
            yield images[:30], labels[:30]
            strike(how)

    training.normalized_test_set = batches


def logger(how: str) -> None:
    from lightning.pytorch.loggers import CSVLogger

    at(CSVLogger, "save", how, 2)


def weights_become_nan() -> None:
    in_second_epoch(lambda module: next(module.parameters()).data.fill_(float("nan")))


def clock(jump: float) -> None:
    """The wall clock jumps in the second epoch."""
    now = time.time
    in_second_epoch(lambda _: setattr(time, "time", lambda: now() + jump))


def data_change(name: str) -> None:
    """Another process alters a file of the data in the second epoch."""
    path = Path(os.environ["DATA"], "cifar-10-batches-py", name)
    in_second_epoch(lambda _: path.write_bytes(pickle.dumps({})))
