"""Early termination: which trainings of a search are stopped, and by what they are compared."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lit_scaledrop.sweep.file import SweepError

_LEAST = {"min_iter": 1, "max_iter": 1, "s": 1, "eta": 2}


def build_pruner(rule: Any) -> Any:
    """W&B's Hyperband has one bracket and is optuna's successive halving; without a rule nothing is pruned.

    Args:
        rule: `early_terminate` of a sweep file, or None.

    Raises:
        SweepError: it is no Hyperband.
    """
    from optuna.pruners import NopPruner, SuccessiveHalvingPruner

    if rule is None:
        return NopPruner()
    if not isinstance(rule, dict) or rule.get("type") != "hyperband":
        raise SweepError("early_terminate: the only type is hyperband")
    if foreign := sorted(set(rule) - {"type", "strict", *_LEAST}):
        raise SweepError(f"early_terminate: hyperband has no {', '.join(foreign)}")
    if not ("min_iter" in rule or {"max_iter", "s"} <= set(rule)):
        raise SweepError("early_terminate: hyperband needs min_iter, or max_iter and s")
    for name in set(_LEAST) & set(rule):
        if not isinstance(rule[name], int) or rule[name] < _LEAST[name]:
            raise SweepError(f"early_terminate: {name} must be a whole number of at least {_LEAST[name]}")
    eta = rule.get("eta", 3)
    first = rule["min_iter"] if "min_iter" in rule else max(1, rule["max_iter"] // eta ** rule["s"])
    return SuccessiveHalvingPruner(first, eta, min_early_stopping_rate=0)


def scores(rule: Mapping[str, Any] | None, history: Sequence[float], goal: Callable[..., float]) -> list[float]:
    """What is compared after each epoch: the best so far, or with `strict` the metric itself.

    >>> scores(None, [0.3, 0.2, 0.4], max), scores({"strict": True}, [0.3, 0.2], max)
    ([0.3, 0.3, 0.4], [0.3, 0.2])
    """
    return list(history) if rule and rule.get("strict") else list(itertools.accumulate(history, goal))
