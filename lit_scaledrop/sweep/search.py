"""`scaledrop sweep FILE` for `method: random` and `bayes`: choose points, train them, choose the next ones.

Points are chosen in rounds of `--jobs`. A round knows the rounds before it and nothing that depends on who was faster,
so the same file, seed and number of jobs search the same points again. A study keeps them: the same command resumes.
"""

import hashlib
import itertools
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_scaledrop.naming import count
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.run_logs import logged_points
from lit_scaledrop.results.store import is_finished, read_result
from lit_scaledrop.results.trials import JournalError, Trial, on_front, write_trials
from lit_scaledrop.sweep.child import Point
from lit_scaledrop.sweep.file import SweepError, build_command
from lit_scaledrop.sweep.points import Plan, point_paths
from lit_scaledrop.sweep.pruner import scores
from lit_scaledrop.sweep.study import Study
from lit_scaledrop.sweep.tally import Launch

_LOOK = 1.0  # seconds between two looks at a training's log
_SCIENCE = ("method", "metric", "metrics", "parameters", "command", "early_terminate")


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
    launch: Launch
    """runs the points of a round"""

    @property
    def id(self) -> str:
        """Eight hexadecimal digits: what makes it another search; not the number of points."""
        flags = [flag for flag in self.extra if not flag.startswith("--run.")]  # where it lies, not what it is
        science = {name: self.config.get(name) for name in _SCIENCE if name != "metrics" or name in self.config}
        what = ["optuna", science, flags, self.env["PROFILE"], self.seed]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def point(self, trial: Trial) -> Point:
        """The training of a trial.

        Raises:
            SweepError: the command would refuse its flags.
        """
        argv = build_command(self.config, trial.values, self.env) + list(self.extra)
        result, folder = point_paths(argv, self.plan, trial.name)
        return Point(trial.name, argv, result, folder / f"{trial.name}.log")


def run(search: Search, dry_run: bool = False) -> tuple[int, Path]:
    """Search, from where an earlier command stopped.

    Returns:
        0, or 1 if some points failed; and the folder of the results.

    Raises:
        SweepError: the file cannot be searched.
        KeyboardInterrupt: after the trainings have been stopped.
    """
    try:
        study = Study(search.config, search.seed, search.jobs)
        folder = search.point(Trial(0, study.values(study.sample(0)), "")).result.parent
        journal = folder / f"search-{search.id}.log"
        study.open(journal, read_only=dry_run)
    except (SweepError, JournalError) as error:
        raise SweepError(f"{search.file}: {error}") from error
    if dry_run:
        return _show(search, study), folder
    for start in range(0, search.runs, search.jobs):
        numbers = range(start, min(start + search.jobs, search.runs))
        chosen = [study.choose(number, lambda trial: search.point(trial).result.stem) for number in numbers]
        if open_ := [trial for trial in chosen if trial.state in ("chosen", "failed")]:
            _Round(search, study, start, open_).run()
        write_trials(journal.with_suffix(".jsonl"), study.trials())  # for the report
    return _summary(search, study, journal), folder


