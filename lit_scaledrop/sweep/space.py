"""The parameters of a W&B sweep file as search space of an optuna study.

Each parameter becomes a distribution that a sampler knows, and a function from what is drawn to the flag's value. Laws
that optuna does not have (normal, beta, values with probabilities) are drawn as quantiles.
"""

import bisect
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from lit_scaledrop.sweep.file import SweepError

_RANGE, _NORMAL, _BETA, _Q = {"min", "max"}, {"mu": 0.0, "sigma": 1.0}, {"a": 1.0, "b": 1.0}, {"q": 1.0}
_LAWS: dict[str, tuple[set[str], dict[str, float]]] = {
    "constant": ({"value"}, {}),
    "categorical": ({"values"}, {}),
    "categorical_w_probabilities": ({"values", "probabilities"}, {}),
    "int_uniform": (_RANGE, {}),
}
"""W&B's distributions: keys that must be there, and defaults of those that may."""
for _law in ("uniform", "log_uniform", "log_uniform_values"):
    _LAWS |= {_law: (_RANGE, {}), f"q_{_law}": (_RANGE, _Q)}
for _law in ("inv_log_uniform", "inv_log_uniform_values"):
    _LAWS[_law] = (_RANGE, {})
for _law, _defaults in (("normal", _NORMAL), ("log_normal", _NORMAL), ("beta", _BETA)):
    _LAWS |= {_law: (set(), _defaults), f"q_{_law}": (set(), _defaults | _Q)}
_EDGE = 1e-6  # quantiles keep so far from 0 and 1, where a law may be infinite


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sweep."""

    distribution: Any
    """Of optuna; None for a constant."""
    value: Callable[[Any], Any]
    """From what is drawn, or None, to the value of the flag."""


def search_space(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Parameter]:
    """Read all parameters; needs optuna.

    Raises:
        SweepError: one of them is none of W&B's distributions.
    """
    space = {}
    for name, entry in parameters.items():
        try:
            space[name] = _parameter(entry)
        except ValueError as error:
            raise SweepError(f"{name}: {error}") from error
    return space


def _parameter(entry: Mapping[str, Any]) -> Parameter:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    law = _law_of(entry)
    given = {**_LAWS[law][1], **entry}
    if law == "constant":
        return Parameter(None, lambda _: given["value"])
    if law == "categorical":  # as JSON, since a study keeps no lists
        return Parameter(CategoricalDistribution([json.dumps(value) for value in given["values"]]), json.loads)
    if law == "categorical_w_probabilities":
        return Parameter(FloatDistribution(0, 1), _weighted(given["values"], given["probabilities"]))
    _require_numbers(given)
    quantile = FloatDistribution(_EDGE, 1 - _EDGE)
    if law.endswith("normal"):
        inverse = NormalDist(given["mu"], given["sigma"]).inv_cdf
        return Parameter(quantile, _rounded(given, lambda u: math.exp(inverse(u)) if "log" in law else inverse(u)))
    if law.endswith("beta"):
        from scipy.special import betaincinv

        return Parameter(quantile, _rounded(given, lambda u: float(betaincinv(given["a"], given["b"], u))))
    low, high = _bounds(law, given["min"], given["max"])
    if law == "int_uniform":
        return Parameter(IntDistribution(low, high), int)
    bounds = () if law.endswith("log_uniform") else (float(low), float(high))  # exponents are not exact
    return Parameter(FloatDistribution(low, high, log="log" in law), _rounded(given, float, *bounds))


def _require_numbers(given: Mapping[str, Any]) -> None:
    for name in set(given) - {"distribution"}:
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a number, not {value!r}")
        if name in ("q", "sigma", "a", "b") and value <= 0:
            raise ValueError(f"{name} must be above 0, not {value}")


def _law_of(entry: Mapping[str, Any]) -> str:
    """The distribution, where W&B's rules leave it out as well."""
    law = entry.get("distribution")
    if law is None:
        whole = all(isinstance(entry.get(name), int) for name in _RANGE)
        law = "constant" if "value" in entry else "int_uniform" if whole else "uniform"
        if "values" in entry:
            law = "categorical_w_probabilities" if "probabilities" in entry else "categorical"
    if law not in _LAWS:
        raise ValueError(f"unknown distribution {law!r}; there are {', '.join(_LAWS)}")
    required, optional = _LAWS[law]
    if missing := sorted(required - set(entry)):
        raise ValueError(f"{law} needs {' and '.join(missing)}")
    if foreign := sorted(set(entry) - required - set(optional) - {"distribution"}):
        raise ValueError(f"{law} has no {', '.join(foreign)}")
    return law


def _bounds(law: str, low: Any, high: Any) -> tuple[Any, Any]:
    if low > high:
        raise ValueError(f"min {low} is above max {high}")
    if law == "int_uniform" and not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError("int_uniform needs whole numbers")
    if law.endswith("log_uniform"):  # W&B's older form has exponents
        low, high = (-high, -low) if law.startswith("inv_") else (low, high)
        return math.exp(low), math.exp(high)
    if "log" in law and low <= 0:
        raise ValueError(f"min {low} of {law} must be above 0")
    return low, high


def _weighted(values: Sequence[Any], weights: Sequence[float]) -> Callable[[float], Any]:
    """Values by cumulative probability."""
    numbers = isinstance(weights, list) and all(isinstance(w, int | float) and w >= 0 for w in weights)
    if not numbers or len(weights) != len(values) or abs(sum(weights) - 1) > 1e-6:
        raise ValueError("probabilities must be numbers of at least 0, one a value, with the sum 1")
    ends = list(itertools.accumulate(weights))[:-1]
    return lambda quantile: values[bisect.bisect_right(ends, quantile)]


def _rounded(
    given: Mapping[str, Any], law: Callable[[float], float], low: float = -math.inf, high: float = math.inf
) -> Callable[[float], Any]:
    """A value with six digits, which a command line can be read with: of multiples of `q`, and within its bounds."""

    def value(drawn: float) -> Any:
        x = law(drawn)
        if (q := given.get("q")) is not None:
            x = round(x / q) * q
        return min(max(x if isinstance(x, int) else float(f"{x:.6g}"), low), high)

    return value
