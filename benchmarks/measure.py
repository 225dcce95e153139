"""Interleaved timing, peak memory, the machine's description, Markdown."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from lit_scaledrop.provenance import commit, device_name


def interleaved(cases: dict[str, Callable[[], object]], repeats: int, warm: bool = True) -> dict[str, float]:
    """Median seconds of each case; in every round all cases run once, so that a slow minute slows all of them.

    Args:
        cases: what to time, by name.
        repeats: rounds.
        warm: run each case once before, untimed.
    """
    if warm:
        for run in cases.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_megabytes(prepare: Callable[..., Callable[[], object]], *arguments: object) -> float | None:
    """Resident memory that a run needs at its peak beyond what it began with, in MB; a fresh process measures it.

    Args:
        prepare: module-level function that takes the arguments, sets everything up and returns the run.
        arguments: for ``prepare``; they must be picklable.

    Returns:
        MB of 10^6 bytes, or ``None`` where the system does not tell (not Linux).
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (prepare, arguments, torch.get_num_threads()))


def _peak(prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...], threads: int) -> float | None:
    torch.set_num_threads(threads)
    run = prepare(*arguments)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = _status("VmRSS")
        run()
        return (_status("VmHWM") - before) / 1e6
    except OSError:
        return None


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def machine(words: Sequence[str]) -> str:
    """Where and how the numbers were made: device, versions, commit, load, command."""
    sha, dirty = commit()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{device_name(torch.device('cpu'))}; torch {torch.__version__}; commit {sha[:10]}"
        f"{' (changed)' if dirty else ''}; load average {load} at the start. "
        f"Command: `python -m benchmarks {' '.join(words)}`"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; floats with three significant digits, ``None`` as an empty cell.

    >>> print(table(["a", "b"], [[1, 0.12345], ["x", None]]))
    | a | b |
    |---|---|
    | 1 | 0.123 |
    | x |  |
    """
    lines = [header, ["---"] * len(header), *rows]
    text = ["| " + " | ".join(_cell(value) for value in line) + " |" for line in lines]
    text[1] = text[1].replace(" ", "")
    return "\n".join(text)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)
