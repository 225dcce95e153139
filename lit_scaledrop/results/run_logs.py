"""The log folder of a run's CSV logger, ``logs/version_N``: learning curves, of unfinished runs too."""

import csv
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_scaledrop.results.reading import read_text
from lit_scaledrop.results.yaml_text import load_yaml

Points = dict[int, dict[str, float]]
"""Values by epochs behind them and by name, e.g. ``{1: {"val/acc": 0.32, "loss/task": 2.0139}}``."""


@dataclass(frozen=True)
class LoggedRun:
    """A run that has begun, from the logs of its folder."""

    id: str
    study: str
    config: dict[str, Any]
    """resolved configuration of its last attempt"""
    points: Points


def rounded(value: float) -> float:
    """To the four digits that a curve needs.

    >>> rounded(0.36559998989), rounded(12.34567)
    (0.3656, 12.3457)
    """
    return round(value, 4)


def curve(points: Points) -> dict[str, list[Any]]:
    """Points as a result keeps them: columns of equal length, ``None`` where an epoch has no such value.

    >>> curve({1: {"val/acc": 0.3}, 2: {"val/acc": 0.4, "loss/task": 1.5}})
    {'epoch': [1, 2], 'loss_task': [None, 1.5], 'val_acc': [0.3, 0.4]}
    """
    epochs = sorted(points)
    names = sorted({name for values in points.values() for name in values})
    columns = {name.replace("/", "_"): [points[epoch].get(name) for epoch in epochs] for name in names}
    return {"epoch": epochs, **columns} if epochs else {}


def logged_points(run_dir: Path, names: Iterable[str], keep: Callable[[float], float] = rounded) -> Points:
    """What the attempts of a run logged after each epoch; a later attempt replaces what it did again."""
    points: Points = {}
    for version in _versions(run_dir):
        found: Points = {}
        for row in _rows(version / "metrics.csv"):
            for name in names:
                if (value := _number(row.get(name))) is not None and (epoch := _number(row.get("epoch"))) is not None:
                    found.setdefault(int(epoch) + 1, {})[name] = keep(value)
        if found:
            points = {epoch: values for epoch, values in points.items() if epoch < min(found)} | found
    return points


def logged_runs(runs_dir: Path | str, profile: str) -> Iterator[LoggedRun]:
    """The runs of a profile under ``runs_dir``, finished or not, that have logged a validation of classes."""
    for run_dir in sorted(Path(runs_dir).glob(f"{profile}/*/*")):
        points = logged_points(run_dir, ("val/acc", "loss/task"))
        if not any("val/acc" in values for values in points.values()):
            continue
        settings = _versions(run_dir)[-1] / "hparams.yaml"
        try:
            config = load_yaml(read_text(settings))
            if not isinstance(config, dict):
                raise ValueError("it holds no settings")
        except (OSError, ValueError) as error:
            print(f"left out: {settings} is no configuration of a run ({error})", file=sys.stderr)
            continue
        yield LoggedRun(run_dir.name, run_dir.parent.name, config, points)


def _versions(run_dir: Path) -> list[Path]:
    numbered = {path.parent.name.removeprefix("version_"): path.parent for path in run_dir.glob("logs/*/metrics.csv")}
    return [numbered[number] for number in sorted(filter(str.isdecimal, numbered), key=int)]


def _rows(path: Path) -> list[dict[str, Any]]:
    """Whole lines: a run may be writing, or was killed while it did."""
    if not path.is_file():  # a pipe would be waited for
        return []
    whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    try:
        return list(csv.DictReader(whole.splitlines()))
    except csv.Error as error:
        print(f"left out: {path} is no log of a run ({error})", file=sys.stderr)
        return []


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
