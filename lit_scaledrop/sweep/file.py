"""A W&B sweep file: what it must have, its grid, and its command."""

import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_scaledrop.naming import nearest
from lit_scaledrop.results.reading import read_text
from lit_scaledrop.results.yaml_text import load_yaml

METHODS = ("grid", "random", "bayes")
COMMANDS = ("fit", "assess", "cost")
"""Commands that a sweep can run."""
_ENVVAR = re.compile(r"\$\{envvar:([^}]*)\}")


class SweepError(RuntimeError):
    """A sweep that cannot be run as asked; the message says what to change."""


def packaged() -> dict[str, Path]:
    """Sweep files that come with the package, by their names."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "configs" / "sweep").glob("*.yaml"))}


def find_sweep(path: Path) -> Path:
    """The file, or where there is none that of the package, which has a name: `table3`, or `sweeps/table3.yaml`."""
    named = path.parent in (Path(), Path("sweeps")) and path.suffix in ("", ".yaml")
    return packaged().get(path.stem, path) if named and not path.is_file() else path


def load_sweep(path: Path) -> dict[str, Any]:
    """Read and check a W&B sweep file.

    Raises:
        SweepError: the file is missing, no YAML, or nothing that can be run here.
    """
    try:
        config = load_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise SweepError(f"cannot read {path}: {error}{nearest(path.stem, packaged())}") from error
    if not isinstance(config, dict):
        raise SweepError(f"{path} is not a sweep file: it needs method, parameters and command")
    method, command, parameters = (config.get(key) for key in ("method", "command", "parameters"))
    if method not in METHODS:
        raise SweepError(f"{path}: unknown method {method!r}; write 'method: {' or '.join(METHODS)}'")
    if (
        not isinstance(command, list)
        or not {"${args}"} <= set(map(str, command))
        or not set(COMMANDS) & {*map(str, command)}
    ):
        raise SweepError(f"{path}: needs 'command:', a list with the elements {' or '.join(COMMANDS)}, and ${{args}}")
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
    values = values_of(entry)
    if not isinstance(values, list) or not values:
        return "has no values; list at least one"
    return "has a null, which no flag can carry; use a word" if None in values else ""


def command_of(config: Mapping[str, Any]) -> str:
    """Which of :data:`COMMANDS` the points of a sweep run."""
    return next(word for word in map(str, config["command"]) if word in COMMANDS)


def values_of(entry: Mapping[str, Any]) -> Any:
    """Values of a parameter of a grid."""
    return [entry["value"]] if "value" in entry else entry["values"]


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
        if _ENVVAR.search(element):  # what a variable holds is not expanded once more
            filled.append(_ENVVAR.sub(lambda match: env[match[1]], element))
            continue
        if element.startswith("${") and element.endswith("}") and element not in macros:
            raise SweepError(f"the command has the macro {element}; here there is {', '.join(macros)}")
        filled += macros.get(element, [element])
    return filled


def grid(parameters: Mapping[str, Mapping[str, Any]], seeds: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """All combinations, the last parameter fastest; `seeds` replaces the values of `seed_everything`.

    >>> list(grid({"model.p": {"values": [0.1, 0.2]}, "seed_everything": {"value": 1}}))
    [{'model.p': 0.1, 'seed_everything': 1}, {'model.p': 0.2, 'seed_everything': 1}]
    """
    if seeds is not None:
        parameters = {**parameters, "seed_everything": {"values": list(seeds)}}
    for values in itertools.product(*map(values_of, parameters.values())):
        yield dict(zip(parameters, values, strict=True))
