"""`scaledrop sweep FILE` for `method: random` and `bayes`: choose points, train them, choose the next ones.

Points are chosen in rounds of `--jobs`. A round knows the rounds before it and nothing that depends on who was faster,
so the same file, seed and number of jobs search the same points again. A journal keeps them: the same command goes on.
"""

import csv
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_scaledrop.results.result import is_finished, read_result
from lit_scaledrop.results.trials import Journal, JournalError, Trial
from lit_scaledrop.sweep.file import SweepError, build_command
from lit_scaledrop.sweep.hyperband import verdict
from lit_scaledrop.sweep.leases import STALE
from lit_scaledrop.sweep.points import Plan, point_paths
from lit_scaledrop.sweep.runner import Point, Runner, visible_gpus
from lit_scaledrop.sweep.suggest import EngineError, problems, suggest

_LOOK = 1.0  # seconds between two looks at a training's log
_SCIENCE = ("method", "metric", "parameters", "command", "early_terminate")


@dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    file: Path
    config: Mapping[str, Any]
    """the sweep file"""
    env: Mapping[str, str]
    """environment of the trainings"""
    extra: Sequence[str]
    """flags for every point"""
    runs: int
    jobs: int
    seed: int
    """of the search, not of the trainings"""
    plan: Plan
    """finds the result file of a point; that of the file's command by default"""
    stale: float = STALE
    """seconds without a sign of life after which another process's claim on a point counts as dead"""

    def __post_init__(self) -> None:
        self._require_metric()
        if found := problems(self.config):
            raise SweepError(f"{self.file}: {'; '.join(found)}")

    def _require_metric(self) -> None:
        """Refuse a search without a metric, or by one of the test set."""
        metric = self.config.get("metric")
        if not isinstance(metric, dict) or not str(metric.get("name", "")).startswith("val/"):
            raise SweepError(
                f"{self.file}: a search needs 'metric: {{name: val/acc, goal: maximize}}', a metric of the validation "
                "split; test images choose nothing"
            )

    @property
    def goal(self) -> Callable[..., float]:
        """The better of two values."""
        return max if self.config["metric"].get("goal", "minimize") == "maximize" else min

    @property
    def id(self) -> str:
        """Eight hexadecimal digits: what makes it another search; not the number of points."""
        flags = [flag for flag in self.extra if not flag.startswith("--run.")]  # where it lies, not what it is
        what = [{name: self.config.get(name) for name in _SCIENCE}, flags, self.env["PROFILE"], self.seed]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def point(self, trial: Trial) -> Point:
        """The training of a trial.

        Raises:
            SweepError: the command would refuse its flags.
        """
        argv = build_command(self.config, trial.values, self.env) + list(self.extra)
        result, folder = point_paths(argv, self.plan, trial.name)
        return Point(trial.name, argv, result, folder / f"{trial.name}.log")

    def choose(self, earlier: Sequence[Trial]) -> Trial:
        """The next trial, whose number is that of the earlier ones; those of its own round count as running."""
        number = len(earlier)
        first = number - number % self.jobs
        known = [trial if trial.number < first else Trial(trial.number, trial.values, "") for trial in earlier]
        try:
            trial = Trial(number, suggest(self.config, known, self.seed), "")
        except EngineError as error:
            raise SweepError(f"{self.file}: {error}") from error
        return Trial(number, trial.values, self.point(trial).result.stem)

    def journal(self) -> Journal:
        """Its journal, in the folder of its results."""
        folder = self.point(self.choose([])).result.parent
        return Journal(folder / f"search-{self.id}.jsonl")


def run(search: Search, dry_run: bool = False) -> tuple[int, Path]:
    """Search, from where an earlier command stopped.

    Returns:
        0, or 1 if some points failed; and the folder of the results.

    Raises:
        SweepError: the file cannot be searched.
        KeyboardInterrupt: after the trainings have been stopped.
    """
    try:
        journal = search.journal()
        if dry_run:
            return _show(search, journal), journal.path.parent
        for start in range(0, search.runs, search.jobs):
            chosen = [journal.choose(n, search.choose) for n in range(start, min(start + search.jobs, search.runs))]
            if open_ := [trial for trial in chosen if trial.state in ("chosen", "failed")]:
                _Round(search, journal, journal.trials()[:start], open_).run()
        return _summary(search, journal.trials()[: search.runs], journal.path), journal.path.parent
    except (EngineError, JournalError) as error:
        raise SweepError(str(error)) from error


