"""Run the points of a sweep: several at once, on their own GPUs, stopped with this process.

A point whose result exists is skipped, one that another sweep has claimed is put off, and one that fails is reported at
the end. Children have process groups of their own and, on Linux, the kernel stops them if this process is killed.
"""

import errno
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lit_scaledrop.naming import count
from lit_scaledrop.results.failures import Failure, forget_failure, read_failure, write_failure
from lit_scaledrop.results.result import ResultError, is_finished
from lit_scaledrop.sweep.child import Child, Grace, Point, stop_all
from lit_scaledrop.sweep.display import Display
from lit_scaledrop.sweep.leases import STALE, Claims


def child_environment(env: Mapping[str, str], profile: str, group: str, jobs: int) -> dict[str, str]:
    """Environment of every point: profile, W&B group and, unless set, its share of the cores."""
    shared = {**env, "PROFILE": profile, "WANDB_RUN_GROUP": group}
    if jobs > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))
    return shared


def visible_gpus(env: Mapping[str, str]) -> list[str]:
    """Names for `CUDA_VISIBLE_DEVICES`: what that variable lists, or else what `nvidia-smi` finds.

    >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2,3"}), visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"})
    (['2', '3'], [])
    """
    if "CUDA_VISIBLE_DEVICES" in env:
        names = (name.strip() for name in env["CUDA_VISIBLE_DEVICES"].split(","))
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))  # CUDA stops there too
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


