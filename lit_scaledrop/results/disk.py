"""Flushes written files to the disk."""

import errno
import os


def sync(descriptor: int) -> None:
    """Have what was written to an opened file on the disk, where the file system can say so."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise  # else a file system that has none, some FUSE and 9p
