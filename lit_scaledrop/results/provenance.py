"""Provenance of a number: commit, versions, device."""

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lit_scaledrop.results.schema import Provenance

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy")


def commit() -> tuple[str, bool]:
    """Commit of the source tree and whether tracked files have changed since; ``("unknown", True)`` outside git.

    ``SCALEDROP_COMMIT``, the full hash of a clean tree, speaks for a copy without its repository, or with an older one
    (a container, a node that was sent the files): who makes the copy sets it.
    """
    told = os.environ.get("SCALEDROP_COMMIT", "")
    if re.fullmatch("[0-9a-f]{40}", told):
        return told, False
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "unknown", True


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what computes the numbers."""
    found = {"python": platform.python_version()}
    for name in ("lit-scaledrop", *PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def of_run(commit: tuple[str, bool], setting: str, words: Sequence[str], started: datetime) -> Provenance:
    """By which code and command a run was made that ends now.

    Args:
        commit: at the start, and whether the tree had changes, see :func:`commit`.
        setting: hash of the configuration without its seed.
        words: command line behind ``scaledrop``.
        started: when it began, UTC.
    """
    return {
        "commit": commit[0],
        "dirty": commit[1],
        "setting": setting,
        "command": command(words),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def device_name(device: Any) -> str:
    """Readable name of a ``torch.device``, e.g. ``"cpu: Intel Xeon, 2 threads"``."""
    import torch

    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return str(device.type)
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    threads = torch.get_num_threads()
    return f"cpu: {model}, {threads} thread{'s' * (threads != 1)}"


def command(words: Sequence[str]) -> str:
    """The command line as a user would type it, without this machine's folders.

    Absolute paths become relative to the current folder, or their last part where they lie outside.

    >>> command(["fit", "--config", "/home/me/own.yaml", "--data.root=/mnt/data", "--model.p=0.1"])
    'scaledrop fit --config own.yaml --data.root=data --model.p=0.1'
    """
    return shlex.join(["scaledrop", *(_portable(word) for word in words)])


def portable(value: Any) -> Any:
    """Plain data with every absolute path as :func:`command` writes it.

    >>> portable({"chip_file": "/home/me/lab.yaml", "callbacks": [{"seed": 1}]})
    {'chip_file': 'lab.yaml', 'callbacks': [{'seed': 1}]}
    """
    if isinstance(value, dict):
        return {name: portable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [portable(inner) for inner in value]
    return _portable(value) if isinstance(value, str) else value


def _portable(word: str) -> str:
    flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if os.path.isabs(value):
        here = Path.cwd()
        value = str(Path(value).relative_to(here)) if Path(value).is_relative_to(here) else os.path.basename(value)
    return flag + equals + value
