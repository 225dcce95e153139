"""A progress bar where somebody looks, and silence in logs and pipes."""

import sys
from collections.abc import Iterable, Iterator, Sized
from importlib.util import find_spec
from typing import Any


def with_progress(items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
    """Hand items on, with a bar on a terminal.

    Args:
        items: what is iterated over.
        description: what is going on, e.g. ``"evaluating"``.
        total: number of items, for the remaining time; by default the length of ``items``, if it has one.

    >>> list(with_progress([1, 2], "counting"))
    [1, 2]
    """
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    if total is None and isinstance(items, Sized):
        total = len(items)
    yield from track(items, description, total, console=Console(stderr=True), transient=True)


class PartsProgress:
    """Progress of a measurement in parts: two bars on a terminal, parts and images; elsewhere a line a part.

    >>> with PartsProgress(2) as progress:  # lines go to stderr
    ...     progress.begin("clean")
    ...     progress.images(10, 10)
    ...     progress.end("clean", "0.1 s")
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._bars: Any = None

    def __enter__(self) -> "PartsProgress":
        if sys.stderr.isatty() and find_spec("rich") is not None:
            from rich.console import Console
            from rich.progress import Progress

            self._bars = Progress(console=Console(stderr=True), transient=True)
            self._parts = self._bars.add_task("parts", total=self.total)
            self._images = self._bars.add_task("", total=None)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def begin(self, part: str) -> None:
        """A part begins."""
        if self._bars:
            self._bars.reset(self._images, description=part, total=None)

    def images(self, done: int, total: int) -> None:
        """So many of a part's images are done; a part may go over images more than once."""
        if self._bars:
            self._bars.update(self._images, completed=done, total=total)

    def end(self, part: str, outcome: str) -> None:
        """A part is done."""
        self.done += 1
        if self._bars:
            self._bars.update(self._parts, completed=self.done)
        else:
            print(f"[{self.done}/{self.total}] {part}: {outcome}", file=sys.stderr, flush=True)
