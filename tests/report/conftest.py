"""Results made up for the tests of the record and of the tables."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lit_scaledrop.results import schema1
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import InvalidResultError, Result


@pytest.fixture
def make() -> Callable[..., Result]:
    return _make


def _make(number: int = 1, **changes: Any) -> Result:
    """A valid result with id `number`; `data={...}` etc. update one group, other names replace a field.

    `metrics={...}` are numbers beside the usual ones, `numbers={...}` in place of them, by the flat names of schema 1,
    or measurements.
    """
    record: dict[str, Any] = {
        "id": f"{number:012x}",
        "study": "table3",
        "profile": "cpu",
        "network": "resnet20",
        "method": "proposed",
        "label": "Proposed",
        "bits_w": 1,
        "bits_a": 1,
        "bayesian": True,
        "seed": 1,
        "data": {
            "name": "cifar10",
            "fingerprint": "f00d",
            "stand_in": False,
            "source": "a made-up archive",
            "train": 45000,
            "val": 5000,
            "test": 10000,
        },
        "training": {
            "epochs": 10,
            "seconds": 90.0,
            "device": "cpu: Test CPU, 2 threads",
            "precision": "32-true",
            "compiled": False,
            "best_epoch": 9,
            "val_acc": 0.85,
        },
        "evaluation": {"samples": 20, "seed": 0, "execution": "loop", "checkpoint": "best", "seconds": 3.0},
        "metrics": {"cls/acc": 0.86, "cls/nll": 0.5, "cal/ece": 0.03, "ood/rate": 0.2},
        "config": {"seed_everything": 1, "model": {"init_args": {"p": 0.2}}},
        "provenance": {
            "commit": "abcdef0123456789",
            "dirty": False,
            "command": "scaledrop fit",
            "started": "2026-01-01T00:00:00+00:00",
            "finished": f"2026-01-01T01:00:{number:02d}+00:00",
            "versions": {"python": "3.11"},
            "setting": "s1",
        },
    }
    for name, value in changes.items():
        record[name] = {**record.get(name, {}), **value} if isinstance(value, dict) else value
    metrics = record.pop("metrics")
    return Result(measurements=measured(record.pop("numbers", metrics)), **record)


def measured(numbers: Mapping[str, float] | list[Measurement]) -> list[Measurement]:
    """Numbers by the flat names of schema 1, with their coordinates; measurements are what they are."""
    if isinstance(numbers, list):
        return numbers
    try:
        return [Measurement.of(one) for one in schema1.measurements(numbers)]
    except ValueError as error:
        raise InvalidResultError(str(error)) from error


@pytest.fixture
def without() -> Callable[..., Result]:
    return _without


def _without(result: Result, metric: str = "", **at: object) -> Result:
    """The result, changed in place, without one metric (all by default) of those that are measured at `at`."""
    for one in list(result.measurements):
        if at.items() <= one.at.items():
            for name in [name for name in one.metrics if name == metric or not metric]:
                del one.metrics[name]
            if not one.metrics:
                result.measurements.remove(one)
    return result
