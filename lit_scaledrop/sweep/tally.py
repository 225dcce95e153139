"""Outcomes of the points of a sweep under any launcher: done, skipped, failed, stopped."""

import contextlib
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lit_scaledrop.naming import count
from lit_scaledrop.results.failures import Failure, forget_failure, read_failure, write_failure
from lit_scaledrop.results.result import ResultError
from lit_scaledrop.results.store import is_finished
from lit_scaledrop.sweep.child import Point
from lit_scaledrop.sweep.display import Display

Stop = Callable[[Point], str]
"""Asked again and again why a running point should stop; empty: it continues."""


Launch = Callable[[Sequence[Point], Stop | None], "Tally"]
"""Who runs points."""


@dataclass
class Tally(ABC):
    """The points of a sweep in order, and what has become of them. A result is the only proof that one is finished."""

    points: Sequence[Point]
    """What is to be run, in order."""
    jobs: int = 1
    """How many at once."""
    stop: Stop | None = None
    failures: list[tuple[Point, str]] = field(init=False, default_factory=list)
    stopped: list[tuple[Point, str]] = field(init=False, default_factory=list)
    """Points that `stop` ended, and why."""
    done: int = field(init=False, default=0)
    skipped: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.display = Display(self.points, self.jobs)
        self.waiting: dict[Path, Point] = {point.result: point for point in self.points}
        self._settled, self._begun = 0, time.monotonic()
        self._known = {point.result: read_failure(point.result) for point in self.points}

    @abstractmethod
    def run(self) -> int:
        """Run what is not finished and print a summary; 0 if every point is finished, else 1."""

    def is_settled(self, point: Point, locked: bool = False) -> bool:
        """Whether nothing is left to do: it is finished, cannot be read, or another sweep has failed at it meanwhile.

        Args:
            point: one that waits.
            locked: whether its lock is ours; only then a broken result is moved aside.
        """
        try:
            finished = is_finished(point.result, move_broken=locked)
        except ResultError as error:  # of another release, or no file: that of one point stops no other
            self.fail(point, str(error))
            return True
        if finished:
            self.skipped += 1
            self._tidy(point)
            self.settle(point, "skipped, finished already")
        return finished or self.failed_elsewhere(point)

    def failed_elsewhere(self, point: Point) -> bool:
        """Whether another process has failed at a point since this sweep began; then it is noted why."""
        failure = read_failure(point.result)
        if failure is None or failure == self._known[point.result]:
            return False
        reason = f"{failure.reason} (on {failure.host})"
        self.failures.append((point, reason))
        self.settle(point, f"FAILED elsewhere, {reason}")
        return True

    def finish(self, point: Point, started: float) -> None:
        """Note that a point has left its result."""
        self.done += 1
        self._tidy(point)
        self.settle(point, f"done ({time.monotonic() - started:.1f} s)")

    def _tidy(self, point: Point) -> None:
        forget_failure(point.result)
        with contextlib.suppress(OSError):  # read-only results
            point.lock.unlink(missing_ok=True)

    def fail(self, point: Point, reason: str, started: float | None = None) -> None:
        """Note why a point failed, also for the table."""
        self.failures.append((point, reason))
        now = datetime.now(UTC).isoformat()
        try:
            write_failure(Failure(point.name, reason, socket.gethostname(), now), point.result)
        except OSError as error:
            self.event(point, f"the failure could not be recorded for the table: {error.strerror or error}")
        self.settle(point, f"FAILED, {reason}{'' if started is None else f' ({time.monotonic() - started:.1f} s)'}")

    def cut(self, point: Point, why: str) -> None:
        """Note that `stop` has ended a point."""
        self.stopped.append((point, why))
        self.settle(point, f"stopped, {why}")

    def settle(self, point: Point, what: str) -> None:
        """Show the end of a point."""
        self.waiting.pop(point.result, None)
        self._settled += 1
        self.event(point, what)

    def event(self, point: Point, what: str) -> None:
        """Show what happens to a point."""
        self.display.event(point, what, self._settled)

    def summary(self) -> int:
        """Explain the failures and count the points; 0 if every one is finished, else 1."""
        for point, reason in self.failures:
            self.display.explain(point, reason)
        counts = f"{self.done} done, {self.skipped} skipped, {len(self.failures)} failed"
        counts += f", {len(self.stopped)} stopped early" if self.stopped else ""
        print(f"{count(len(self.points), 'point')}: {counts}, {time.monotonic() - self._begun:.1f} s", flush=True)
        return 1 if self.failures else 0
