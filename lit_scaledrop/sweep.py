"""`scaledrop sweep FILE`: run a Weights & Biases sweep file here, without a server.

Every point of the grid becomes one `fit` process with the argv that `wandb agent` would give it. A point
whose result file exists is skipped, so the same command goes on after a failure, Ctrl-C or a power cut.
Children have process groups of their own and, on Linux, the kernel stops them if this process is killed.
"""

import argparse
import contextlib
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_scaledrop.report.results import ResultError, is_finished

Plan = Callable[[list[str]], Path]
"""From the arguments of a `fit` to the file of its result."""

_ENVVAR = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_TAIL = 12  # lines of a failed point's log in the summary

# Runs between fork and the child's program. A preexec_fn would run Python in a forked copy of this process,
# which may deadlock where it has threads (torch). PR_SET_PDEATHSIG = 1, and survives exec.
_GUARD = """import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit("the sweep has ended")
try: os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error: sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")"""


class SweepError(RuntimeError):
    """A sweep that cannot be run as asked; the message says what to change."""


@dataclass(frozen=True)
class Point:
    """One point of the grid."""

    name: str
    """Unique in the sweep and fit for a file name, e.g. `resnet20-proposed-seed1`."""
    argv: list[str]
    """The command."""
    result: Path
    """The file that a finished run leaves."""
    log: Path
    """Where its output goes, unless that streams to a terminal."""


