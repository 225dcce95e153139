"""The trials of a search: JSON lines next to its results, readable without optuna."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
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
    value: float | None = None
    """The metric that the search goes by, at its best."""
    why: str = ""
    """Why it was stopped or failed."""

    @property
    def name(self) -> str:
        """Its name in the output, of the log file and in the table.

        >>> Trial(7, {}, "").name
        'try-007'
        """
        return f"try-{self.number:03d}"


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
    if given["value"] is not None:
        check_type("value", given["value"], float)
    if given["state"] not in get_args(State):
        raise ValueError(f"state must be one of {', '.join(get_args(State))}, not {given['state']!r}")
    return Trial(**given)
