"""``scaledrop sweep``: runs a W&B sweep file locally, without a server."""

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

from lit_scaledrop.cli.command import call
from lit_scaledrop.results.result import ResultError
from lit_scaledrop.results.store import is_finished
from lit_scaledrop.results.text import plain
from lit_scaledrop.sweep.child import Point
from lit_scaledrop.sweep.file import COMMANDS, SweepError, command_of, find_sweep, load_sweep, packaged
from lit_scaledrop.sweep.points import Plan, plan_points, point_paths
from lit_scaledrop.sweep.remote import Remote
from lit_scaledrop.sweep.resources import Resources
from lit_scaledrop.sweep.runner import Runner, child_environment, visible_gpus
from lit_scaledrop.sweep.tally import Launch


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _time(text: str) -> float:
    from lit_scaledrop.runs.budget import seconds_of  # imports torch

    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@dataclass(frozen=True)
class Settings:
    """Run a Weights & Biases sweep file locally, without a server; finished points are skipped.

    Args:
        file: a sweep file, or the name of a packaged one.
        profile: quick, cpu, gpu, paper, ... (default: $PROFILE, or quick).
        seeds: instead of the file's seed_everything.
        runs: number of points of a search (default: the file's run_cap).
        search_seed: seed of a search.
        jobs: number of points at once.
        budget: time for all points, e.g. 9m; each trains as many epochs as its share allows.
        results: folder of results (default: as in the configuration).
        only: points by name, e.g. 'resnet20-*' (default: all).
        launcher: how points are run: local processes, a SLURM job array, or Ray tasks.
        cpus: cores per point on a cluster.
        gpus: GPUs per point on a cluster.
        memory: GiB of main memory per point on a cluster (default: the cluster's).
        time: time limit of a SLURM job, which is then requeued, e.g. 4h.
        array_parallelism: largest number of SLURM jobs at once.
        partition: partition of SLURM.
        sbatch: additional options of sbatch, e.g. account=NAME constraint=a100.
        address: address of a Ray cluster, e.g. auto or HOST:6379 (default: start one on this machine).
        dry_run: only show the commands and what is skipped.
    """

    file: Path
    _: KW_ONLY
    profile: str = field(default_factory=lambda: os.environ.get("PROFILE") or "quick")
    seeds: list[int] | None = None
    runs: Annotated[int | None, _positive] = None
    search_seed: int = 0
    jobs: Annotated[int, _positive] = 1
    budget: Annotated[float | None, _time] = None
    results: str | None = None
    only: list[str] = field(default_factory=lambda: ["*"])
    launcher: Literal["local", "slurm", "ray"] = "local"
    cpus: Annotated[int, _positive] = 4
    gpus: int = 0
    memory: float | None = None
    time: Annotated[float, _time] = 4 * 3600.0
    array_parallelism: Annotated[int, _positive] = 256
    partition: str | None = None
    sbatch: list[str] = field(default_factory=list)
    address: str | None = None
    dry_run: bool = False


