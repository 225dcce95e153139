"""Run the points of a sweep as processes: several at once, on their own GPUs, stopped with this process.

A point whose result exists is skipped, one that another sweep has claimed is put off, and one that fails is reported at
the end. Children have process groups of their own and, on Linux, the kernel stops them if this process is killed.
"""

import contextlib
import errno
import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lit_scaledrop.results.failures import Failure, forget_failure, read_failure, write_failure
from lit_scaledrop.results.result import ResultError, is_finished
from lit_scaledrop.sweep.leases import STALE, Claims

_TAIL = 12  # lines of a failed point's log in the summary
_LONGEST = 300  # characters of a reason in a table

# Runs between fork and the child's program. A preexec_fn would run Python in a forked copy of this process,
# which may deadlock where it has threads (torch). PR_SET_PDEATHSIG = 1, and survives exec.
_GUARD = """import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit("the sweep has ended")
try: os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error: sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")"""


@dataclass(frozen=True)
class Point:
    """One point of the grid."""

    name: str
    """Unique in the sweep and fit for a file name, e.g. `resnet20-proposed-seed1`."""
    argv: list[str]
    """The command."""
    result: Path
    """The file that a finished run leaves."""
    log: Path
    """Where its output goes, unless that streams to a terminal."""


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
class _Child:
    point: Point
    process: subprocess.Popen[bytes]
    slot: int
    shown: int  # bytes of the log that have been echoed
    started: float = field(default_factory=time.monotonic)
    stopping: str = ""  # why it was asked to stop
    deadline: float = float("inf")  # when it is killed if it does not


