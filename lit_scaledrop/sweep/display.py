"""Progress output of a sweep."""

import shlex
import sys
from collections.abc import Sequence

from lit_scaledrop.results.text import plain
from lit_scaledrop.sweep.child import Child, Point

_TAIL = 12  # lines of a failed point's log in the summary


class Display:
    """A line for each event.

    One job on a terminal writes straight to it. Otherwise every point has a log file; one job echoes it, several jobs
    have a progress bar where there is a terminal.
    """

    def __init__(self, points: Sequence[Point], jobs: int) -> None:
        from rich.progress import Progress

        terminal = sys.stdout.isatty()
        self.places = {point.result: place for place, point in enumerate(points, 1)}
        self.streams, self.echoes = jobs == 1 and terminal, jobs == 1 and not terminal
        self.progress = Progress(disable=jobs == 1 or not terminal, auto_refresh=False)  # without its thread
        self.task = self.progress.add_task("points", total=len(points))

    def event(self, point: Point, what: str, settled: int) -> None:
        """Show what happened to a point; `settled` of all points need no more work."""
        line = f"[{self.places[point.result]}/{len(self.places)}] {point.name}: {plain(what)}"
        if self.progress.disable:
            print(line, flush=True)
            return
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.progress.update(self.task, completed=settled, refresh=True)

    def echo(self, child: Child) -> None:
        """Show what is new in its log, for one job without a terminal."""
        if not self.echoes:
            return
        with open(child.point.log, "rb") as log:
            log.seek(child.shown)
            text = log.read()
        child.shown += len(text)
        print(text.decode(errors="replace"), end="", flush=True)

    def explain(self, point: Point, reason: str) -> None:
        """Show the command and the end of the log of a point that failed."""
        print(f"\n{point.name} FAILED: {plain(reason)}\n  command: {shlex.join(point.argv)}")
        if self.streams:
            print("  its output is above")
        elif point.log.exists():  # it was started, and on this machine
            tail = point.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
            print(f"  the end of {point.log}:", *tail, sep="\n    ")
