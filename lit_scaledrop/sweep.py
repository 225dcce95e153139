"""`scaledrop sweep FILE`: run a Weights & Biases sweep file here, without a server.

Every point of the grid becomes one process, `fit`, `assess` or `cost`, with the argv that `wandb agent` would give it.
A point whose result file exists is skipped, so the same command goes on after a failure, Ctrl-C or a power cut. Several
of them, on several machines that share the results folder, split the points. Points that are searched, not listed
(`method: random` or `bayes`), are chosen in `lit_scaledrop/search.py`.
"""

import argparse
import fnmatch
import itertools
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_scaledrop.claims import STALE
from lit_scaledrop.launch import Point, Runner, child_environment, visible_gpus
from lit_scaledrop.report.results import ResultError, is_finished

Plan = Callable[[list[str]], Path]
"""From the arguments of a command to the file of its result."""

_ENVVAR = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


class SweepError(RuntimeError):
    """A sweep that cannot be run as asked; the message says what to change."""


def main(argv: list[str], plan: Plan | None = None) -> int:
    """Run the command on `argv` (what follows `sweep`; what follows `--` is added to every point).

    Args:
        argv: arguments.
        plan: that of the file's command by default, see `PLANS`.

    Returns:
        0: all points finished; 1: some failed; 2: cannot be run as asked; 130: stopped by Ctrl-C.
    """
    cut = argv.index("--") if "--" in argv else len(argv)
    args, extra = _parser().parse_args(argv[:cut]), argv[cut + 1 :]
    if args.results:
        extra = [*extra, f"--run.results={args.results}"]
    try:
        env = child_environment(os.environ, args.profile, args.file.stem, args.jobs)
        config = load_sweep(args.file)
        if config["method"] != "grid":
            return _search(config, args, env, extra, plan)
        points = plan_points(config, env, args.seeds, extra, plan, args.only)
        if args.dry_run:
            return _dry_run(points)
        if args.budget:
            return _within_budget(args, env, points)
        gpus = visible_gpus(env) if args.jobs > 1 else []
        code = Runner(points, args.jobs, env, gpus, stale=args.stale).run()
        _report(points[0].result.parent)
        return code
    except (SweepError, ResultError) as error:
        print(f"scaledrop sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = f"scaledrop sweep {shlex.join(argv)}"
        print(f"\nStopped. Finished points are kept; this goes on with the rest:\n    {again}", file=sys.stderr)
        return 130


def load_sweep(path: Path) -> dict[str, Any]:
    """Read and check a W&B sweep file.

    Raises:
        SweepError: the file is missing, no YAML, or nothing that can be run here.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SweepError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise SweepError(f"{path} is no sweep file: it needs method, parameters and command")
    method, command, parameters = (config.get(key) for key in ("method", "command", "parameters"))
    if method not in METHODS:
        raise SweepError(f"{path}: unknown method {method!r}; write 'method: {' or '.join(METHODS)}'")
    if (
        not isinstance(command, list)
        or not {"${args}"} <= set(map(str, command))
        or not set(PLANS) & {*map(str, command)}
    ):
        raise SweepError(f"{path}: needs 'command:', a list with the elements {' or '.join(PLANS)}, and ${{args}}")
    if not isinstance(parameters, dict) or not parameters:
        raise SweepError(f"{path}: needs 'parameters:' with at least one name")
    for name, entry in parameters.items():
        if problem := _problem(name, entry, method == "grid"):
            raise SweepError(f"{path}: {name} {problem}")
    if "early_terminate" in config and method == "grid":
        print(f"scaledrop sweep: {path}: early_terminate is ignored in a grid", file=sys.stderr)
    return config


def _problem(name: str, entry: Any, in_grid: bool) -> str:
    """What is wrong with one parameter; empty if nothing is. Distributions are checked by the engine that draws."""
    if isinstance(entry, dict) and "parameters" in entry:
        return f"is nested, which W&B empties; write dotted names, '{name}.<inner>:'"
    if not in_grid and isinstance(entry, dict) and not {"values", "value"} & set(entry):
        return ""
    if not isinstance(entry, dict) or (in_grid and set(entry) not in ({"values"}, {"value"})):
        return "needs 'values: [...]' or 'value: ...' and nothing else in a grid"
    values = _values(entry)
    if not isinstance(values, list) or not values:
        return "has no values; list at least one"
    return "has a null, which no flag can carry; use a word" if None in values else ""


def _values(entry: Mapping[str, Any]) -> Any:
    return [entry["value"]] if "value" in entry else entry["values"]


def grid(parameters: Mapping[str, Mapping[str, Any]], seeds: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """All combinations, the last parameter fastest; `seeds` replaces the values of `seed_everything`.

    >>> list(grid({"model.p": {"values": [0.1, 0.2]}, "seed_everything": {"value": 1}}))
    [{'model.p': 0.1, 'seed_everything': 1}, {'model.p': 0.2, 'seed_everything': 1}]
    """
    if seeds is not None:
        parameters = {**parameters, "seed_everything": {"values": list(seeds)}}
    for values in itertools.product(*map(_values, parameters.values())):
        yield dict(zip(parameters, values, strict=True))


def build_command(config: Mapping[str, Any], values: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """Fill in the macros of a sweep's `command` as `wandb agent` does.

    `${interpreter}` is this very Python, and `${env}` nothing, since an absolute path needs no search.

    Raises:
        SweepError: an unset environment variable, or a macro that our flags have no use for.

    >>> build_command({"command": ["a", "${envvar:X}.yaml", "${args}"]}, {"model.p": 0.1}, {"X": "quick"})
    ['a', 'quick.yaml', '--model.p=0.1']
    """
    macros = {
        "${env}": [],
        "${interpreter}": [sys.executable],
        "${program}": [str(config.get("program"))],
        "${args}": [f"--{name}={value}" for name, value in values.items()],
    }
    filled: list[str] = []
    for element in map(str, config["command"]):
        if missing := [name for name in _ENVVAR.findall(element) if name not in env]:
            raise SweepError(f"the command needs the environment variable {missing[0]}; set it")
        element = _ENVVAR.sub(lambda match: env[match[1]], element)
        if element.startswith("${") and element.endswith("}") and element not in macros:
            raise SweepError(f"the command has the macro {element}; here there is {', '.join(macros)}")
        filled += macros.get(element, [element])
    return filled


def plan_points(
    config: Mapping[str, Any],
    env: Mapping[str, str],
    seeds: Sequence[int] | None,
    extra: Sequence[str],
    plan: Plan | None = None,
    only: Sequence[str] = ("*",),
) -> list[Point]:
    """The points of a sweep in order, all of them checked before the first is run.

    Args:
        config: the sweep file.
        env: environment of the points.
        seeds: instead of the values of `seed_everything`.
        extra: flags for every point.
        plan: finds the result file, and refuses bad flags; that of the command by default, see `PLANS`.
        only: shell patterns of names; points that fit none of them are left out.

    Raises:
        SweepError: the command would refuse a point's flags, two points are the same run, or a pattern fits no point.
    """
    points: dict[Path, Point] = {}
    rows: dict[Path, Any] = {}
    names: set[str] = set()
    for values in grid(config["parameters"], seeds):
        argv = build_command(config, values, env) + list(extra)
        name = base = _name(values, config["parameters"])
        for n in itertools.count(2):
            if name not in names:
                break
            name = f"{base}-{n}"
        names.add(name)
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in only):
            continue
        result, logs = point_paths(argv, plan, name)
        if result in points:
            if rows[result] != values.get("row"):  # a profile's stand-in serves several rows
                continue
            raise SweepError(f"{points[result].name} and {name} are one run, {result}; drop one of them")
        rows[result] = values.get("row")
        points[result] = Point(name, argv, result, logs / f"{name}.log")
    for pattern in only:
        if not fnmatch.filter(names, pattern):
            raise SweepError(f"--only {pattern} fits no point; there are {', '.join(sorted(names))}")
    return list(points.values())


def point_paths(argv: Sequence[str], plan: Plan | None, name: str) -> tuple[Path, Path]:
    """The file of a point's result, and the folder of the logs.

    Raises:
        SweepError: the command would refuse the point's flags.
    """
    command = next(word for word in argv if word in PLANS)
    flags = list(argv[argv.index(command) + 1 :])
    try:
        result = Path((plan or PLANS[command])(flags))
    except (Exception, SystemExit) as error:  # jsonargparse exits on a bad flag
        raise SweepError(f"point {name} is no valid {command} ({shlex.join(flags)}): {error}") from error
    given = dict(flag.split("=", 1) for flag in flags if flag.startswith("--run.") and "=" in flag)
    return result, Path(given.get("--run.runs", "runs"), *result.parent.parts[-2:], "logs")


def _search(
    config: dict[str, Any], args: argparse.Namespace, env: Mapping[str, str], extra: Sequence[str], plan: Plan | None
) -> int:
    from lit_scaledrop import search
    from lit_scaledrop.suggest import EngineError

    runs = args.runs or config.get("run_cap")
    if not isinstance(runs, int) or runs < 1:
        raise SweepError(f"{args.file}: how many points? Write 'run_cap: 20' in it, or add --runs 20")
    if args.only != ["*"] or len(args.seeds or [1]) > 1:
        raise SweepError("--only and several --seeds are of a grid; a search chooses its points, one training each")
    if args.seeds:
        config = {**config, "parameters": {**config["parameters"], "seed_everything": {"value": args.seeds[0]}}}
    try:
        asked = search.Search(args.file, config, env, extra, runs, args.jobs, args.search_seed, plan, args.stale)
    except EngineError as error:
        raise SweepError(str(error)) from error
    code, folder = search.run(asked, args.dry_run)
    if not args.dry_run:
        _report(folder)
    return code


def _within_budget(args: argparse.Namespace, env: Mapping[str, str], points: Sequence[Point]) -> int:
    """Run the points one by one, first things first: each gets an equal share of the time that is left.

    What a point does not use is left for those behind it. A point is an ordinary run of the epochs that its share
    allows: what is finished is skipped, and what was stopped goes on.
    """
    from lit_scaledrop.budget import epochs_within
    from lit_scaledrop.cli import plan_fit

    end, code = _now() + args.budget, 0
    for place, point in enumerate(points):
        flags = point.argv[point.argv.index("fit") + 1 :]
        share = max(0.0, end - _now()) / (len(points) - place)
        try:
            epochs = epochs_within(plan_fit(flags), share, args.budget)
        except ValueError as error:
            print(f"{point.name}: {error}", file=sys.stderr, flush=True)
            code = 1
            continue
        argv = [*point.argv, f"--trainer.max_epochs={epochs}"]
        result, logs = point_paths(argv, None, point.name)
        code |= Runner([Point(point.name, argv, result, logs / f"{point.name}.log")], 1, env, stale=args.stale).run()
    _report(points[0].result.parent)
    return code


_now = time.monotonic


def _report(folder: Path) -> None:
    """Table and plots of a sweep that has them; a paper's table is made by `scaledrop report`, which `make` calls."""
    try:
        from lit_scaledrop.report.command import main as report
        from lit_scaledrop.report.sweeps import SWEEPS
    except ImportError as error:  # a bare node trains without pandas
        print(f"scaledrop sweep: no table, {error}", file=sys.stderr)
        return
    if folder.name in SWEEPS and any(folder.glob("*.json")):
        print(flush=True)
        report([folder.name, "--results", str(folder.parents[1]), "--profile", folder.parent.name])


def _name(values: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]]) -> str:
    """The swept values, joined.

    >>> _name({"model.method": "fp", "seed_everything": 1}, {"model.method": {"values": ["fp"]}})
    'fp-seed1'
    """
    swept = {k: v for k, v in values.items() if k == "seed_everything" or "values" in parameters[k]}
    words = [f"seed{v}" if k == "seed_everything" else str(v) for k, v in swept.items()]
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", word).strip("-.") for word in words) or "point"


