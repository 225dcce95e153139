"""``scaledrop doctor``: checks whether this machine has what the commands need, and says how to install the rest.

Nothing is loaded, trained or downloaded; ``scaledrop data`` verifies the data sets that are found.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_scaledrop.cli.command import call
from lit_scaledrop.extras import extras

CORE = ("torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "numpy")
SPARE_GB = 2.0  # a cpu table's checkpoints and logs


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    text: str
    state: Literal["ok", "note", "problem"] = "ok"


def main(argv: list[str]) -> int:
    """Run ``scaledrop doctor`` with ``argv`` behind it."""
    return call(doctor, argv, "scaledrop doctor")


def doctor(*, root: Path | None = None, results: Path = Path("results")) -> int:
    """Check versions, devices, data and tracking; exits with 1 if something required is missing.

    Args:
        root: folder of the data; default: the environment variable DATA, or ./data.
        results: folder of the results.
    """
    root = root or Path(os.environ.get("DATA") or "data")
    findings = [*packages(), *devices(), *tracking(), *data(root), *folders(results)]
    width = max(len(finding.topic) for finding in findings)
    marks = {"ok": " ", "note": "-", "problem": "!"}
    for finding in findings:
        print(f"{marks[finding.state]} {finding.topic:<{width}}  {finding.text}")
    problems = sum(finding.state == "problem" for finding in findings)
    print("nothing is missing" if not problems else f"{problems} to fix, marked with !", flush=True)
    return int(problems > 0)


def packages() -> Iterator[Finding]:
    """Python and the packages, against what this version asks for."""
    from lit_scaledrop import __version__

    yield Finding("lit-scaledrop", f"{__version__}, Python {platform.python_version()} on {platform.system()}")
    wanted = minimum_versions()
    for name in CORE:
        have, least = installed(name), wanted.get(name, "0")
        if have is None:
            yield Finding(name, f"not installed: pip install '{name}>={least}'", "problem")
        elif _parts(have) < _parts(least):
            yield Finding(name, f"{have} is too old: pip install -U '{name}>={least}'", "problem")
        else:
            yield Finding(name, have)
    for extra, projects in extras().items():
        absent = [repr(line) for project, line in projects.items() if installed(project) is None]
        text = f"not installed: pip install {' '.join(absent)}" if absent else "installed"
        yield Finding(f"extra {extra}", text, "note" if absent else "ok")


def require_packages() -> None:
    """Refuse to begin with a package that is missing or too old, instead of failing somewhere in it.

    Raises:
        RuntimeError: saying which, and what to do.
    """
    problems = [f"{finding.topic}: {finding.text}" for finding in packages() if finding.state == "problem"]
    if problems:
        raise RuntimeError("; ".join(problems))


def minimum_versions() -> dict[str, str]:
    """Lowest version of each package that this one asks for, from its own metadata."""
    try:
        lines = importlib.metadata.requires("lit-scaledrop") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w-]+)(?:\[[\w,]+\])?.*?[>=]=([\d.]+)", line) for line in lines if "extra ==" not in line)
    return {match[1].lower(): match[2] for match in found if match}


def installed(name: str) -> str | None:
    """Version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def devices() -> Iterator[Finding]:
    """What trains, and whether ``--fast`` can."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    from lit_scaledrop.layers.exact import native_bfloat16
    from lit_scaledrop.runs.compiler import require_compiler
    from lit_scaledrop.runs.forecast import emulates_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = ", multiplies bfloat16" if native_bfloat16() else ""
    yield Finding("CPU", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads{bf16}")
    if emulates_bfloat16():
        text = "no instructions for it: on this CPU add --trainer.precision=32-true to --fast and the profile cpu"
        yield Finding("bfloat16", text, "note")
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Finding(f"GPU {index}", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    if device.type == "cpu":
        yield Finding("GPU", "none: use the profiles quick and cpu", "note")
    try:
        require_compiler(device)
        yield Finding("torch.compile", f"has what it needs on {device.type}")
    except RuntimeError as error:
        yield Finding("torch.compile", str(error), "note")
    from lit_scaledrop.layers.bits import LEVELS, available, best_level

    if available():
        yield Finding("signs as bits", f"kernels for {LEVELS[best_level()]}")
    else:
        yield Finding("signs as bits", "no C compiler (CC, cc, gcc): PyTorch multiplies, which is slower", "note")


def tracking() -> Iterator[Finding]:
    """What W&B will do."""
    from lit_scaledrop.runs.tracking import wandb_mode

    if importlib.util.find_spec("wandb") is None:
        return
    try:
        mode = wandb_mode("auto")
    except ValueError as error:
        yield Finding("W&B", str(error), "problem")
        return
    how = {"offline": "no API key; `wandb login`, or WANDB_API_KEY, for online runs", "online": "API key found"}
    yield Finding("W&B", ", ".join(filter(None, (mode, how.get(mode)))))


def data(root: Path) -> Iterator[Finding]:
    """Which data sets are found below the folder."""
    from datamodules import DATAMODULES, EVALUATION_SETS, SEGMENTATION_DATAMODULES

    sets: dict[str, Any] = {**DATAMODULES, **SEGMENTATION_DATAMODULES, **EVALUATION_SETS}
    found = {name: _found(kind.files, root) for name, kind in sets.items() if kind.files is not None}
    there, absent = ([name for name, is_there in found.items() if is_there == state] for state in (True, False))
    yield Finding("data", f"in {root}: {', '.join(there) or 'nothing'}", "ok" if there else "note")
    if absent:
        yield Finding("", f"not there: {', '.join(absent)} (scaledrop data get NAME --root {root})", "note")
    embedded = ", ".join(name for name, kind in sets.items() if kind.files is None)
    yield Finding("", f"packaged, for the quick profile: {embedded}")


def _found(files: object, root: Path) -> bool:
    look = getattr(files, "find", None) or files.reader  # type: ignore[attr-defined]
    try:
        look(root)
    except (OSError, RuntimeError):
        return False
    return True


def folders(results: Path) -> Iterator[Finding]:
    """Where results and checkpoints go, and whether there is room."""
    found = [path for path in sorted(results.glob("*/*/*.json")) if not path.name.endswith(".failed.json")]
    counts = Counter(path.parent.parent.name for path in found)
    told = ", ".join(f"{count} of {profile}" for profile, count in counts.items())
    yield Finding("results", f"in {results}: {told or 'none yet'}")
    spare = shutil.disk_usage(Path.cwd()).free / 1e9
    writable = os.access(Path.cwd(), os.W_OK)
    where = "the current folder" if writable else "the current folder is not writable: --run.results and --run.runs"
    state: Literal["ok", "problem"] = "ok" if writable and spare > SPARE_GB else "problem"
    yield Finding("disk", f"{spare:.0f} GB free in {where}", state)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
