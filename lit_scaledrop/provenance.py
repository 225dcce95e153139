"""Where a number comes from: commit, versions, device."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy")


def commit() -> tuple[str, bool]:
    """Commit of the source tree and whether tracked files have changed since; ``("unknown", True)`` outside git."""
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
    return f"cpu: {model}, {torch.get_num_threads()} threads"


def command() -> str:
    """The command line as a user would type it, without the path of the interpreter or of a checkout."""
    words = ["scaledrop", *sys.argv[1:]]
    root = str(Path(__file__).resolve().parent.parent) + os.sep
    return " ".join(word.replace(root, "") for word in words)
