"""Run the points of a sweep on this machine: several at once, on their own GPUs, stopped with this process.

A point whose result exists is skipped, one whose lock another process holds is put off, and one that fails is reported
at the end. The lock is held by the child, so nobody begins before it has ended, and by this process until it has noted
how. Children have process groups of their own and, on Linux, the kernel stops them if this process is killed.
"""

import errno
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from lit_scaledrop.results.locks import take
from lit_scaledrop.results.result import ResultError
from lit_scaledrop.sweep.child import Child, Grace, Point, stop_all
from lit_scaledrop.sweep.tally import Tally


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
class Runner(Tally):
    """Runs points, `jobs` at once, and continues when one fails."""

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """Environment of the children."""
    gpus: Sequence[str] = ()
    """GPUs that the jobs take turns in; with fewer than two, nothing is set."""
    grace: Grace = ((signal.SIGINT, 20.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
    children: list[Child] = field(init=False, default_factory=list)
    _put_off: dict[Path, str] = field(init=False, default_factory=dict)  # who has them
    _idle: bool = field(init=False, default=False)

    def run(self) -> int:
        """Run what is not finished and print a summary; 0 if every point is finished, else 1.

        Raises:
            KeyboardInterrupt: after the children have been stopped.
        """
        look_again = 0.0
        with self.display.progress:
            try:
                while self.waiting or self.children:
                    if len(self.children) < self.jobs and time.monotonic() >= look_again:
                        self._fill()
                        look_again = time.monotonic() + (1 if self._put_off else 0)
                    if self.children or self.waiting:
                        time.sleep(0.05)
                    for child in list(self.children):
                        self._watch(child)
            finally:
                stop_all(self.children, self.grace)
                for child in self.children:
                    os.close(child.held)
        return self.summary()

    def _fill(self) -> None:
        """Start what can be started, in order, and put off what others have."""
        for point in list(self.waiting.values()):
            if len(self.children) == self.jobs:
                return
            try:
                self._try(point)
            except OSError as error:
                self._refuse(point, error)
        if self.waiting and not self.children and not self._idle:
            self._idle = True
            names = ", ".join(f"{point.name} ({self._put_off[point.result]})" for point in self.waiting.values())
            print(f"waiting for points of other processes: {names}", flush=True)

    def _try(self, point: Point) -> None:
        if self.is_settled(point):
            self._put_off.pop(point.result, None)
            return
        point.lock.parent.mkdir(parents=True, exist_ok=True)
        held = take(point.lock)
        if held is None:
            holder = _read(point.lock)
            if self._put_off.get(point.result) != holder:
                self.event(point, f"deferred, {holder} has it")
                self._put_off[point.result] = holder
            return
        self._put_off.pop(point.result, None)
        with ExitStack() as lock:
            lock.callback(os.close, held)
            if not self.is_settled(point, locked=True):  # it may have ended between our look and our lock
                self._launch(point, held)
                lock.pop_all()  # until it is noted how the child has ended

    def _launch(self, point: Point, held: int) -> None:
        _sign(held)
        streams = self.display.streams
        slot = min(set(range(self.jobs)) - {child.slot for child in self.children})
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        self.event(point, "starts" if streams else f"starts, log {point.log}")
        self.children.append(Child.start(point, {**self.env, **gpu}, slot, streams, held))
        del self.waiting[point.result]

    def _refuse(self, point: Point, error: OSError) -> None:
        """A point that cannot be locked or started.

        Raises:
            ResultError: nor can any other.
        """
        reason = f"cannot write to {error.filename or point.result.parent} ({error.strerror or error})"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ResultError(f"{reason}: choose other folders with --results DIR and -- --run.runs=DIR") from error
        self.fail(point, reason)

    def _watch(self, child: Child) -> None:
        alive, point = child.is_alive(), child.point
        self.display.echo(child)
        if alive:
            if why := child.stopping or (self.stop(point) if self.stop else ""):
                child.ask_to_stop(why, self.grace)
            return
        self.children.remove(child)
        problem = child.problem()
        if problem and child.stopping:
            self.cut(point, child.stopping)
        elif problem:
            self.fail(point, problem, child.started)
        else:
            self.finish(point, child.started)
        os.close(child.held)  # not before: another sweep would begin a point whose failure it cannot see yet


def _sign(held: int) -> None:
    """Write into a lock's file who has it, for people."""
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except OSError:  # another user's file, or a full disk
        pass


def _read(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"
