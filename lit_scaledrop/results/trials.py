"""What a search has tried: JSON lines beside its results, one when a point is chosen and one when it has ended.

A line is appended under a lock and synced, so several processes may share a journal. A power cut tears the last line at
most, and the next writer takes it away.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

State = Literal["chosen", "finished", "stopped", "failed"]


class JournalError(RuntimeError):
    """A journal that cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Trial:
    """One point of a search."""

    number: int
    """Place in the search, from 0."""
    values: dict[str, Any]
    """Value of each parameter."""
    result: str
    """Id of its result."""
    state: State = "chosen"
    """Chosen; finished with a result; stopped early, without one; or failed."""
    value: float | None = None
    """The metric that the search goes by, at its best."""
    history: tuple[float, ...] = ()
    """That metric after each epoch, as far as it was trained."""
    why: str = ""
    """Why it was stopped or failed."""

    @property
    def name(self) -> str:
        """Its name in the output, of the log file and in the table.

        >>> Trial(7, {}, "").name
        'try-007'
        """
        return f"try-{self.number:03d}"


def trials_in(folder: Path) -> list[Trial]:
    """What all searches of a folder of results have tried.

    Raises:
        JournalError: one of the journals is none.
    """
    return [trial for path in sorted(folder.glob("search-*.jsonl")) for trial in Journal(path).trials()]


class Journal:
    """The journal in one file.

    Args:
        path: the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def trials(self) -> list[Trial]:
        """All points, in the order in which they were chosen.

        Raises:
            JournalError: a line in the middle is none of ours.
        """
        if not self.path.exists():
            return []
        return self._parse(self.path.read_bytes())

    def choose(self, number: int, make: Callable[[list[Trial]], Trial]) -> Trial:
        """The point `number`: the one that is there, or what `make` makes of those before it.

        Args:
            number: at most the number of points that are there.
            make: called with the points before it, while no other process can choose.
        """
        with self._locked() as file:
            trials = self._parse(file.read())
            if number < len(trials):
                return trials[number]
            trial = make(trials)
            self._append(file, asdict(trial))
            return trial

    def end(self, trial: Trial, state: State, **changes: Any) -> Trial:
        """Note how a point ended."""
        ended = replace(trial, state=state, **changes)
        with self._locked() as file:
            self._parse(file.read())
            self._append(file, asdict(ended))
        return ended

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if torn := len(file.read().rpartition(b"\n")[2]):
                file.truncate(file.tell() - torn)
            file.seek(0)
            yield file

    def _append(self, file: IO[bytes], line: dict[str, Any]) -> None:
        file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())

    def _parse(self, content: bytes) -> list[Trial]:
        trials: dict[int, Trial] = {}
        for place, line in enumerate(content.split(b"\n")[:-1], 1):  # what follows the last newline is torn
            try:
                fields = json.loads(line)
                trial = Trial(**{**fields, "history": tuple(fields["history"])})
                if not 0 <= trial.number <= len(trials):
                    raise ValueError(f"number {trial.number} out of order")
            except (ValueError, TypeError, KeyError) as error:
                raise JournalError(
                    f"{self.path}, line {place} is no point of a search ({error}); move the file away to begin anew "
                    "(results that are there are not trained again)"
                ) from error
            trials[trial.number] = trial
        return [trials[number] for number in sorted(trials)]