@dataclass
class Runner:
    """Runs points, `jobs` at once, and continues when one fails."""

    points: Sequence[Point]
    """What to run, in order."""
    jobs: int
    """Processes at once."""
    env: Mapping[str, str]
    """Environment of the children."""
    gpus: Sequence[str] = ()
    """GPUs that the jobs take turns in; with fewer than two, nothing is set."""
    grace: Grace = ((signal.SIGINT, 20.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
    stale: float = STALE
    """Seconds without a sign of life after which another sweep's claim on a point counts as dead."""
    stop: Callable[[Point], str] | None = None
    """Asked again and again why a running point should stop; empty: it continues."""
    failures: list[tuple[Point, str]] = field(init=False, default_factory=list)
    stopped: list[tuple[Point, str]] = field(init=False, default_factory=list)
    """Points that `stop` ended, and why."""
    done: int = field(init=False, default=0)
    skipped: int = field(init=False, default=0)
    _children: list[Child] = field(init=False, default_factory=list)
    _put_off: dict[Path, str] = field(init=False, default_factory=dict)  # who has them

    def __post_init__(self) -> None:
        self._claims, self._display = Claims(self.stale), Display(self.points, self.jobs)
        self._waiting = list(self.points)
        self._idle = False

    def run(self) -> int:
        """Run what is not finished and print a summary; 0 if every point is finished, else 1.

        Raises:
            KeyboardInterrupt: after the children have been stopped.
        """
        start, look_again = time.monotonic(), 0.0
        self._known = {point.result: read_failure(point.result) for point in self.points}
        with self._display.progress, self._claims:
            try:
                while self._waiting or self._children:
                    if len(self._children) < self.jobs and time.monotonic() >= look_again:
                        self._fill()
                        look_again = time.monotonic() + (1 if self._put_off else 0)
                    time.sleep(0.05)
                    for child in list(self._children):
                        self._watch(child)
            finally:
                stop_all(self._children, self.grace)
        for point, reason in self.failures:
            self._display.explain(point, reason)
        counts = f"{self.done} done, {self.skipped} skipped, {len(self.failures)} failed"
        counts += f", {len(self.stopped)} stopped early" if self.stopped else ""
        print(f"{count(len(self.points), 'point')}: {counts}, {time.monotonic() - start:.1f} s", flush=True)
        return 1 if self.failures else 0

    def _fill(self) -> None:
        """Start what can be started, in order, and put off what others have claimed."""
        for point in list(self._waiting):
            if len(self._children) == self.jobs:
                return
            if self._is_settled(point, claimed=False):
                continue
            try:
                holder = self._claims.take(point.result)
                if not holder and self._is_settled(point, claimed=True):  # between our look and our claim
                    self._claims.release(point.result, finished=is_finished(point.result))
                elif not holder:
                    self._launch(point)
            except OSError as error:
                self._refuse(point, error)
                continue
            if holder and self._put_off.get(point.result) != holder:
                self._event(point, f"put off, {holder} has it")
                self._put_off[point.result] = holder
        if self._waiting and not self._children and not self._idle:
            self._idle = True
            names = ", ".join(f"{point.name} ({self._put_off[point.result]})" for point in self._waiting)
            print(f"waiting for what others have: {names}", flush=True)

    def _is_settled(self, point: Point, claimed: bool) -> bool:
        """Whether there is nothing to do: it is finished, or another sweep has failed at it since this one began."""
        if is_finished(point.result, move_broken=claimed):
            self.skipped += 1
            forget_failure(point.result)
            event = "skipped, finished already"
        elif (failure := read_failure(point.result)) and failure != self._known[point.result]:
            reason = f"{failure.reason} (on {failure.host})"
            self.failures.append((point, reason))
            event = f"FAILED elsewhere, {reason}"
        else:
            return False
        self._take_off(point)
        self._event(point, event)
        return True

    def _take_off(self, point: Point) -> None:
        self._waiting.remove(point)
        self._put_off.pop(point.result, None)

    def _refuse(self, point: Point, error: OSError) -> None:
        """A point that cannot be claimed or started.

        Raises:
            ResultError: nor can any other.
        """
        reason = f"cannot write to {error.filename or point.result.parent} ({error.strerror or error})"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ResultError(f"{reason}: choose other folders with --results DIR and -- --run.runs=DIR") from error
        self._claims.release(point.result)
        if point in self._waiting:
            self._take_off(point)
        self._fail(point, reason)
        self._event(point, f"FAILED, {reason}")

    def _launch(self, point: Point) -> None:
        streams = self._display.streams
        self._event(point, "starts" if streams else f"starts, log {point.log}")
        slot = min(set(range(self.jobs)) - {child.slot for child in self._children})
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        self._children.append(Child.start(point, {**self.env, **gpu}, slot, streams))
        self._take_off(point)

    def _watch(self, child: Child) -> None:
        alive, point = child.is_alive(), child.point
        self._display.echo(child)
        if alive and self._claims.lost(point.result):
            self._give_way(child)
        elif alive:
            if why := child.stopping or (self.stop(point) if self.stop else ""):
                child.ask_to_stop(why, self.grace)
        else:
            self._children.remove(child)
            self._settle(child, child.problem())

    def _settle(self, child: Child, problem: str) -> None:
        """Note how a child ended, and let go of its point."""
        point = child.point
        if problem and child.stopping:
            self.stopped.append((point, child.stopping))
            event = f"stopped, {child.stopping}"
        else:
            if problem:
                self._fail(point, problem)
            else:
                self.done += 1
                forget_failure(point.result)
            seconds = time.monotonic() - child.started
            event = f"{f'FAILED, {problem}' if problem else 'done'} ({seconds:.1f} s)"
        self._claims.release(point.result, finished=not problem)
        self._event(point, event)

    def _give_way(self, child: Child) -> None:
        stop_all([child], self.grace)
        self._children.remove(child)
        self._claims.release(child.point.result)
        self._waiting.append(child.point)
        self._event(child.point, "stopped: this sweep stood still, and another one has taken the point over")

    def _fail(self, point: Point, reason: str) -> None:
        self.failures.append((point, reason))
        now = datetime.now(UTC).isoformat()
        try:
            write_failure(Failure(point.name, reason, socket.gethostname(), now), point.result)
        except OSError as error:
            self._event(point, f"the failure could not be recorded for the table: {error.strerror or error}")

    def _event(self, point: Point, what: str) -> None:
        self._display.event(point, what, len(self.points) - len(self._waiting) - len(self._children))
