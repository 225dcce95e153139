"""Atomic writing of files."""

import contextlib
import glob
import os
import secrets
import time
from pathlib import Path

from lit_scaledrop.results.disk import sync


def write_atomic(path: Path | str, content: str | bytes) -> None:
    """Write UTF-8 text or bytes so that readers see the old file or the new one, never a part, even after a power cut.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # random: two machines may have processes of one number
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode(errors="replace") if isinstance(content, str) else content)
            file.flush()
            sync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _tidy(path)


def _tidy(path: Path) -> None:
    """Remove what processes that were killed have left beside a file, an hour ago or earlier."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()