class Runner:
    """Runs points, `jobs` at once, and goes on when one fails.

    One job on a terminal writes straight to it. Otherwise every point has a log file; one job echoes it,
    several jobs show one line a point and a progress bar.

    Args:
        points: what to run, in order.
        jobs: processes at once.
        env: environment of the children.
        gpus: GPUs that the jobs take turns in; with fewer than two, nothing is set.
        grace: signals that stop a child, each with the seconds it has to obey.
        stale: seconds without a sign of life after which another sweep's claim on a point counts as dead.
        stop: asked again and again why a running point should stop; empty: it goes on.
    """

    def __init__(
        self,
        points: Sequence[Point],
        jobs: int,
        env: Mapping[str, str],
        gpus: Sequence[str] = (),
        grace: Sequence[tuple[int, float]] = ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 5)),
        stale: float = STALE,
        stop: Callable[[Point], str] | None = None,
    ) -> None:
        from rich.progress import Progress

        self.points, self.jobs, self.env, self.gpus, self.grace = list(points), jobs, env, gpus, grace
        self.claims, self.waiting = Claims(stale), list(points)
        self.put_off: dict[Path, str] = {}  # who has them
        self.children: list[_Child] = []
        self.failures: list[tuple[Point, str]] = []
        self.stop, self.stopped = stop or (lambda _: ""), list[tuple[Point, str]]()
        self.done = self.skipped = 0
        self.idle = False
        terminal = sys.stdout.isatty()
        self.streams = jobs == 1 and terminal
        self.progress = Progress(disable=jobs == 1 or not terminal, auto_refresh=False)  # without its thread

    def run(self) -> int:
        """Run what is not finished and print a summary; 0 if every point is finished, else 1.

        Raises:
            KeyboardInterrupt: after the children have been stopped.
        """
        start, look_again = time.monotonic(), 0.0
        self.known = {point.result: read_failure(point.result) for point in self.points}
        with self.progress, self.claims:
            self.task = self.progress.add_task("points", total=len(self.points))
            try:
                while self.waiting or self.children:
                    if len(self.children) < self.jobs and time.monotonic() >= look_again:
                        self._fill()
                        look_again = time.monotonic() + (1 if self.put_off else 0)
                    time.sleep(0.05)
                    for child in list(self.children):
                        self._watch(child)
            finally:
                self._stop()
        for point, reason in self.failures:
            self._explain(point, reason)
        counts = f"{self.done} done, {self.skipped} skipped, {len(self.failures)} failed"
        counts += f", {len(self.stopped)} stopped early" if self.stopped else ""
        print(f"{len(self.points)} points: {counts}, {time.monotonic() - start:.1f} s", flush=True)
        return 1 if self.failures else 0

    def _fill(self) -> None:
        """Start what can be started, in order, and put off what others have claimed."""
        for point in list(self.waiting):
            if len(self.children) == self.jobs:
                return
            if self._is_settled(point, claimed=False):
                continue
            try:
                holder = self.claims.take(point.result)
                if not holder and self._is_settled(point, claimed=True):  # between our look and our claim
                    self.claims.release(point.result, finished=is_finished(point.result))
                elif not holder:
                    self._launch(point)
            except OSError as error:
                self._refuse(point, error)
                continue
            if holder and self.put_off.get(point.result) != holder:
                self._say(point, f"put off, {holder} has it")
                self.put_off[point.result] = holder
        if self.waiting and not self.children and not self.idle:
            self.idle = True
            names = ", ".join(f"{point.name} ({self.put_off[point.result]})" for point in self.waiting)
            print(f"waiting for what others have: {names}", flush=True)

    def _is_settled(self, point: Point, claimed: bool) -> bool:
        """Whether there is nothing to do: it is finished, or another sweep has failed at it since this one began."""
        if is_finished(point.result, move_broken=claimed):
            self.skipped += 1
            forget_failure(point.result)
            said = "skipped, finished already"
        elif (failure := read_failure(point.result)) and failure != self.known[point.result]:
            self.failures.append((point, reason := f"{failure.reason} (on {failure.host})"))
            said = f"FAILED elsewhere, {reason}"
        else:
            return False
        self._take_off(point)
        self._say(point, said)
        return True

    def _take_off(self, point: Point) -> None:
        self.waiting.remove(point)
        self.put_off.pop(point.result, None)

    def _refuse(self, point: Point, error: OSError) -> None:
        """A point that cannot be claimed or started.

        Raises:
            ResultError: nor can any other.
        """
        reason = f"cannot write to {error.filename or point.result.parent} ({error.strerror or error})"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ResultError(f"{reason}: choose other folders with --results DIR and -- --run.runs=DIR") from error
        self.claims.release(point.result)
        if point in self.waiting:
            self._take_off(point)
        self._fail(point, reason)
        self._say(point, f"FAILED, {reason}")

    def _launch(self, point: Point) -> None:
        self._take_off(point)
        self._say(point, "starts" if self.streams else f"starts, log {point.log}")
        slot = min(set(range(self.jobs)) - {child.slot for child in self.children})
        own = {"SCALEDROP_ERROR_FILE": str(_error_file(point).absolute())}
        if len(self.gpus) > 1:
            own["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        guard = [sys.executable, "-ISc", _GUARD, str(os.getpid())] if sys.platform == "linux" else []
        with contextlib.ExitStack() as stack:
            log = None
            point.log.parent.mkdir(parents=True, exist_ok=True)
            _error_file(point).unlink(missing_ok=True)
            if not self.streams:
                log = stack.enter_context(open(point.log, "ab"))
            # a group of its own: Ctrl-C reaches it once and through us; it must then not read the terminal
            process = subprocess.Popen(
                [*guard, *point.argv],
                env={**self.env, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
            self.children.append(_Child(point, process, slot, log.tell() if log else 0))

    def _watch(self, child: _Child) -> None:
        code = child.process.poll()
        if self.jobs == 1 and not self.streams:
            self._echo(child)
        if code is None:
            if self.claims.lost(child.point.result):
                self._give_way(child)
            else:
                self._stop_early(child)
            return
        self.children.remove(child)
        reason = _reason(code, child.point)
        if reason and child.stopping:
            self.claims.release(child.point.result)
            self.stopped.append((child.point, child.stopping))
            self._say(child.point, f"stopped, {child.stopping}")
            return
        if reason:
            self._fail(child.point, reason)
        else:
            self.done += 1
            forget_failure(child.point.result)
        self.claims.release(child.point.result, finished=not reason)
        seconds = time.monotonic() - child.started
        self._say(child.point, f"{f'FAILED, {reason}' if reason else 'done'} ({seconds:.1f} s)")

    def _give_way(self, child: _Child) -> None:
        self._stop([child])
        self.claims.release(child.point.result)
        self.waiting.append(child.point)
        self._say(child.point, "stopped: this sweep stood still, and another one has taken the point over")

    def _fail(self, point: Point, reason: str) -> None:
        self.failures.append((point, reason))
        now = datetime.now(UTC).isoformat()
        try:
            write_failure(Failure(point.name, reason, socket.gethostname(), now), point.result)
        except OSError as error:
            self._say(point, f"the failure could not be recorded for the table: {error.strerror or error}")

    def _stop_early(self, child: _Child) -> None:
        if not child.stopping:
            child.stopping = self.stop(child.point)
            if child.stopping:
                signum, seconds = self.grace[0]
                child.deadline = time.monotonic() + seconds
                os.killpg(child.process.pid, signum)
        elif time.monotonic() > child.deadline:
            os.killpg(child.process.pid, signal.SIGKILL)

    def _echo(self, child: _Child) -> None:
        with open(child.point.log, "rb") as log:
            log.seek(child.shown)
            text = log.read()
        child.shown += len(text)
        print(text.decode(errors="replace"), end="", flush=True)

    def _stop(self, children: Sequence[_Child] | None = None) -> None:
        """Stop some children, or all."""
        left = list(self.children if children is None else children)
        for signum, seconds in self.grace:
            for child in left:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signum)
            deadline = time.monotonic() + seconds
            with contextlib.suppress(KeyboardInterrupt):  # asked again: go on to the harder signal
                while left and time.monotonic() < deadline:
                    time.sleep(0.05)
                    left = [child for child in left if child.process.poll() is None]
        self.children = [child for child in self.children if child.process.poll() is None]

    def _say(self, point: Point, what: str) -> None:
        line = f"[{self.points.index(point) + 1}/{len(self.points)}] {point.name}: {what}"
        if self.progress.disable:
            print(line, flush=True)
            return
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.progress.update(
            self.task, completed=self.done + self.skipped + len(self.failures) + len(self.stopped), refresh=True
        )

    def _explain(self, point: Point, reason: str) -> None:
        print(f"\n{point.name} FAILED: {reason}\n  command: {shlex.join(point.argv)}")
        if self.streams:
            print("  its output is above")
            return
        if not point.log.exists():  # it was not started, or on another machine
            return
        tail = point.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        print(f"  the end of {point.log}:", *tail, sep="\n    ")


def _error_file(point: Point) -> Path:
    """Where the command says why it failed, see `__main__.py`."""
    return point.log.with_suffix(".error")


def _reason(code: int, point: Point) -> str:
    """Why a child that ended with `code` did not succeed; empty if it did."""
    if code:
        ended = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
        return f"{ended}: {said}" if (said := _last_words(point)) else ended
    try:
        return "" if is_finished(point.result) else f"exit code 0, but there is no result {point.result}"
    except ResultError as error:
        return f"exit code 0, but {error}"


def _last_words(point: Point) -> str:
    """What the command said went wrong, on one line."""
    with contextlib.suppress(OSError):
        text = " ".join(_error_file(point).read_text(encoding="utf-8", errors="replace").split())
        _error_file(point).unlink()
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return ""
