r"""Calibration of the most probable class: equal-width bins, and equal-mass (adaptive) bins.

Bins of equal width are sums that add up over batches; bins of equal mass need all examples at once.
"""

import torch
from torch import Tensor

from lit_scaledrop.functional.uncertainty import Mean, PerExample, Target, accuracy, wide_dtype
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