@dataclass
class _Round:
    """Points that are trained at the same time."""

    search: Search
    study: Study
    start: int
    trials: list[Trial]
    looked: dict[str, float] = field(default_factory=dict)
    contests: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Train what is not finished and note how it ended."""
        search = self.search
        points = {trial.name: search.point(trial) for trial in self.trials}
        for trial in self.trials:
            values = ", ".join(f"{name} {value}" for name, value in trial.values.items())
            print(f"{trial.name} of {search.runs}: {values}", flush=True)
        stop = self.stop if "early_terminate" in search.config else None
        runner = search.launch(list(points.values()), stop)
        runner.run()
        stopped = {point.name: why for point, why in runner.stopped}
        failed = {point.name: why for point, why in runner.failures}
        for trial in self.trials:
            history = self.scores(points[trial.name])
            if is_finished(result := points[trial.name].result):
                ended = read_result(result)
                self.study.end(trial, history, [_value(ended, metric) for metric in self.study.goals])
            elif trial.name in stopped:
                self.study.end(trial, history[: self.judged[trial.name]], why=stopped[trial.name])
            elif trial.name in failed:
                self.study.fail(trial, failed[trial.name])

    def stop(self, point: Point) -> str:
        """Why a training is stopped; each epoch is judged in turn, however late it is seen."""
        if time.monotonic() < self.looked.get(point.name, 0):
            return ""
        self.looked[point.name] = time.monotonic() + _LOOK
        contest = self.contests.setdefault(point.name, self.study.contest(self.start))
        last = self.search.config["early_terminate"].get("max_iter", math.inf)
        history = self.scores(point)
        for epochs in range(self.judged.get(point.name, 0) + 1, len(history) + 1):
            self.judged[point.name] = epochs
            contest.report(history[epochs - 1], epochs)
            if epochs < last and contest.should_prune():
                return f"hyperband, {self.study.metric} {history[epochs - 1]:.4f} after epoch {epochs}"
        return ""

    def scores(self, point: Point) -> list[float]:
        """The metric after each epoch, or the best so far, from Lightning's CSV logs of all attempts."""
        rule = self.search.config.get("early_terminate")
        return scores(rule, epochs_of(point.log.parents[1] / point.result.stem, self.study.metric), self.study.goal)


def epochs_of(folder: Path, metric: str) -> tuple[float, ...]:
    """A metric after each epoch of a run from the first on, of all its attempts."""
    found = logged_points(folder, [metric], keep=float)
    return tuple(found[epoch][metric] for epoch in itertools.takewhile(found.__contains__, itertools.count(1)))


def _value(result: Result, metric: str) -> float:
    """A validation metric: the mean over the parts where a probe measured it, or what the training has of it.

    Of a training it is that of the checkpoint, or of the last epoch where none is chosen by it.
    """
    measured = [one.metrics[metric] for one in result.measurements if metric in one.metrics]
    if measured:
        return statistics.fmean(measured)
    training: Mapping[str, Any] = result.training
    if (key := metric.replace("/", "_")) in training:
        return float(training[key])
    logged = training.get("logged", {})
    if metric not in logged:
        found = {name for one in result.measurements for name in one.metrics if name.startswith("val/")}
        raise SweepError(f"the results have no metric {metric}; there are {', '.join(sorted({*logged, *found}))}")
    return float(logged[metric])


def _summary(search: Search, study: Study, journal: Path) -> int:
    trials = study.trials()[: search.runs]
    counts = {state: sum(trial.state == state for trial in trials) for state in ("finished", "stopped", "failed")}
    shown = f"{counts['finished']} finished, {counts['stopped']} stopped early, {counts['failed']} failed"
    print(f"\n{count(len(trials), 'point')}: {shown}. Journal: {journal}", flush=True)
    finished = [trial for trial in trials if trial.state == "finished"]
    front = on_front([trial.scores for trial in finished], list(study.goals.values()))
    best = [trial for trial, is_best in zip(finished, front, strict=True) if is_best]
    head = "Best "
    if len(study.goals) > 1 and best:
        print(f"On the Pareto front of {' and '.join(study.goals)}, {len(best)} of {len(finished)}:", flush=True)
        head = "  "
    for trial in best if len(study.goals) > 1 else best[:1]:
        reached = ", ".join(f"{name} {score:.4f}" for name, score in zip(study.goals, trial.scores, strict=True))
        flags = shlex.join(f"--{name}={given}" for name, given in trial.values.items())
        print(f"{head}{reached}: {trial.name}, {flags}", flush=True)
    return 1 if counts["failed"] else 0


def _show(search: Search, study: Study) -> int:
    """What is there, and the next point; later ones depend on how it ends."""
    trials = study.trials()
    for trial in trials:
        print(f"{trial.name} {trial.state} -> {search.point(trial).result}")
    if len(trials) < search.runs:
        trial = study.choose(len(trials), lambda trial: search.point(trial).result.stem)
        point = search.point(trial)
        print(f"{trial.name} next -> {point.result}\n    {shlex.join(point.argv)}")
        print(f"{search.runs - len(trials)} of {search.runs} points to go", file=sys.stderr)
    return 0
