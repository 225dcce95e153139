"""Options of the benchmarks, interleaved rounds for pytest-benchmark, and Markdown from what it recorded.

A file ``bench_NAME.py`` has functions ``bench_*`` that time cases with the fixture ``interleaved``, a ``TITLE``, and
``markdown(results, options)``, which makes the text of ``results/NAME.md`` from the records of pytest-benchmark.
"""

import argparse
import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measure import machine, take_turns

STARTED = pytest.StashKey[str]()
FAILED = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What is measured, how often, and where the tables go."""
    group = parser.getgroup("networks")
    group.addoption("--small", action="store_true", help="tiny networks and batches: do they run?")
    group.addoption("--batch", type=int, help="images (default: 100, small: 2)")
    group.addoption("--width", type=float, help="width of the networks (default: 1, small: 1/8)")
    group.addoption("--repeats", type=int, help="interleaved rounds (default: 3, small: 1)")
    group.addoption("--threads", type=int, default=os.cpu_count(), help="threads of torch (default: all cores)")
    out = Path(__file__).with_name("results")
    group.addoption("--out", type=Path, default=out, help="folder of the tables (default: benchmarks/results)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases of a file's ``CASES``: by the name of an argument its values with ``--small``, and without."""
    small = metafunc.config.getoption("small")
    for name, (few, every) in getattr(metafunc.module, "CASES", {}).items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, few if small else every)


def options_of(config: pytest.Config) -> argparse.Namespace:
    """Options of the command line with their defaults.

    Raises:
        pytest.UsageError: one is not above 0.
    """
    options = {name: config.getoption(name) for name in ("small", "batch", "width", "repeats", "threads", "out")}
    defaults = (2, 0.125, 1) if options["small"] else (100, 1.0, 3)
    for name, default in zip(("batch", "width", "repeats"), defaults, strict=True):
        options[name] = default if options[name] is None else options[name]
    for name in ("batch", "width", "repeats", "threads"):
        if options[name] <= 0:
            raise pytest.UsageError(f"--{name} must be above 0, got {options[name]}")
    return argparse.Namespace(**options)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, and describe the machine before it is loaded."""
    torch.set_num_threads(options_of(config).threads)
    config.stash[STARTED] = machine(config.invocation_params.args)
    config.stash[FAILED] = set()
    config.pluginmanager.register(_Reports(config.stash[FAILED]))


class _Reports:
    def __init__(self, failed: set[str]) -> None:
        self.failed = failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which files have failures: their tables would lack rows."""
        if report.failed:
            self.failed.add(_name(report.nodeid))


def _name(nodeid: str) -> str:
    return Path(nodeid.split("::")[0]).stem.removeprefix("bench_")


@pytest.fixture
def options(request: pytest.FixtureRequest) -> argparse.Namespace:
    """Those of :func:`options_of`."""
    return options_of(request.config)


@pytest.fixture
def interleaved(benchmark: Any, options: argparse.Namespace) -> Callable[..., dict[str, Any]]:
    """:func:`benchmarks.measure.take_turns` with the rounds of the command line."""
    return partial(take_turns, benchmark, options.repeats)


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_group_stats(config: pytest.Config, benchmarks: list[dict[str, Any]]) -> None:
    """Write ``NAME.md`` for every file of which all benchmarks ran; pytest-benchmark prints its own table after it."""
    options = options_of(config)
    by_file: dict[str, list[dict[str, Any]]] = {}
    for result in benchmarks:
        by_file.setdefault(_name(result["fullname"]), []).append(result)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, results in by_file.items():
        if name not in config.stash[FAILED]:
            module = importlib.import_module(f"benchmarks.bench_{name}")
            text = f"# {module.TITLE}\n\n{module.markdown(results, options)}\n\n{config.stash[STARTED]}\n"
            (options.out / f"{name}.md").write_text(text)
