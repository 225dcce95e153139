"""Interleaved timing, peak memory, the machine's description, Markdown."""

import copy
import itertools
import operator
import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lit_scaledrop.results.provenance import commit, device_name

_PAUSE_S, _SHORT_S = 0.05, 0.2


def take_turns(
    benchmark: Any, rounds: int, cases: dict[str, Callable[[], object]], warm: bool = True
) -> dict[str, Any]:
    """Time cases with pytest-benchmark, each once in every round, so that a slow minute slows all of them.

    Each begins after a pause, in which threads that the one before has left spinning (ONNX Runtime's, OpenMP's) sleep,
    and a short one after an untimed run, so that it is as warm as where it runs again and again.

    pytest-benchmark itself runs all rounds of one case and then those of the next: a busy machine would change the
    ratio of their medians.

    Args:
        benchmark: the fixture of pytest-benchmark.
        rounds: how often each case is timed.
        cases: what to time, by name; they make a group in the report.
        warm: run each case once before, untimed.

    Returns:
        The fixture of each case, whose ``extra_info`` takes what belongs to it beside the time.
    """
    # a record for each case; pytest-benchmark wants its own fixture to be used
    fixtures = dict(zip(cases, [benchmark, *(copy.copy(benchmark) for _ in range(len(cases) - 1))], strict=True))
    group, node = benchmark.name, benchmark.fullname
    for name, fixture in fixtures.items():
        fixture.name, fixture.fullname, fixture.group, fixture.extra_info = name, f"{node}::{name}", group, {}
    if warm:
        for run in cases.values():
            run()
    seconds = dict.fromkeys(cases, 0.0)

    def begin(name: str) -> None:
        time.sleep(_PAUSE_S)
        if warm and seconds[name] < _SHORT_S:
            start = time.perf_counter()
            cases[name]()
            seconds[name] = time.perf_counter() - start

    for name, run in cases.items():
        begin(name)
        fixtures[name].pedantic(run)  # the first round makes the record
    for _ in range(rounds - 1 if benchmark.enabled else 0):
        for name, run in cases.items():
            begin(name)
            start = time.perf_counter()
            run()
            fixtures[name].stats.update(time.perf_counter() - start)
    return fixtures


def by_group(results: Iterable[dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """Records of pytest-benchmark, those of one group, measured in turns, as a dictionary by case."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["group"], {})[result["name"]] = result
    return list(groups.values())


def peak_megabytes(run: Callable[[], object]) -> float:
    """Most memory that a run's tensors hold at once, in MB of 10^6 bytes, counted at torch's allocator on the CPU.

    Not the resident memory of the process, which for a network as small as ResNet-20 differs twofold from one
    run to the next; what a library allocates for itself is not counted.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    held = itertools.accumulate(size for _, size in sorted(changes, key=operator.itemgetter(0)))
    return max(held, default=0) / 1e6


def machine(words: Sequence[str]) -> str:
    """Where and how the numbers were made: device, versions, commit, load, command."""
    sha, dirty = commit()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{device_name(torch.device('cpu'))}; torch {torch.__version__}; commit {sha[:10]}"
        f"{' (changed)' if dirty else ''}; load average {load} at the start. "
        f"Command: `python -m pytest {shlex.join(_without_out(words))}`"
    )


def _without_out(words: Sequence[str]) -> list[str]:
    """The words without the folder of the tables, which changes no number."""
    kept = [word for word, before in zip(words, ["", *words], strict=False) if "--out" not in (word, before)]
    return [word for word in kept if not word.startswith("--out=")]


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
