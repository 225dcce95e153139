"""Hyperband's early termination as W&B's server applies it: who is not among the best 1/eta at a band is stopped.

The rule is that of `sweeps` 0.3.0 (where `strict` is off unless asked for, as W&B's documentation says); 0.2.0, the
release that goes with NumPy 2, counts an epoch too many.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any


def bands(early_terminate: Mapping[str, Any], epochs: int) -> list[int]:
    """The epochs at which trainings are compared, of the first `epochs`.

    >>> bands({"type": "hyperband", "min_iter": 2, "eta": 3}, 60), bands({"max_iter": 27, "s": 2, "eta": 3}, 60)
    ([2, 6, 18, 54], [3, 9])
    """
    eta = early_terminate.get("eta", 3)

    if "min_iter" in early_terminate:
        all_of_them = (int(early_terminate["min_iter"] * eta**k) for k in itertools.count())
        return list(itertools.takewhile(lambda band: band <= epochs, all_of_them))
    counts = (int(early_terminate["max_iter"] / eta**k) for k in range(1, early_terminate["s"] + 1))
    return sorted(band for band in counts if 1 <= band <= epochs)


def verdict(config: Mapping[str, Any], others: Sequence[Sequence[float]], history: Sequence[float]) -> str:
    """Why a training with this history is stopped now; empty if it goes on.

    Args:
        config: sweep file with `metric` and `early_terminate`; `strict` compares the value at the band, otherwise the
            best so far.
        others: histories of the trainings to compare with.
        history: metric after each epoch so far, with at least one.
    """
    rule, metric = config["early_terminate"], config["metric"]
    reached = bands(rule, len(history))
    if not reached:
        return ""
    sign = -1 if metric.get("goal", "minimize") == "maximize" else 1
    band = reached[-1]
    values = sorted(sign * known[band - 1] for known in (*others, history) if len(known) >= band)
    threshold = values[int(len(values) / rule.get("eta", 3))]
    value = sign * history[band - 1] if rule.get("strict") else min(sign * known for known in history)
    if value <= threshold:
        return ""
    return f"hyperband, {metric['name']} {sign * value:.4f} after epoch {band}, {sign * threshold:.4f} was needed"
