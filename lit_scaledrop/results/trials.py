"""The trials of a search: JSON lines next to its results, readable without optuna."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from operator import le
from pathlib import Path
from typing import Any, Literal, get_args

from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.reading import parse_json, read_text
from lit_scaledrop.results.schema import check_type

State = Literal["chosen", "finished", "stopped", "failed"]
_TYPES: dict[str, type] = {"number": int, "values": dict, "result": str, "state": str, "why": str}


class JournalError(RuntimeError):
    """A table or journal of trials that cannot be read; the message says what to do."""

    def __init__(self, path: Path, error: Exception) -> None:
        again = "move the file away to begin again (results that are there are not trained again)"
        super().__init__(f"{path} holds no trials of a search ({error}); {again}")


@dataclass(frozen=True)
class Trial:
    """One point of a search."""

    number: int
    """Place in the search, from 0."""
    values: dict[str, Any]
    result: str
    state: State = "chosen"
    """Chosen; finished with a result; stopped early, without one; or failed."""
    value: float | Sequence[float] | None = None
    """The metric that the search goes by, at its best; of a search by several metrics one of each."""
    why: str = ""
    """Why it was stopped or failed."""

    @property
    def name(self) -> str:
        """Its name in the output, of the log file and in the table.

        >>> Trial(7, {}, "").name
        'try-007'
        """
        return f"try-{self.number:03d}"

    @property
    def scores(self) -> list[float]:
        """Its metrics, one a goal of the search; none where it has no value."""
        value = self.value
        return [] if value is None else list(value) if isinstance(value, Sequence) else [value]


def on_front(points: Sequence[Sequence[float]], goals: Sequence[str]) -> list[bool]:
    """Whether each point is on the Pareto front: no other is as good in everything and better in something.

    One that lacks a number (NaN) is not on it.

    Args:
        points: numbers of each point, one a goal.
        goals: `minimize` or `maximize` each.

    >>> on_front([(0.5, 0.8), (0.4, 0.7), (0.5, 0.7), (0.4, 0.7), (0.1, float("nan"))], ["minimize", "maximize"])
    [True, True, False, True, False]
    """
    signs = [1 if goal == "minimize" else -1 for goal in goals]
    costs = [[sign * value for sign, value in zip(signs, point, strict=True)] for point in points]
    return [
        not any(map(math.isnan, cost)) and not any(other != cost and all(map(le, other, cost)) for other in costs)
        for cost in costs
    ]


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Write the table of a search, a line for each trial."""
    write_atomic(path, "".join(json.dumps(asdict(trial)) + "\n" for trial in trials).encode())


def trials_in(folder: Path, say: Callable[[str], object]) -> list[Trial]:
    """What all searches of a folder of results have tried; a table that is none is named and left out."""
    found = []
    for path in sorted(folder.glob("search-*.jsonl")):
        try:
            found += _read(path)
        except JournalError as error:
            say(str(error))
    return found


def _read(path: Path) -> list[Trial]:
    try:
        trials = [_trial(parse_json(line)) for line in read_text(path).splitlines()]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise JournalError(path, error) from error
    # earlier releases added a line when a trial ended: the last one counts
    return list({trial.number: trial for trial in trials}.values())


def _trial(line: Any) -> Trial:
    given = {field.name: line[field.name] for field in fields(Trial)}
    for name, kind in _TYPES.items():
        check_type(name, given[name], kind)
    value = given["value"]
    for one in value if isinstance(value, list) else [] if value is None else [value]:
        check_type("value", one, float)
    if given["state"] not in get_args(State):
        raise ValueError(f"state must be one of {', '.join(get_args(State))}, not {given['state']!r}")
    return Trial(**given)
