"""What a search has tried: a table of JSON lines beside its results, which needs no optuna to be read."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lit_scaledrop.results.atomic import write_atomic

State = Literal["chosen", "finished", "stopped", "failed"]


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


def trials_in(folder: Path) -> list[Trial]:
    """What all searches of a folder of results have tried.

    Raises:
        JournalError: one of the tables is none.
    """
    return [trial for path in sorted(folder.glob("search-*.jsonl")) for trial in _read(path)]


def _read(path: Path) -> list[Trial]:
    known = [field.name for field in fields(Trial)]
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        # earlier releases added a line when a trial ended: the last one counts
        return list({line["number"]: Trial(**{name: line[name] for name in known}) for line in lines}.values())
    except (ValueError, TypeError, KeyError) as error:
        raise JournalError(path, error) from error
