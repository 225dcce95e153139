"""The file that keeps a study: optuna's journal, under a lock of the kernel, which ends with its process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lit_scaledrop.results.locks import take


class Lock:
    """A lock on a journal, in the form that optuna takes; whoever has it takes away a line that a power cut tore."""

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.depth = path, 0
        self.file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for it; whoever has it already has it once more."""
        self.depth += 1
        if self.path is None or self.depth > 1:
            return True
        held = take(self.path, wait=True)
        assert held is not None
        self.file = os.fdopen(held, "r+b")  # closing it is what unlocks
        if torn := len(self.file.read().rpartition(b"\n")[2]):
            self.file.truncate(self.file.tell() - torn)
        return True

    def release(self) -> None:
        """Let go of it."""
        self.depth -= 1
        if self.file and not self.depth:
            self.file.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have it for a while."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


def open_storage(path: Path, lock: Any) -> Any:
    """Optuna's storage in a file, which is made if it is not there; `lock` is a :class:`Lock`."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
