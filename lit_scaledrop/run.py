"""The folder of one run: who works in it, which checkpoint to go on from, and whether it can be written at all."""

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lit_scaledrop.evaluate import CheckpointError, read_checkpoint
from lit_scaledrop.tracking import Tracking


@dataclass(frozen=True)
class Run:
    """Where a run belongs and where it leaves its record."""

    profile: str = "custom"
    """quick, cpu, paper, or a name of your own: the folder of the results"""
    study: str = "single"
    """table or ablation that the run belongs to"""
    results: str = "results"
    """results go to RESULTS/PROFILE/STUDY/ID.json"""
    runs: str = "runs"
    """checkpoints and logs go to RUNS/PROFILE/STUDY/ID"""
    tracking: Tracking = "auto"
    """W&B: auto is online when a key is there and offline otherwise"""
    project: str = "lit-scaledrop"
    """W&B project"""

    def __post_init__(self) -> None:
        for name in ("profile", "study"):
            value = getattr(self, name)
            if not value or value != os.path.basename(value):
                raise ValueError(f"run.{name} is a folder name and must not be empty or contain a slash, got {value!r}")

    def result_path(self, run_id: str) -> Path:
        """File of the result."""
        return Path(self.results) / self.profile / self.study / f"{run_id}.json"

    def run_dir(self, run_id: str) -> Path:
        """Folder of checkpoints and logs."""
        return Path(self.runs) / self.profile / self.study / run_id


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
def exclusive(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder; a second process waits. The lock ends with its process, however that ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process trains {run_dir}: waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def resume_checkpoint(run_dir: Path, first: bool = True) -> Path | None:
    """Checkpoint to go on from: the last epoch's, or the best one where the last one is damaged.

    A damaged file is moved aside, since Lightning would write the next one under another name beside it.

    Args:
        run_dir: folder of the run.
        first: whether this is the process that speaks and moves files for all that train the network.
    """
    folder = run_dir / "checkpoints"
    best = sorted(folder.glob("best*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (folder / "last.ckpt", *best):
        if not path.is_file():
            continue
        try:
            epochs = read_checkpoint(path)["epoch"] + 1
        except CheckpointError as error:
            if first:
                os.replace(path, aside := path.with_name(f"{path.name}.damaged"))
                print(f"{error}: moved aside to {aside.name}", file=sys.stderr, flush=True)
            continue
        if first:
            print(f"going on after epoch {epochs} of {path}", file=sys.stderr, flush=True)
        return path
    return None
