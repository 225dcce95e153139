"""Kernel locks on files: one holder at a time, free as soon as the last process that has it has ended, however.

A lock belongs to the opened file, so a child that inherits the descriptor holds it, also when its parent is killed.
"""

import errno
import fcntl
import functools
import os
import sys
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def take(path: Path, wait: bool = False) -> int | None:
    """Lock a file, which is made if it is not there.

    On a file system without locks this is said once, and the file counts as locked.

    Args:
        path: in a folder that is there.
        wait: until it is free.

    Returns:
        The descriptor, closing which lets go; or ``None`` where another process has it.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_still(descriptor, path):  # else its last holder has removed it before we had it
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            _say_once(path.parent, error.strerror)
            return descriptor
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)  # another user's of the same group


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@functools.cache
def _say_once(folder: Path, why: str | None) -> None:
    print(
        f"{folder} is on a file system without locks ({why}): do not start the same command twice there at the same "
        f"time",
        file=sys.stderr,
        flush=True,
    )