def main(argv: list[str], plan: Plan | None = None) -> int:
    """Run the command on `argv` (what follows `sweep`; what follows `--` is added to every point).

    Returns:
        0: all points finished; 1: some failed; 2: cannot be run as asked; 130: stopped by Ctrl-C.
    """
    cut = argv.index("--") if "--" in argv else len(argv)
    usage = "%(prog)s FILE [options] [-- FLAGS OF fit (OR assess) FOR EVERY POINT]"
    args, extra = call(Settings, argv[:cut], "scaledrop sweep", usage, known={"file": packaged()}), argv[cut + 1 :]
    args = replace(args, file=find_sweep(args.file))
    if args.results:
        extra = [*extra, f"--run.results={args.results}"]
    try:
        env = child_environment(os.environ, args.profile, args.file.stem, args.jobs)
        config = load_sweep(args.file)
        plan = plan or PLANS[command_of(config)]
        launch = _launcher(args, env, config["method"])
        if config["method"] != "grid":
            return _search(config, args, env, extra, plan, launch)
        points = plan_points(config, env, args.seeds, extra, plan, args.only)
        if args.dry_run:
            return _dry_run(points)
        if args.budget:
            return _within_budget(args.budget, points, launch)
        code = launch(points, None).run()
        _report(points[0].result.parent)
        return code
    except (SweepError, ResultError) as error:
        print(f"scaledrop sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = f"scaledrop sweep {shlex.join(argv)}"
        print(f"\nStopped. Finished points are kept; to resume with the rest:\n    {again}", file=sys.stderr)
        return 130


def _launcher(args: Settings, env: Mapping[str, str], method: str) -> Launch:
    """Who runs the points.

    Raises:
        SweepError: it is not there, or cannot do what is asked.
    """
    if args.launcher == "local" or args.dry_run:
        gpus = visible_gpus(env) if args.jobs > 1 else []
        return lambda points, stop: Runner(points, args.jobs, stop, env, gpus)
    if args.budget:
        raise SweepError("--budget divides the time of this machine; on a cluster give each point --budget after --")
    if args.jobs > 1 and method == "grid":
        raise SweepError("--jobs is for searches and the local launcher; for SLURM use --array-parallelism")
    try:
        resources = Resources(**{field.name: getattr(args, field.name) for field in fields(Resources)})
    except ValueError as error:
        raise SweepError(str(error)) from error
    module = importlib.import_module(f"lit_scaledrop.sweep.{args.launcher}")
    engine = getattr(module, args.launcher.capitalize())(resources)
    return lambda points, stop: Remote(points, len(points), stop, engine=engine, env=env)


def _search(
    config: dict[str, Any], args: Settings, env: Mapping[str, str], extra: Sequence[str], plan: Plan, launch: Launch
) -> int:
    from lit_scaledrop.sweep import search

    runs = args.runs or config.get("run_cap")
    if not isinstance(runs, int) or runs < 1:
        raise SweepError(f"{args.file}: how many points? Write 'run_cap: 20' in it, or add --runs 20")
    if args.only != ["*"] or len(args.seeds or [1]) > 1:
        raise SweepError("--only and several --seeds are for grids; a search chooses its own points, one training each")
    if args.seeds:
        config = {**config, "parameters": {**config["parameters"], "seed_everything": {"value": args.seeds[0]}}}
    asked = search.Search(args.file, config, env, extra, runs, args.jobs, args.search_seed, plan, launch)
    code, folder = search.run(asked, args.dry_run)
    if not args.dry_run:
        _report(folder)
    return code


def _within_budget(budget: float, points: Sequence[Point], launch: Launch) -> int:
    """Run the points one by one, first things first: each gets an equal share of the time that is left.

    What a point does not use is left for those behind it. A point is an ordinary run of the epochs that its share
    allows: what is finished is skipped, and what was stopped resumes.
    """
    from lit_scaledrop.cli.fit import plan_fit
    from lit_scaledrop.cli.flags import require_no_length
    from lit_scaledrop.runs.budget import epochs_within

    end, code = monotonic() + budget, 0
    for place, point in enumerate(points):
        flags = point.argv[point.argv.index("fit") + 1 :]
        share = max(0.0, end - monotonic()) / (len(points) - place)
        try:
            require_no_length(flags)
            epochs = epochs_within(plan_fit(flags), share, budget)
        except ValueError as error:
            print(f"{point.name}: {error}", file=sys.stderr, flush=True)
            code = 1
            continue
        argv = [*point.argv, f"--trainer.max_epochs={epochs}"]
        result, logs = point_paths(argv, PLANS["fit"], point.name)
        code |= launch([Point(point.name, argv, result, logs / f"{point.name}.log")], None).run()
    _report(points[0].result.parent)
    return code


def _report(folder: Path) -> None:
    """Table and plots of a sweep that has them; a paper's table is made by `scaledrop report`, which `make` calls."""
    try:
        from lit_scaledrop.cli.report import main as report
        from lit_scaledrop.report.sweeps import SWEEPS
    except ImportError as error:  # a bare node trains without pandas
        print(f"scaledrop sweep: no table, {error}", file=sys.stderr)
        return
    if folder.name in SWEEPS and any(folder.glob("*.json")):
        print(flush=True)
        report([folder.name, "--results", str(folder.parents[1]), "--profile", folder.parent.name])


@dataclass
class CommandPlan:
    """Where a command would write its result; imports torch."""

    command: str
    function: str
    known: dict[tuple[str, ...], Path] = field(default_factory=dict)

    def __call__(self, flags: list[str]) -> Path:
        """The file of one point."""
        if (path := self.known.get(tuple(flags))) is not None:
            return path
        return getattr(importlib.import_module(f"lit_scaledrop.cli.{self.command}"), self.function)(flags)

    def prepare(self, points: Sequence[Sequence[str]]) -> None:
        """Find the files of many points of `fit` at once."""
        if self.command == "fit":
            self.known = importlib.import_module("lit_scaledrop.cli.many").planned_results(points)


PLANS: dict[str, Plan] = {
    command: CommandPlan(command, function)
    for command, function in zip(COMMANDS, ("planned_result", "planned_assessment", "planned_cost"), strict=True)
}
"""Commands that a sweep can run."""


def _dry_run(points: Sequence[Point]) -> int:
    for place, point in enumerate(points, 1):
        try:
            state = "skip" if is_finished(point.result, move_broken=False) else "run"
        except ResultError as error:
            state = f"fail ({plain(str(error))})"
        print(f"[{place}/{len(points)}] {state} {point.name} -> {point.result}\n    {shlex.join(point.argv)}")
    return 0