def main(argv: list[str], plan: Plan | None = None) -> int:
    """Run the command on `argv` (what follows `sweep`; what follows `--` is added to every point).

    Args:
        argv: arguments.
        plan: `lit_scaledrop.cli.planned_result` by default.

    Returns:
        0: all points finished; 1: some failed; 2: cannot be run as asked; 130: stopped by Ctrl-C.
    """
    cut = argv.index("--") if "--" in argv else len(argv)
    args, extra = _parser().parse_args(argv[:cut]), argv[cut + 1 :]
    if args.results:
        extra = [*extra, f"--run.results={args.results}"]
    try:
        env = child_environment(os.environ, args.profile, args.file.stem, args.jobs)
        points = plan_points(load_sweep(args.file), args.file.stem, env, args.seeds, extra, plan or _plan)
        if args.dry_run:
            return _dry_run(points)
        return Runner(points, args.jobs, env, visible_gpus(env) if args.jobs > 1 else []).run()
    except (SweepError, ResultError) as error:
        print(f"scaledrop sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = f"scaledrop sweep {shlex.join(argv)}"
        print(f"\nStopped. Finished points are kept; this goes on with the rest:\n    {again}", file=sys.stderr)
        return 130


# --- from the file to the points ---


def load_sweep(path: Path) -> dict[str, Any]:
    """Read and check a W&B sweep file of method `grid`.

    Raises:
        SweepError: the file is missing, no YAML, or no grid that can be run here.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SweepError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise SweepError(f"{path} is no sweep file: it needs method, parameters and command")
    method, command, parameters = (config.get(key) for key in ("method", "command", "parameters"))
    if method in ("random", "bayes"):
        raise SweepError(f"{path}: method {method!r} does not run here yet, only grid; use wandb sweep and wandb agent")
    if method != "grid":
        raise SweepError(f"{path}: unknown method {method!r}; write 'method: grid'")
    if not isinstance(command, list) or not {"fit", "${args}"} <= set(map(str, command)):
        raise SweepError(f"{path}: needs 'command:', a list with the elements fit and ${{args}}")
    if not isinstance(parameters, dict) or not parameters:
        raise SweepError(f"{path}: needs 'parameters:' with at least one name")
    for name, entry in parameters.items():
        if problem := _problem(name, entry):
            raise SweepError(f"{path}: {name} {problem}")
    if "early_terminate" in config:
        print(f"scaledrop sweep: {path}: early_terminate is ignored here", file=sys.stderr)
    return config


def _problem(name: str, entry: Any) -> str:
    """What is wrong with one parameter of a grid; empty if nothing is."""
    if isinstance(entry, dict) and "parameters" in entry:
        return f"is nested, which W&B empties; write dotted names, '{name}.<inner>:'"
    if not isinstance(entry, dict) or set(entry) not in ({"values"}, {"value"}):
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
    stem: str,
    env: Mapping[str, str],
    seeds: Sequence[int] | None,
    extra: Sequence[str],
    plan: Plan,
) -> list[Point]:
    """The points of a sweep in order, all of them checked before the first is run.

    Args:
        config: the sweep file.
        stem: its name, the study unless the command says another.
        env: environment of the points; `PROFILE` must be there.
        seeds: instead of the values of `seed_everything`.
        extra: flags for every point.
        plan: finds the result file, and refuses bad flags.

    Raises:
        SweepError: `fit` would refuse a point's flags, or two points are the same run.
    """
    points: dict[Path, Point] = {}
    names: set[str] = set()
    for values in grid(config["parameters"], seeds):
        argv = build_command(config, values, env) + list(extra)
        flags = argv[argv.index("fit") + 1 :]
        name = base = _name(values, config["parameters"])
        for n in itertools.count(2):
            if name not in names:
                break
            name = f"{base}-{n}"
        names.add(name)
        try:
            result = Path(plan(flags))
        except (Exception, SystemExit) as error:  # jsonargparse exits on a bad flag
            raise SweepError(f"point {name} is no valid fit ({shlex.join(flags)}): {error}") from error
        if result in points:
            raise SweepError(f"{points[result].name} and {name} are one run, {result}; drop one of them")
        given = dict(flag.split("=", 1) for flag in flags if flag.startswith("--run.") and "=" in flag)
        folder = Path(given.get("--run.runs", "runs"), env["PROFILE"], given.get("--run.study", stem), "logs")
        points[result] = Point(name, argv, result, folder / f"{name}.log")
    return list(points.values())


def _name(values: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]]) -> str:
    """The swept values, joined.

    >>> _name({"model.method": "fp", "seed_everything": 1}, {"model.method": {"values": ["fp"]}})
    'fp-seed1'
    """
    swept = {k: v for k, v in values.items() if k == "seed_everything" or "values" in parameters[k]}
    words = [f"seed{v}" if k == "seed_everything" else str(v) for k, v in swept.items()]
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", word).strip("-.") for word in words) or "point"


def _plan(flags: list[str]) -> Path:
    from lit_scaledrop.cli import planned_result  # imports torch

    return planned_result(flags)


def _dry_run(points: Sequence[Point]) -> int:
    for place, point in enumerate(points, 1):
        state = "skip" if is_finished(point.result, move_broken=False) else "run"
        print(f"[{place}/{len(points)}] {state} {point.name} -> {point.result}\n    {shlex.join(point.argv)}")
    return 0


# --- from the points to processes ---


def child_environment(env: Mapping[str, str], profile: str, group: str, jobs: int) -> dict[str, str]:
    """Environment of every point: profile, W&B group and, unless set, its share of the cores."""
    shared = {**env, "PROFILE": profile, "WANDB_RUN_GROUP": group}
    if jobs > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))
    return shared


def visible_gpus(env: Mapping[str, str]) -> list[str]:
    """Names for `CUDA_VISIBLE_DEVICES`: what that variable lists, or else what `nvidia-smi` finds.

    >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2,3"}), visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"})
    (['2', '3'], [])
    """
    if "CUDA_VISIBLE_DEVICES" in env:
        names = (name.strip() for name in env["CUDA_VISIBLE_DEVICES"].split(","))
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))  # CUDA stops there too
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


@dataclass
class _Child:
    point: Point
    process: subprocess.Popen[bytes]
    slot: int
    shown: int  # bytes of the log that have been echoed
    started: float = field(default_factory=time.monotonic)


class Runner:
    """Runs points, `jobs` at once, and goes on when one fails.

    One job on a terminal writes straight to it. Otherwise every point has a log file; one job echoes it,
    several jobs show one line a point and a progress bar.

    Args:
        points: what to run, in order.
        jobs: processes at once.
        env: environment of the children.
        gpus: GPUs that the jobs take turns in; with fewer than two, nothing is set.
        grace: signals that stop a child, each with the seconds it has to obey.
    """

    def __init__(
        self,
        points: Sequence[Point],
        jobs: int,
        env: Mapping[str, str],
        gpus: Sequence[str] = (),
        grace: Sequence[tuple[int, float]] = ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 5)),
    ) -> None:
        from rich.progress import Progress

        self.points, self.jobs, self.env, self.gpus, self.grace = list(points), jobs, env, gpus, grace
        self.children: list[_Child] = []
        self.failures: list[tuple[Point, str]] = []
        self.done = self.skipped = 0
        terminal = sys.stdout.isatty()
        self.streams = jobs == 1 and terminal
        self.progress = Progress(disable=jobs == 1 or not terminal, auto_refresh=False)  # without its thread

    def run(self) -> int:
        """Run what is not finished and print a summary; 0 if every point is finished, else 1.

        Raises:
            KeyboardInterrupt: after the children have been stopped.
        """
        start, waiting = time.monotonic(), list(self.points)
        with self.progress:
            self.task = self.progress.add_task("points", total=len(self.points))
            try:
                while waiting or self.children:
                    while waiting and len(self.children) < self.jobs:
                        self._launch(waiting.pop(0))
                    time.sleep(0.05)
                    for child in list(self.children):
                        self._watch(child)
            finally:
                self._stop()
        for point, reason in self.failures:
            self._explain(point, reason)
        counts = f"{self.done} done, {self.skipped} skipped, {len(self.failures)} failed"
        print(f"{len(self.points)} points: {counts}, {time.monotonic() - start:.1f} s", flush=True)
        return 1 if self.failures else 0

    def _launch(self, point: Point) -> None:
        if is_finished(point.result):  # asked only now: another sweep may have finished it meanwhile
            self.skipped += 1
            self._say(point, "skipped, finished already")
            return
        self._say(point, "starts" if self.streams else f"starts, log {point.log}")
        slot = min(set(range(self.jobs)) - {child.slot for child in self.children})
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        guard = [sys.executable, "-ISc", _GUARD, str(os.getpid())] if sys.platform == "linux" else []
        with contextlib.ExitStack() as stack:
            log = None
            if not self.streams:
                point.log.parent.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context(open(point.log, "ab"))
            # a group of its own: Ctrl-C reaches it once and through us; it must then not read the terminal
            process = subprocess.Popen(
                [*guard, *point.argv],
                env={**self.env, **gpu}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
            self.children.append(_Child(point, process, slot, log.tell() if log else 0))

    def _watch(self, child: _Child) -> None:
        code = child.process.poll()
        if self.jobs == 1 and not self.streams:
            self._echo(child)
        if code is None:
            return
        self.children.remove(child)
        reason = _reason(code, child.point.result)
        if reason:
            self.failures.append((child.point, reason))
        else:
            self.done += 1
        seconds = time.monotonic() - child.started
        self._say(child.point, f"{f'FAILED, {reason}' if reason else 'done'} ({seconds:.1f} s)")

    def _echo(self, child: _Child) -> None:
        with open(child.point.log, "rb") as log:
            log.seek(child.shown)
            text = log.read()
        child.shown += len(text)
        print(text.decode(errors="replace"), end="", flush=True)

    def _stop(self) -> None:
        for signum, seconds in self.grace:
            for child in self.children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signum)
            deadline = time.monotonic() + seconds
            with contextlib.suppress(KeyboardInterrupt):  # asked again: go on to the harder signal
                while self.children and time.monotonic() < deadline:
                    time.sleep(0.05)
                    self.children = [child for child in self.children if child.process.poll() is None]

    def _say(self, point: Point, what: str) -> None:
        line = f"[{self.points.index(point) + 1}/{len(self.points)}] {point.name}: {what}"
        if self.progress.disable:
            print(line, flush=True)
            return
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.progress.update(self.task, completed=self.done + self.skipped + len(self.failures), refresh=True)

    def _explain(self, point: Point, reason: str) -> None:
        print(f"\n{point.name} FAILED: {reason}\n  command: {shlex.join(point.argv)}")
        if self.streams:
            print("  its output is above")
            return
        tail = point.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        print(f"  the end of {point.log}:", *tail, sep="\n    ")


def _reason(code: int, result: Path) -> str:
    """Why a child that ended with `code` did not succeed; empty if it did."""
    if code:
        return f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
    try:
        return "" if is_finished(result) else f"exit code 0, but there is no result {result}"
    except ResultError as error:
        return f"exit code 0, but {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaledrop sweep",
        usage="%(prog)s FILE [options] [-- FLAGS OF fit FOR EVERY POINT]",
        description="Run a Weights & Biases sweep file here, without a server; finished points are skipped.",
    )
    parser.add_argument("file", type=Path, help="sweep file, e.g. sweeps/table3.yaml")
    profile = os.environ.get("PROFILE") or "quick"
    parser.add_argument("--profile", default=profile, help="quick, cpu or paper (default: $PROFILE, or quick)")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the file's seed_everything")
    parser.add_argument("--jobs", type=_positive, default=1, help="points at once (default: 1)")
    parser.add_argument("--results", help="folder of results (default: as in the configuration)")
    parser.add_argument("--dry-run", action="store_true", help="only show the commands and what is skipped")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)
