r"""Calibration of the most probable class: equal-width bins, and equal-mass (adaptive) bins.

Temperature scaling improves it with one number from a validation split.

Bins of equal width are sums that add up over batches; bins of equal mass need all examples at once.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lit_scaledrop.functional.uncertainty import (
    Mean,
    PerExample,
    Stacked,
    Target,
    Weights,
    accuracy,
    log_predictive_mean,
    negative_log_likelihood,
    wide_dtype,
)
from lit_scaledrop.shapes import Bool, Float


def calibration_bins(mean: Mean, target: Target, num_bins: int = 15) -> Float[Tensor, "bins 3"]:
    r"""Sums per confidence bin $((m - 1)/M, m/M]$: examples, their confidences, their correct predictions.

    Sums add up over batches and processes, so a whole data set needs no stored predictions.

    >>> calibration_bins(torch.tensor([[0.8, 0.2], [0.4, 0.6]]), torch.tensor([0, 0]), num_bins=2)
    tensor([[0.0000, 0.0000, 0.0000],
            [2.0000, 1.4000, 1.0000]], dtype=torch.float64)
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    confidence = mean.amax(dim=-1)
    inner = torch.linspace(0, 1, num_bins + 1, dtype=mean.dtype, device=mean.device)[1:-1]
    wide = wide_dtype(mean.device)
    columns = torch.stack([torch.ones_like(confidence), confidence, accuracy(mean, target)], dim=1).to(wide)
    bins = torch.zeros(num_bins, 3, dtype=wide, device=mean.device)
    return bins.index_add(0, torch.bucketize(confidence, inner), columns)


def calibration_error(bins: Float[Tensor, "bins 3"]) -> Float[Tensor, ""]:
    r"""Calibration error of :func:`calibration_bins`, $\sum_m \frac{n_m}{n} |acc_m - conf_m|$; NaN if empty.

    >>> calibration_error(torch.tensor([[0.0, 0.0, 0.0], [2.0, 1.4, 1.0]]))
    tensor(0.2000)
    """
    return (bins[:, 1] - bins[:, 2]).abs().sum() / bins[:, 0].sum()


def expected_calibration_error(mean: Mean, target: Target, num_bins: int = 15) -> Float[Tensor, ""]:
    """Top-label calibration error (L1), equal-width right-closed bins (Guo et al. 2017, arXiv 1706.04599).

    torchmetrics closes its bins on the left and gives confidence 1 a bin of its own; the two differ only for
    confidences that lie exactly on an edge.

    >>> expected_calibration_error(torch.tensor([[0.8, 0.2], [0.4, 0.6]]), torch.tensor([0, 0]))
    tensor(0.4000, dtype=torch.float64)
    """
    return calibration_error(calibration_bins(mean, target, num_bins))


def adaptive_calibration_bins(
    confidence: PerExample, correct: Bool[Tensor, " batch"], num_bins: int = 15
) -> Float[Tensor, "bins 3"]:
    r"""The sums of :func:`calibration_bins` in bins of equally many examples, ordered by confidence.

    The example of rank $i$ of $n$ goes to bin $\lfloor i M / n \rfloor$. Examples of equal confidence are never
    split: all go to the bin of their middle rank, so the result does not depend on the order of examples.

    >>> confidence = torch.tensor([0.6, 0.9, 0.6, 0.8])
    >>> adaptive_calibration_bins(confidence, torch.tensor([True, True, False, True]), num_bins=2)
    tensor([[2.0000, 1.2000, 1.0000],
            [2.0000, 1.7000, 2.0000]], dtype=torch.float64)
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    wide = wide_dtype(confidence.device)
    _, group, size = confidence.unique(return_inverse=True, return_counts=True)
    twice_middle = 2 * size.cumsum(0) - size - 1  # first plus last rank of each group of equals
    place = twice_middle * num_bins // (2 * max(1, len(confidence)))
    columns = torch.stack([torch.ones_like(confidence), confidence, correct.to(confidence.dtype)], dim=1).to(wide)
    return torch.zeros(num_bins, 3, dtype=wide, device=confidence.device).index_add(0, place[group], columns)


def adaptive_calibration_error(
    confidence: PerExample, correct: Bool[Tensor, " batch"], num_bins: int = 15
) -> Float[Tensor, ""]:
    """Top-label calibration error (L1) in equal-mass bins (Nguyen & O'Connor 2015, arXiv 1508.05154).

    >>> adaptive_calibration_error(torch.tensor([0.6, 0.9, 0.6, 0.8]), torch.tensor([True, True, False, True]), 2)
    tensor(0.1250, dtype=torch.float64)
    """
    return calibration_error(adaptive_calibration_bins(confidence, correct, num_bins))


TEMPERATURES = (0.05, 20.0)
"""Between these a temperature is looked for."""
_GRID, _HALVINGS, _NUMBERS = 25, 40, 1 << 22


def fitted_temperature(logits: Stacked, target: Target, weights: Weights = None) -> float:
    r"""Temperature $\tau$ of least negative log-likelihood: temperature scaling (Guo et al. 2017, arXiv 1706.04599).

    Of T samples, the logits of *each* are divided by $\tau$ and the probabilities averaged behind that,
    $\bar p = \sum_t w_t\, \mathrm{softmax}(z_t / \tau)$: the network is tempered, and its passes still disagree. So a
    high temperature lowers mutual information too, and unlike one sample's, the class of $\bar p$ may change.

    One number is looked for on a logarithmic scale, on a grid and then by golden section around its best point: with
    several samples the likelihood may have more than one minimum. Inputs that are all classified correctly want no
    uncertainty at all and give the lower end of :data:`TEMPERATURES`.

    Args:
        logits: Of validation inputs, never of those that are tested on.
        target: Their classes.
        weights: Of the samples.

    Raises:
        ValueError: No inputs.

    >>> target = torch.tensor([0, 0, 0, 1])  # what is said to be 0.9 is right in 3 of 4 cases
    >>> round(fitted_temperature(torch.tensor([[[9.0, 1.0]] * 4]).log().view(1, 4, 2), target), 3)
    2.0
    """
    if not len(target):
        raise ValueError("a temperature is chosen on validation inputs, and there are none")
    wide = logits.to(wide_dtype(logits.device))
    per = max(1, _NUMBERS // (wide.shape[0] * wide.shape[2]))
    parts = list(zip(wide.split(per, dim=1), target.split(per), strict=True))

    def likelihood(log_temperature: float) -> float:
        factor = math.exp(-log_temperature)
        sums = [
            negative_log_likelihood(log_predictive_mean(part * factor, weights), labels).sum() for part, labels in parts
        ]
        return float(sum(sums))

    low, high = map(math.log, TEMPERATURES)
    step = (high - low) / (_GRID - 1)
    best = min((low + step * place for place in range(_GRID)), key=likelihood)
    return math.exp(_golden_section(likelihood, max(low, best - step), min(high, best + step)))


def _golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one minimum between ``low`` and ``high`` has it."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_HALVINGS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