@dataclass
class _Round:
    """Points that are trained at the same time."""

    search: Search
    journal: Journal
    earlier: list[Trial]
    trials: list[Trial]
    asked: dict[str, float] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Train what is not finished and note how it ended."""
        search = self.search
        points = {trial.name: search.point(trial) for trial in self.trials}
        for trial in self.trials:
            values = ", ".join(f"{name} {value}" for name, value in trial.values.items())
            print(f"{trial.name} of {search.runs}: {values}", flush=True)
        gpus = visible_gpus(search.env) if search.jobs > 1 else []
        stop = self.stop if "early_terminate" in search.config else None
        runner = Runner(list(points.values()), search.jobs, search.env, gpus, stop=stop, stale=search.stale)
        runner.run()
        stopped = {point.name: why for point, why in runner.stopped}
        failed = {point.name: why for point, why in runner.failures}
        for trial in self.trials:
            self._end(trial, points[trial.name], stopped.get(trial.name), failed.get(trial.name))

    def _end(self, trial: Trial, point: Point, stopped: str | None, failed: str | None) -> None:
        metric, history = self.search.config["metric"]["name"], self.history(point)
        if is_finished(point.result):
            value = _value(read_result(point.result).training, metric)
            self.journal.end(trial, "finished", value=value, history=history, why="")
        elif stopped:
            history = history[: self.judged[trial.name]]
            self.journal.end(trial, "stopped", value=self.search.goal(history), history=history, why=stopped)
        elif failed:
            self.journal.end(trial, "failed", value=None, history=history, why=failed)

    def stop(self, point: Point) -> str:
        """Why a training is stopped; each epoch is judged in turn, however late it is seen."""
        if time.monotonic() < self.asked.get(point.name, 0):
            return ""
        self.asked[point.name] = time.monotonic() + _LOOK
        history, others = self.history(point), [trial.history for trial in self.earlier]
        for epochs in range(self.judged.get(point.name, 0) + 1, len(history) + 1):
            self.judged[point.name] = epochs
            if why := verdict(self.search.config, others, history[:epochs]):
                return why
        return ""

    def history(self, point: Point) -> tuple[float, ...]:
        """The metric after each epoch, from Lightning's CSV logs of all attempts."""
        folder = point.log.parents[1] / point.result.stem / "logs"
        return epochs_of(folder, self.search.config["metric"]["name"])


def epochs_of(folder: Path, metric: str) -> tuple[float, ...]:
    """A metric after each epoch from the first on, as logged in `version_N/metrics.csv`; later attempts count."""
    found: dict[int, float] = {}
    for path in sorted(folder.glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])):
        whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]  # a training may be writing
        for row in csv.DictReader(whole.splitlines()):
            if row.get(metric) and row.get("epoch"):
                found[int(row["epoch"])] = float(row[metric])
    history: list[float] = []
    while len(history) in found:
        history.append(found[len(history)])
    return tuple(history)


def _value(training: Mapping[str, Any], metric: str) -> float:
    """A run's value of a validation metric: that of the checkpoint, or of the last epoch where none is chosen by it."""
    key = metric.replace("/", "_")
    if key in training:
        return float(training[key])
    logged = training.get("logged", {})
    if metric not in logged:
        raise SweepError(f"the results have no metric {metric}; there are {', '.join(sorted(logged))}")
    return float(logged[metric])


def _summary(search: Search, trials: Sequence[Trial], journal: Path) -> int:
    counts = {state: sum(trial.state == state for trial in trials) for state in ("finished", "stopped", "failed")}
    shown = f"{counts['finished']} finished, {counts['stopped']} stopped early, {counts['failed']} failed"
    print(f"\n{len(trials)} points: {shown}. Journal: {journal}", flush=True)
    finished = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    if finished:
        value = search.goal(trial.value for trial in finished)
        best = next(trial for trial in finished if trial.value == value)
        flags = shlex.join(f"--{name}={given}" for name, given in best.values.items())
        print(f"Best {search.config['metric']['name']} {value:.4f}: {best.name}, {flags}", flush=True)
    return 1 if counts["failed"] else 0


def _show(search: Search, journal: Journal) -> int:
    """What is there, and the next point; later ones depend on how it ends."""
    trials = journal.trials()
    for trial in trials:
        print(f"{trial.name} {trial.state} -> {search.point(trial).result}")
    if len(trials) < search.runs:
        trial = search.choose(trials)
        point = search.point(trial)
        print(f"{trial.name} next -> {point.result}\n    {shlex.join(point.argv)}")
        print(f"{search.runs - len(trials)} of {search.runs} points to go", file=sys.stderr)
    return 0
