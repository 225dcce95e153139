"""Who runs which point: claim files beside the results, for several sweeps, on several machines that share the folder.

A claim is the file `.claims/ID.NUMBER.json` in the folder of the result; the highest number counts. A point is claimed
by creating the next number: only one process can, also on NFS, where locks are not to be trusted. A claim ends by being
followed, never by being removed before the result is there, so two processes that judge one claim dead cannot both win.

The owner touches its claim (the heartbeat). Whoever looks at it measures on its own monotonic clock how long it has
not been touched, and compares its age with a file touched now in the same folder; no machine's wall clock plays a part.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lit_scaledrop.results.result import write_atomic

STALE = 120.0
"""Seconds without a heartbeat after which a claim is another's to take."""
FOLDER = ".claims"
_BEATS = 6  # heartbeats in that time
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


@dataclass(frozen=True)
class Owner:
    """A process that runs a point, as its claim says."""

    host: str
    pid: int
    place: str
    """Where `pid` means that process: host, boot and process namespace."""
    born: str
    """When the process started, in the kernel's ticks, since numbers are used again; `unknown` other than on Linux."""
    started: float
    """Unix time of the claim; for people."""
    token: str
    """Random, another one for each claim."""
    beat: float
    """Seconds between two heartbeats."""
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_dead(self) -> bool:
        """Whether it has certainly ended; of a process elsewhere nothing is certain."""
        return self.place == _place() and _born(self.pid) != self.born


@dataclass
class _Claim:
    path: Path
    number: int
    owner: Owner
    lost: bool = False


@dataclass
class Claims:
    """The claims of one process. As a context, it keeps them alive by a thread, and lets go of them at the end.

    Args:
        stale: seconds without a heartbeat after which a claim counts as dead; not less than what its owner asks for.
    """

    stale: float = STALE
    _held: dict[Path, _Claim] = field(default_factory=dict)
    # of others' claims: what they looked like, and since when on the monotonic clock
    _seen: dict[Path, tuple[tuple[int, str], float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Claims":
        self._end.clear()
        # a thread: output that a pager or Ctrl-S holds back must not make the claims look dead
        self._thread = threading.Thread(target=self._keep_alive, name="claims", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for result in list(self._held):
            self.release(result)

    def take(self, result: Path) -> str:
        """Claim the point that writes `result`.

        Whoever has it then looks once more whether it is finished: the last owner may have finished it meanwhile.

        Returns:
            An empty text, or who has it.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = result.parent / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        number, path = _latest(folder, result.stem)
        if path is not None and (holder := self._holder(path)):
            return holder
        pid, beat, token = os.getpid(), float(self.stale / _BEATS), secrets.token_hex(8)
        owner = Owner(socket.gethostname(), pid, _place(), _born(pid), time.time(), token, beat)
        path = folder / f"{result.stem}.{number + 1}.json"
        if not _create(path, _text(owner)):
            return self._holder(path) or "a process that was faster"
        with self._lock:
            self._held[result] = _Claim(path, number + 1, owner)
        return ""

    def lost(self, result: Path) -> bool:
        """Whether a claim of ours has been taken over, because this process stood still for too long."""
        return result in self._held and self._held[result].lost

    def release(self, result: Path, finished: bool = False) -> None:
        """Give a claim back; of a finished point nothing is left."""
        with self._lock:
            claim = self._held.pop(result, None)
        if claim is None or claim.lost:
            return
        with contextlib.suppress(OSError):  # it becomes stale then
            if finished:
                for number, path in _all(claim.path.parent, result.stem):
                    if number <= claim.number:
                        path.unlink(missing_ok=True)
            else:
                write_atomic(claim.path, _text(claim.owner, released=True))

    def beat(self) -> None:
        """Show that this process is alive, and find out which claims it has lost."""
        with self._lock:
            for result, claim in self._held.items():
                with contextlib.suppress(OSError):  # a file system that is away for a while: others will judge
                    followed = _latest(claim.path.parent, result.stem)[0] > claim.number
                    claim.lost = claim.lost or followed or not _is_kept(claim, result)
                    if not claim.lost:
                        os.utime(claim.path)  # to the time of the file's server

    def _keep_alive(self) -> None:
        while not self._end.wait(self.stale / _BEATS):
            self.beat()

    def _holder(self, path: Path) -> str:
        """Who has a claim; empty if nobody has it any more."""
        try:
            with open(path, encoding="utf-8") as file:  # opened: NFS asks the server then
                owner, touched = _parse(file.read()), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return ""
        if owner is not None and (owner.released or owner.is_dead()):
            return ""
        now = time.monotonic()
        look = (touched, owner.token if owner else "")
        before, since = self._seen.get(path, (None, now))
        if look != before:
            self._seen[path], since = (look, now), now
        beat = max(self.stale / _BEATS, owner.beat if owner else 0)
        # An old file alone proves nothing: the clock may have been set forward. Two beats missed before our eyes do.
        if now - since >= _BEATS * beat:
            return ""
        if now - since >= 2 * beat and _touched_now(path.parent) - touched / 1e9 > _BEATS * beat:
            return ""
        return str(owner or "a process whose claim is not readable")


def _is_kept(claim: _Claim, result: Path) -> bool:
    """Whether the file of a claim is still its own; one that somebody tidied up is made again.

    Who takes a point over and finishes it removes its claims, so beside a result it was no tidying.
    """
    try:
        owner = _parse(claim.path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return not result.exists() and _create(claim.path, _text(claim.owner))
    return owner is None or owner.token == claim.owner.token


def _all(folder: Path, id: str) -> list[tuple[int, Path]]:
    """The claims of a point, by their numbers."""
    names = (name for name in os.listdir(folder) if re.fullmatch(rf"{re.escape(id)}\.\d+\.json", name))
    return sorted((int(name.split(".")[-2]), folder / name) for name in names)


def _latest(folder: Path, id: str) -> tuple[int, Path | None]:
    return max(_all(folder, id), default=(0, None))


def _create(path: Path, text: str) -> bool:
    """Make a file that must not be there yet; whole from its first moment, where the file system knows links."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return os.stat(temporary).st_nlink > 1  # NFS may answer so to the second sending of what has succeeded
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_without_links(path, text)
    finally:
        os.unlink(temporary)
    return True


def _create_without_links(path: Path, text: str) -> bool:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _text(owner: Owner, released: bool = False) -> str:
    return json.dumps({**asdict(owner), "released": released}) + "\n"


def _parse(text: str) -> Owner | None:
    try:
        record: dict[str, Any] = json.loads(text)
        owner = Owner(**record)
        return owner if isinstance(owner.pid, int) and isinstance(owner.beat, float) else None
    except (ValueError, TypeError):  # cut off by a power cut, or another release's
        return None


def _touched_now(folder: Path) -> float:
    """What the clock of the file system says, in its seconds."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.") as file:
        os.utime(file.name)
        return os.stat(file.name).st_mtime


def _place() -> str:
    """Where numbers of processes mean ours."""
    words = [socket.gethostname()]
    with contextlib.suppress(OSError):  # other than Linux
        words.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        words.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(words)


def _born(pid: int) -> str:
    """When a process started; `unknown` where only that it is alive is known, `dead` if it is not."""
    if os.path.exists("/proc/self/stat"):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return "dead"
        return "dead" if state[0] in ("Z", "X") else state[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "dead"
    except OSError:
        pass
    return "unknown"