def _plan_fit(flags: list[str]) -> Path:
    from lit_scaledrop.cli import planned_result  # imports torch

    return planned_result(flags)


def _plan_assess(flags: list[str]) -> Path:
    from lit_scaledrop.assessment import planned_assessment

    return planned_assessment(flags)


def _plan_cost(flags: list[str]) -> Path:
    from lit_scaledrop.cost_command import planned_cost

    return planned_cost(flags)


METHODS = ("grid", "random", "bayes")
PLANS: dict[str, Plan] = {"fit": _plan_fit, "assess": _plan_assess, "cost": _plan_cost}
"""Commands that a sweep can run."""


def _dry_run(points: Sequence[Point]) -> int:
    for place, point in enumerate(points, 1):
        state = "skip" if is_finished(point.result, move_broken=False) else "run"
        print(f"[{place}/{len(points)}] {state} {point.name} -> {point.result}\n    {shlex.join(point.argv)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaledrop sweep",
        usage="%(prog)s FILE [options] [-- FLAGS OF fit (OR assess) FOR EVERY POINT]",
        description="Run a Weights & Biases sweep file here, without a server; finished points are skipped.",
    )
    parser.add_argument("file", type=Path, help="sweep file, e.g. sweeps/table3.yaml")
    profile = os.environ.get("PROFILE") or "quick"
    parser.add_argument("--profile", default=profile, help="quick, cpu, gpu, paper, ... (default: $PROFILE, or quick)")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the file's seed_everything")
    parser.add_argument("--runs", type=_positive, help="points of a search (default: the file's run_cap)")
    parser.add_argument("--search-seed", type=int, default=0, help="another seed, another search (default: 0)")
    parser.add_argument("--jobs", type=_positive, default=1, help="points at once (default: 1)")
    parser.add_argument(
        "--budget", type=_time, metavar="TIME",
        help="time for all points of a fit, e.g. 9m: the epochs of each are what its share allows",
    )  # fmt: skip
    parser.add_argument("--results", help="folder of results (default: as in the configuration)")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="PATTERN", help="points by name, e.g. 'resnet20-*' (default: all)"
    )
    parser.add_argument(
        "--stale", type=_seconds, default=STALE, metavar="SECONDS",
        help="take over a point whose sweep, on another machine, shows no sign of life so long (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only show the commands and what is skipped")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _time(text: str) -> float:
    from lit_scaledrop.budget import seconds_of

    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return seconds
