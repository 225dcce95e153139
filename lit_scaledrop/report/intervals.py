"""Intervals over runs that are repetitions of one another, such as the folds of a cross-validation."""

import math
from collections.abc import Sequence


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    r"""Mean and Student's interval of it, $\bar x \pm t_{n-1} s / \sqrt n$.

    Folds of a cross-validation share training images, so over them it is somewhat narrow; differences on the same
    folds, in place of ``values``, make the paired interval.

    Args:
        values: at least two.
        confidence: share of intervals that hold the mean.

    Raises:
        ValueError: fewer than two values: one says nothing of a spread.

    >>> [round(number, 3) for number in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy.stats import t  # takes a second to load

    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least two values, got {n}")
    mean = sum(values) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return mean, mean - half, mean + half
