"""Points on a cluster: SLURM jobs or Ray tasks, one per point, followed until each has written a result.

A job runs its point as `scaledrop sweep` does here: under the point's lock, or not at all if it is finished. So a job
that is given twice, or once more after it was preempted, costs nothing but its start.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from lit_scaledrop.results.result import ResultError
from lit_scaledrop.results.store import is_finished
from lit_scaledrop.sweep.child import Point
from lit_scaledrop.sweep.runner import Runner, child_environment
from lit_scaledrop.sweep.tally import Tally


@dataclass
class Job:
    """What runs on a node: one point."""

    point: Point
    folder: str
    """Where the sweep was started; its paths are relative to it."""
    profile: str
    group: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for an engine that does not hand on the sweep's; those of the node win."""

    def __call__(self) -> int:
        """Run it; 0 if its result is there, else 1, and the failure is recorded beside the result's place."""
        os.chdir(self.folder)
        # one process of its own: Lightning would take a job's variables for those of a training of many
        known = {**self.environment, **os.environ}
        env = {name: value for name, value in known.items() if not name.startswith(("SLURM_", "SUBMITIT_"))}
        self.runner = Runner([self.point], env=child_environment(env, self.profile, self.group, jobs=1))
        return self.runner.run()


@runtime_checkable
class Engine(Protocol):
    """Where jobs run."""

    name: str
    look: float
    """Seconds between two looks."""

    def submit(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Hand jobs over; names them, in order and as soon as they are."""

    def alive(self) -> set[str]:
        """Names of the jobs that wait or run."""

    def cancel(self, names: Sequence[str]) -> None:
        """End jobs."""

    def left(self, names: Sequence[str]) -> str:
        """What becomes of jobs when the sweep is stopped, for people."""


@dataclass
class Remote(Tally):
    """Hands the points that are not finished to an engine, and waits for their results."""

    engine: Engine = field(kw_only=True)
    env: Mapping[str, str] = field(kw_only=True)

    def run(self) -> int:
        """Submit what is neither finished nor submitted already, and follow it; 0 if every point is finished, else 1.

        Raises:
            KeyboardInterrupt: after saying what becomes of the jobs.
        """
        for point in list(self.waiting.values()):
            self.is_settled(point)
        jobs: dict[str, Point] = {}
        self._stopping: dict[str, str] = {}
        with self.display.progress:
            try:
                self._submit(jobs)
                while jobs:
                    time.sleep(self.engine.look)
                    alive = self.engine.alive()
                    for name, point in list(jobs.items()):
                        if self._look(name, point, name in alive):
                            del jobs[name]
            except KeyboardInterrupt:
                print(f"\n{self.engine.left(list(jobs))}", flush=True)
                raise
        return self.summary()

    def _submit(self, jobs: dict[str, Point]) -> None:
        """Fill in the points of this sweep by the names of their jobs, each noted when it has one."""
        begun, new = self.engine.alive(), []
        for point in self.waiting.values():
            note = _note(point, self.engine)
            name = note.read_text(encoding="utf-8") if note.exists() else ""
            if name in begun and name not in jobs:
                jobs[name] = point
                self.event(point, f"is {self.engine.name} job {name} already")
            else:
                new.append(point)
        made = [Job(point, os.getcwd(), self.env["PROFILE"], self.env["WANDB_RUN_GROUP"]) for point in new]
        for name, point in zip(self.engine.submit(made), new, strict=True):
            jobs[name] = point
            note = _note(point, self.engine)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(name, encoding="utf-8")
            self.event(point, f"{self.engine.name} job {name}, log {point.log}")

    def _look(self, name: str, point: Point, alive: bool) -> bool:
        """Whether a job has ended; then it is noted how."""
        if alive:
            if self.stop and name not in self._stopping and (why := self.stop(point)):
                self._stopping[name] = why
                self.engine.cancel([name])
            return False
        try:
            finished = is_finished(point.result, move_broken=False)
        except ResultError as error:
            self.fail(point, str(error))
            return True
        if finished:
            self.finish(point, self._begun)
        elif name in self._stopping:
            self.cut(point, self._stopping[name])
        elif not self.failed_elsewhere(point):
            self.fail(point, f"{self.engine.name} job {name} ended without a result")
        return True


def _note(point: Point, engine: Engine) -> Path:
    """Where the name of a point's job is kept, so that a second sweep follows the same job."""
    return point.log.with_suffix(f".{engine.name}")
