"""Reads untrusted files as text and JSON: non-files, invalid UTF-8 and excessive nesting are ordinary errors."""

import errno
import json
from pathlib import Path
from typing import Any


def read_text(path: Path | str) -> str:
    """The UTF-8 text of a file.

    Raises:
        OSError: it cannot be opened, or is a folder or a pipe, which would be waited for.
        ValueError: it is no UTF-8.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path.read_text(encoding="utf-8")


def parse_json(text: str) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, or nested too deeply.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it is nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path | str) -> Any:
    """What the JSON of a file says; errors of :func:`read_text` and :func:`parse_json`."""
    return parse_json(read_text(path))
