"""Plans of thousands of points: each value of a flag is parsed once, not each of the grid's points.

A grid is a product, and what a flag changes in the resolved configuration is the same for all values of the others. So
the configuration of a point is that of the first point with the changes of its values. Where two flags change one
setting, or a class, and where a sample of points that are parsed whole has other identities, all points are.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.cli.planning import check
from lit_scaledrop.runs.identity import run_identity
from lit_scaledrop.runs.plan import RunPlan, method_of

FEW = 64
"""Points up to which each is parsed and built."""
_SAMPLE = 12
_Changes = dict[tuple[str, ...], Any]
_GONE = object()


def planned_results(points: Sequence[Sequence[str]]) -> dict[tuple[str, ...], Path]:
    """Files of results by the flags of `fit`; empty where the points have to be planned one by one.

    Model and data are built once for each value of a flag where the result is missing, so that they refuse it.

    Raises:
        ValueError: a value that `fit` refuses.
        ArgumentError: a flag that there is not.
    """
    places = _varied(points)
    if len(points) <= FEW or places is None:
        return {}
    first = plan_fit(points[0])
    changes: dict[int, dict[str, _Changes]] = {}
    for place in places:
        changes[place] = {points[0][place]: {}}
        for word in dict.fromkeys(point[place] for point in points[1:]):
            if word not in changes[place]:
                plan = plan_fit([*points[0][:place], word, *points[0][place + 1 :]])
                changes[place][word] = _difference(first.config, plan.config)
                if not plan.result.exists():
                    check(plan)
    if _overlap(changes):
        return {}
    settings = dict(_flat(first.config))
    known = {
        tuple(point): _result(first, settings, [changes[place][point[place]] for place in places]) for point in points
    }
    sample = random.Random(0).sample([*known], min(_SAMPLE, len(known)))
    return known if all(plan_fit(point).result == known[point] for point in sample) else {}


def _varied(points: Sequence[Sequence[str]]) -> list[int] | None:
    """Places of the flags that differ, each with one name, `--name=value`; none where the points differ otherwise."""
    if len({len(point) for point in points}) != 1:
        return None
    places = [place for place, words in enumerate(zip(*points, strict=True)) if len({*words}) > 1]
    for place in places:
        names = {point[place].partition("=")[0] if "=" in point[place] else "" for point in points}
        name = names.pop()
        if names or not name.startswith("--") or name.startswith(("--run.", "--config", "--ckpt_path")):
            return None
    return places


def _flat(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, (*above, name))
        else:
            yield (*above, name), value


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> _Changes:
    """Settings that are others, or gone."""
    before, after = dict(_flat(old)), dict(_flat(new))
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return changed | dict.fromkeys(before.keys() - after.keys(), _GONE)


def _overlap(changes: Mapping[int, Mapping[str, _Changes]]) -> bool:
    """Whether two flags change one setting, or one a class, whose other settings are then others."""
    seen: set[tuple[str, ...]] = set()
    for values in changes.values():
        keys = {key for value in values.values() for key in value}
        if keys & seen or any(key[-1] == "class_path" for key in keys):
            return True
        seen |= keys
    return False


def _result(first: RunPlan, settings: _Changes, changes: Sequence[_Changes]) -> Path:
    """Of the first plan with changed settings."""
    for change in changes:
        settings = settings | change
    config: dict[str, Any] = {}
    for key, value in settings.items():
        group = config
        for name in key[:-1]:
            group = group.setdefault(name, {})
        if value is not _GONE:
            group[key[-1]] = {} if value == {} else value
    run = replace(first.run, profile=config["run"]["profile"], study=config["run"]["study"])
    return run.result_path(run_identity(config, method_of(config)))
