"""One point of a sweep as a separate process, which cannot outlive the sweep."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lit_scaledrop.results.result import ResultError
from lit_scaledrop.results.store import is_finished

Grace = Sequence[tuple[int, float]]
"""Signals that stop a child, each with the seconds it has to obey."""
_LONGEST = 300  # characters of a reason in a table

# Runs between fork and the child's program. A preexec_fn would run Python in a forked copy of this process,
# which may deadlock where it has threads (torch). PR_SET_PDEATHSIG = 1, and survives exec, as an ignored signal does:
# SLURM warns all processes of a job by SIGUSR2 that its time is up, and only ours acts upon it.
_GUARD = """import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
if os.getppid() != int(sys.argv[1]): sys.exit("the sweep has ended")
try: os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error: sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")"""


@dataclass(frozen=True)
class Point:
    """One point of the grid."""

    name: str
    """Unique in the sweep and fit for a file name, e.g. `resnet20-proposed-seed1`."""
    argv: list[str]
    result: Path
    """The file that a finished run leaves."""
    log: Path
    """Where its output goes, unless that streams to a terminal."""

    @property
    def lock(self) -> Path:
        """Locked by the process that trains it; beside the result: who may write the one may write the other."""
        return self.result.with_name(f".{self.result.stem}.lock")

    @property
    def error_file(self) -> Path:
        """Where the command says why it failed, see `__main__.py`."""
        return self.log.with_suffix(".error")


@dataclass
class Child:
    """The process of a point, in a process group of its own."""

    point: Point
    process: subprocess.Popen[bytes]
    slot: int
    """Which of the jobs it is."""
    shown: int
    """Bytes of the log that have been echoed."""
    held: int
    """Descriptor of the point's lock, for whoever started it to close."""
    started: float = field(default_factory=time.monotonic)
    stopping: str = ""
    """Why it was asked to stop."""
    deadline: float = float("inf")
    """When it is killed if it does not."""

    @classmethod
    def start(cls, point: Point, env: Mapping[str, str], slot: int, streams: bool, held: int) -> "Child":
        """Start it; its output goes to the terminal if it `streams`, else to its log.

        Args:
            point: what to run.
            env: environment of the process.
            slot: which of the jobs it is.
            streams: whether its output goes to the terminal.
            held: descriptor of the point's lock; the process has it too, until it and what it has forked have ended.

        Raises:
            OSError: its files cannot be written, or no process made.
        """
        guard = [sys.executable, "-ISc", _GUARD, str(os.getpid())] if sys.platform == "linux" else []
        point.log.parent.mkdir(parents=True, exist_ok=True)
        point.error_file.unlink(missing_ok=True)
        with contextlib.nullcontext() if streams else open(point.log, "ab") as log:
            # a group of its own: Ctrl-C reaches it once and through us; it must then not read the terminal
            process = subprocess.Popen(
                [*guard, *point.argv],
                env={**env, "SCALEDROP_ERROR_FILE": str(point.error_file.absolute())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                pass_fds=(held,),
            )
            return cls(point, process, slot, log.tell() if log else 0, held)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def signal(self, signum: int) -> None:
        """Send a signal to it and its own children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signum)

    def ask_to_stop(self, why: str, grace: Grace) -> None:
        """Send the first signal; call again, until it has ended, to kill it when its time is over."""
        if not self.stopping:
            signum, seconds = grace[0]
            self.stopping, self.deadline = why, time.monotonic() + seconds
            self.signal(signum)
        elif time.monotonic() > self.deadline:
            self.signal(signal.SIGKILL)

    def problem(self) -> str:
        """Why it did not succeed, once it has ended; empty if it did."""
        if code := self.process.returncode:
            ended = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
            return f"{ended}: {message}" if (message := self._message()) else ended
        try:
            return "" if is_finished(self.point.result) else f"exit code 0, but there is no result {self.point.result}"
        except ResultError as error:
            return f"exit code 0, but {error}"

    def _message(self) -> str:
        """What the command said went wrong, on one line."""
        with contextlib.suppress(OSError):
            text = " ".join(self.point.error_file.read_text(encoding="utf-8", errors="replace").split())
            self.point.error_file.unlink()
            return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
        return ""


def stop_all(children: Sequence[Child], grace: Grace) -> None:
    """Stop children by harder and harder signals."""
    alive = list(children)
    for signum, seconds in grace:
        for child in alive:
            child.signal(signum)
        deadline = time.monotonic() + seconds
        with contextlib.suppress(KeyboardInterrupt):  # asked again: continue with the harder signal
            while alive and time.monotonic() < deadline:
                time.sleep(0.05)
                alive = [child for child in alive if child.is_alive()]
