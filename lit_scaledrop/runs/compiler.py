"""Checks the requirements of ``torch.compile`` before a training."""

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch


def require_compiler(device: torch.device) -> None:
    """Look for the programs and files that ``torch.compile`` will need; nothing is compiled, so it costs no time.

    Raises:
        RuntimeError: saying what is missing and what to do.
    """
    variable, default = ("CC", "gcc") if device.type == "cuda" else ("CXX", "g++")
    if sys.platform == "darwin":
        default = "clang++"
    compiler = os.environ.get(variable, default)
    missing = []
    others = ["clang"] if device.type == "cuda" and variable not in os.environ else []  # Triton looks for both
    if not any(map(shutil.which, [compiler, *others])):
        missing.append(f"the compiler {compiler!r} (install one, or name yours in the environment variable {variable})")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("Python.h (install the development package of this Python)")
    if device.type == "cuda" and find_spec("triton") is None:
        missing.append("Triton (pip install triton)")
    if missing:
        raise RuntimeError(
            f"torch.compile on {device.type} needs {' and '.join(missing)}. Or train without it: "
            "--model.compile_network=false, or --no-fast, which also turns bf16 off"
        )
