"""The folder of one run: its lock, the checkpoint to resume from, and whether its network is complete."""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lit_scaledrop.callbacks.training import PREVIOUS
from lit_scaledrop.evaluation.checkpoint import CheckpointError, read_checkpoint, why_unusable
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.locks import take
from lit_scaledrop.results.result import Result, bad_folder_name
from lit_scaledrop.results.store import is_finished, read_result
from lit_scaledrop.runs.tracking import Tracking

UNFINISHED = "unfinished"
"""Mark in the folder of a run with a result whose network is being retrained."""


@dataclass(frozen=True)
class Run:
    """Where a run stores its result, checkpoints and logs, and its tracking."""

    profile: str = "custom"
    """name of the results folder: quick, cpu, gpu, paper, paper_sgd, long, or your own"""
    study: str = "single"
    """table or ablation that the run belongs to, a subfolder"""
    results: str = "results"
    """root of results, RESULTS/PROFILE/STUDY/ID.json"""
    runs: str = "runs"
    """root of checkpoints and logs, RUNS/PROFILE/STUDY/ID"""
    tracking: Tracking = "auto"
    """W&B: auto is online with an API key and offline otherwise"""
    project: str = "lit-scaledrop"
    """W&B project"""
    entity: str | None = None
    """W&B user or team"""
    name: str | None = None
    """W&B name of the run; by default network, method and seed"""
    notes: str | None = None
    """W&B notes about the run"""

    def __post_init__(self) -> None:
        for name in ("profile", "study"):
            if problem := bad_folder_name(getattr(self, name)):
                raise ValueError(f"run.{name} {problem}")

    def result_path(self, run_id: str) -> Path:
        """File of the result."""
        return Path(self.results) / self.profile / self.study / f"{run_id}.json"

    def run_dir(self, run_id: str) -> Path:
        """Folder of checkpoints and logs."""
        return Path(self.runs) / self.profile / self.study / run_id

    def retrained_path(self, run_id: str) -> Path:
        """Record of a network that was retrained beside a result whose checkpoints were gone."""
        return self.run_dir(run_id) / "retrained.json"


@dataclass(frozen=True)
class TrainedNetwork:
    """A training that ended, with what it left."""

    record: Result
    """of this very network: the run's result, or that of the retraining"""
    checkpoint: Path


def find_network(run: Run, run_id: str, which: Literal["best", "last"]) -> TrainedNetwork | None:
    """The network of a finished run, or ``None`` where it has to be trained (on).

    A result comes with a repository, its checkpoints do not. Those that are there count only if they belong to the
    record: a retraining that was killed on its way has left some as well (and the mark :data:`UNFINISHED`).
    """
    paths = (run.retrained_path(run_id), run.result_path(run_id))
    records = [path for path in paths if is_finished(path, move_broken=False)]
    if not records:
        return None
    record, folder = read_result(records[0]), run.run_dir(run_id) / "checkpoints"
    best = record.training["best_epoch"]
    name, epochs = (f"best-epoch={best}", best + 1) if which == "best" else ("last", record.training["epochs"])
    checkpoint = folder / f"{name}.ckpt"
    if (run.run_dir(run_id) / UNFINISHED).exists() or _epochs(checkpoint) != epochs:
        return None
    return TrainedNetwork(record, checkpoint)


def begin_retraining(run_dir: Path) -> None:
    """Mark that a network with a result is retrained; checkpoints that do not belong to it are laid aside."""
    mark, folder = run_dir / UNFINISHED, run_dir / "checkpoints"
    if mark.exists():
        return  # a retraining that was killed resumes
    if folder.is_dir():
        names = (folder.with_name(f"checkpoints.stale{n}") for n in itertools.count(1))
        os.replace(folder, next(name for name in names if not name.exists()))
    mark.touch()


def _epochs(checkpoint: Path) -> int:
    """Epochs behind a checkpoint; 0 if it is missing or damaged."""
    try:
        return int(read_checkpoint(checkpoint)["epoch"]) + 1
    except CheckpointError:
        return 0


def require_writable(folder: Path) -> None:
    """Make a folder and write to it, so that hours of training do not end at a full or read-only disk.

    Raises:
        OSError: saying what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise OSError(
            f"cannot write to {folder} ({error.strerror}): choose other folders with --run.results=DIR --run.runs=DIR"
        ) from error


@contextmanager
def exclusive(folder: Path, doing: str = "trains") -> Iterator[None]:
    """Hold a run's folder; a second process waits. The lock ends with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    held = take(lock)
    if held is None:
        print(f"another process {doing} {folder}: waiting for it", file=sys.stderr, flush=True)
        held = take(lock, wait=True)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def resume_checkpoint(
    run_dir: Path, first: bool = True, shapes: Callable[[], Mapping[str, torch.Size]] | None = None
) -> Path | None:
    """Checkpoint to resume from: of the sound ones whose best one is there, that with most epochs behind it.

    Damaged files are moved aside, since Lightning would write the next one under another name beside it. A best one
    that is lost comes back from the checkpoint of the same epoch. ``last.ckpt`` becomes a copy of what is chosen.

    Args:
        run_dir: folder of the run.
        first: whether this is the process that speaks and moves files for all that train the network.
        shapes: gives those of the network's tensors by name, if there is a checkpoint; what does not fit is damaged.
    """
    folder = run_dir / "checkpoints"
    last = folder / "last.ckpt"
    files = [path for path in (*sorted(folder.glob("best*.ckpt")), last, folder / PREVIOUS) if path.is_file()]
    known = shapes() if shapes and files else None
    epochs = {path: number for path in files if (number := _usable_epochs(path, first, known))}
    if epochs:
        chosen = max(epochs, key=lambda path: (epochs[path], path == last))
        if first:
            print(f"resuming after epoch {epochs[chosen]} of {chosen}", file=sys.stderr, flush=True)
            best = chosen.with_name(_best_of(read_checkpoint(chosen)) or chosen.name)
            for path in {last, best} - {chosen}:
                if path == last or not path.exists():
                    write_atomic(path, chosen.read_bytes())
        return chosen
    for path in filter(Path.is_file, files if first else ()):
        _move_aside(path, f"{path} cannot be used without its best checkpoint, which is damaged or missing")
    return None


def _usable_epochs(path: Path, first: bool, shapes: Mapping[str, torch.Size] | None) -> int:
    """Epochs behind a checkpoint; 0 if it is damaged, or the best one of its time is lost."""
    try:
        checkpoint = read_checkpoint(path)
        if why := why_unusable(checkpoint, shapes):
            raise CheckpointError(f"{path} is damaged: {why}")
    except CheckpointError as error:
        if first:
            _move_aside(path, str(error))
        return 0
    best = path.with_name(_best_of(checkpoint) or path.name)
    itself = best.name == f"best-epoch={checkpoint['epoch']}.ckpt"
    return int(checkpoint["epoch"]) + 1 if itself or best.exists() else 0


def _move_aside(path: Path, problem: str) -> None:
    os.replace(path, aside := path.with_name(f"{path.name}.damaged"))
    print(f"{problem}: renamed to {aside.name}", file=sys.stderr, flush=True)


def _best_of(checkpoint: dict[str, Any]) -> str:
    """Name of the checkpoint that was the best when this one was saved."""
    states = checkpoint.get("callbacks", {})
    return next((Path(s["best_model_path"]).name for s in states.values() if "best_model_path" in s), "")
