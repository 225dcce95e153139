"""A progress bar where somebody looks, and silence in logs and pipes."""

import sys
from collections.abc import Iterable, Iterator, Sized
from importlib.util import find_spec
from typing import Any


def with_progress(items: Iterable[Any], description: str) -> Iterator[Any]:
    """Hand items on, with a bar on a terminal.

    Args:
        items: what is iterated over; its length, if it has one, gives the remaining time.
        description: what is going on, e.g. ``"evaluating"``.

    >>> list(with_progress([1, 2], "counting"))
    [1, 2]
    """
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    total = len(items) if isinstance(items, Sized) else None
    yield from track(items, description, total, console=Console(stderr=True), transient=True)
