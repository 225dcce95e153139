"""Points of a sweep: their names, commands and results.

Every point of the grid becomes one process, `fit`, `assess` or `cost`, with the argv that `wandb agent` would give it.
A point whose result file exists is skipped, so the same command resumes after a failure, Ctrl-C or a power cut. Several
of them, on several machines that share the results folder, split the points. Points that are searched, not listed
(`method: random` or `bayes`), are chosen in :mod:`lit_scaledrop.sweep.search`.
"""

import fnmatch
import itertools
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_scaledrop.sweep.child import Point
from lit_scaledrop.sweep.file import COMMANDS, SweepError, build_command, grid

Plan = Callable[[list[str]], Path]
"""From the arguments of a command to the file of its result."""


def plan_points(
    config: Mapping[str, Any],
    env: Mapping[str, str],
    seeds: Sequence[int] | None,
    extra: Sequence[str],
    plan: Plan,
    only: Sequence[str] = ("*",),
) -> list[Point]:
    """The points of a sweep in order, all of them checked before the first is run.

    Args:
        config: the sweep file.
        env: environment of the points.
        seeds: instead of the values of `seed_everything`.
        extra: flags for every point.
        plan: finds the result file of the command's flags, and refuses bad ones.
        only: shell patterns of names; points that fit none of them are left out.

    Raises:
        SweepError: the command would refuse a point's flags, two points are the same run, or a pattern fits no point.
    """
    points: dict[Path, Point] = {}
    rows: dict[Path, Any] = {}
    names: set[str] = set()
    asked: list[tuple[str, dict[str, Any], list[str]]] = []
    for values in grid(config["parameters"], seeds):
        argv = build_command(config, values, env) + list(extra)
        name = base = _name(values, config["parameters"])
        for n in itertools.count(2):
            if name not in names:
                break
            name = f"{base}-{n}"
        names.add(name)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in only):
            asked.append((name, values, argv))
    _prepare(plan, [argv for *_, argv in asked])
    for name, values, argv in asked:
        result, logs = point_paths(argv, plan, name)
        if result in points:
            if rows[result] != values.get("row"):  # a profile's stand-in serves several rows
                continue
            raise SweepError(f"{points[result].name} and {name} are one run, {result}; drop one of them")
        rows[result] = values.get("row")
        points[result] = Point(name, argv, result, logs / f"{name}.log")
    for pattern in only:
        if not fnmatch.filter(names, pattern):
            raise SweepError(f"--only {pattern} matches no point; there are {', '.join(sorted(names))}")
    return list(points.values())


def _prepare(plan: Plan, commands: Sequence[Sequence[str]]) -> None:
    """Let a plan that can find the results of many points at once."""
    prepare = getattr(plan, "prepare", None)
    if prepare is None or not commands:
        return
    try:
        prepare([_flags(argv) for argv in commands])
    except (Exception, SystemExit) as error:  # jsonargparse exits on a bad flag
        raise SweepError(f"a point of the sweep is not valid: {error}") from error


def _flags(argv: Sequence[str]) -> list[str]:
    """What follows the command."""
    command = next(word for word in argv if word in COMMANDS)
    return list(argv[argv.index(command) + 1 :])


def point_paths(argv: Sequence[str], plan: Plan, name: str) -> tuple[Path, Path]:
    """The file of a point's result, and the folder of the logs.

    Raises:
        SweepError: the command would refuse the point's flags.
    """
    command, flags = next(word for word in argv if word in COMMANDS), _flags(argv)
    try:
        result = Path(plan(flags))
    except (Exception, SystemExit) as error:  # jsonargparse exits on a bad flag
        raise SweepError(f"point {name} is no valid {command} ({shlex.join(flags)}): {error}") from error
    given = dict(flag.split("=", 1) for flag in flags if flag.startswith("--run.") and "=" in flag)
    return result, Path(given.get("--run.runs", "runs"), *result.parent.parts[-2:], "logs")


def _name(values: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]]) -> str:
    """The swept values, joined.

    >>> _name({"model.method": "fp", "seed_everything": 1}, {"model.method": {"values": ["fp"]}})
    'fp-seed1'
    """
    swept = {k: v for k, v in values.items() if k == "seed_everything" or "values" in parameters[k]}
    words = [f"seed{v}" if k == "seed_everything" else str(v) for k, v in swept.items()]
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", word).strip("-.") for word in words) or "point"
