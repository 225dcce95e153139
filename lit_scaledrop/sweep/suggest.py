"""The door to W&B's open-source search engine, the package `sweeps`: what to try next.

Used as a calculator: it gets the file's method, metric and parameters and what has been tried, and keeps nothing.
"""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lit_scaledrop.results.trials import Trial

PACKAGE = "sweeps>=0.2,<0.3"
"""0.3.0 asks for numpy below 2, without need: https://pypi.org/project/sweeps/0.3.0/."""
_ASKED = ("method", "metric", "parameters")
_BOUNDED = (None, "uniform", "int_uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values")


class EngineError(RuntimeError):
    """The engine is missing or refuses the file; the message says what to do."""


def engine() -> Any:
    """The package `sweeps`.

    Raises:
        EngineError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both releases use names that pydantic 2 deprecates
            package = importlib.import_module("sweeps")
    except ImportError as error:
        raise EngineError(_missing(str(error))) from error
    if not hasattr(package, "next_runs"):  # a folder called sweeps imports as an empty package
        raise EngineError(_missing("it is not installed"))
    return package


def is_installed() -> bool:
    """Whether there is an engine."""
    try:
        engine()
    except EngineError:
        return False
    return True


def _missing(reason: str) -> str:
    return (
        f"random and bayes need W&B's search engine ({reason}); install it with\n    pip install '{PACKAGE}'\n"
        "or let W&B's server choose: wandb sweep and wandb agent"
    )


def problems(config: Mapping[str, Any]) -> list[str]:
    """What the engine's schema does not like in a sweep file.

    Raises:
        EngineError: the engine is not installed.
    """
    engine()
    check = importlib.import_module("sweeps.config").schema_violations_from_proposed_config
    known = {name: value for name, value in config.items() if name != "run_cap"}  # a key newer than 0.2
    return [str(problem) for problem in check(known)]


def suggest(config: Mapping[str, Any], trials: Sequence[Trial], seed: int) -> dict[str, Any]:
    """Values of the next point: a function of the file, the seed and what has been tried, and of nothing else.

    Args:
        config: sweep file of method `random` or `bayes`.
        trials: all points before it; those without an end count as running.
        seed: of the search.

    Returns:
        Values by name, numbers rounded to six digits, within their bounds.

    Raises:
        EngineError: the engine cannot work with the file.
    """
    sweeps = engine()
    runs = [_as_run(sweeps, config, trial) for trial in trials]
    state = np.random.get_state()
    try:
        np.random.seed([seed, len(trials)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a Gaussian process that has not converged is used all the same
            (run,) = sweeps.next_runs(_asked(config), runs, n=1)
    except (ValueError, TypeError, AssertionError) as error:
        raise EngineError(f"the engine cannot search: {error}") from error
    finally:
        np.random.set_state(state)
    return {name: _plain(entry["value"], config["parameters"][name]) for name, entry in run.config.items()}


def _asked(config: Mapping[str, Any]) -> dict[str, Any]:
    # the raw dictionary: the engine's own SweepConfig empties nested parameters
    return {name: config[name] for name in _ASKED if name in config}


def _as_run(sweeps: Any, config: Mapping[str, Any], trial: Trial) -> Any:
    """A trial in the engine's terms; the aliases work in all releases, the names do not."""
    ended = {"finished": "finished", "stopped": "finished", "failed": "failed"}
    summary = {} if trial.value is None else {config.get("metric", {}).get("name", ""): trial.value}
    values = {name: {"value": value} for name, value in trial.values.items()}
    state = ended.get(trial.state, "running")
    return sweeps.SweepRun(name=trial.name, state=state, config=values, summaryMetrics=summary)


def _plain(value: Any, entry: Mapping[str, Any]) -> Any:
    """A Python value; floats with six digits, which a command line can be read with, within their bounds.

    >>> _plain(np.float64(0.123456789), {"min": 0, "max": 0.1234567}), _plain(np.int64(3), {"min": 1, "max": 4})
    (0.1234567, 3)
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        value = float(f"{value:.6g}")
        if "min" in entry and entry.get("distribution") in _BOUNDED:
            value = min(max(value, entry["min"]), entry["max"])
    return value
