r"""Out-of-distribution detection: scores of a prediction, and how well a score separates two sets of inputs.

Scores are higher for inputs that look more out of distribution (OOD), and OOD is the positive class everywhere. All
measures are exact functions of the ranks: inputs with equal scores are taken together, since no threshold can part
them, so the order of the inputs never matters. Infinite scores are ranks like others; NaN is refused.
"""

import math

import torch
from torch import Tensor

from lit_scaledrop.functional.uncertainty import (
    PerExample,
    Stacked,
    Weights,
    predictive_mean,
    predictive_variance,
    wide_dtype,
)
from lit_scaledrop.shapes import Float

InScores = Float[Tensor, " inside"]
OutScores = Float[Tensor, " outside"]


def logit_variance(logits: Stacked, weights: Weights = None) -> PerExample:
    r"""Variance of the logits over the samples, $\sum_c \sum_t w_t (z_{tc} - \bar z_c)^2$.

    After Raina (2025, arXiv 2502.15648), who finds that the disagreement of logits tells more than mutual information.
    A softmax forgets what all logits of a sample have in common; this variance does not.

    >>> logit_variance(torch.tensor([[[3.0, 0.0]], [[1.0, 0.0]]]))
    tensor([1.])
    """
    return predictive_variance(logits, weights).sum(dim=-1)


def disagreement(logits: Stacked, weights: Weights = None) -> PerExample:
    r"""Share of the samples that do not predict the class which most predict, $1 - \max_c \sum_t w_t [c_t = c]$.

    The variation ratio (Freeman 1965; for dropout: Gal 2016, section 3.3.1), from 0 to $1 - 1/C$. The class of a sample
    is its largest logit, the first of equals.

    >>> disagreement(torch.tensor([[[3.0, 0.0]], [[1.0, 0.0]], [[0.0, 9.0]]]))
    tensor([0.3333])
    """
    votes = torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    return 1 - predictive_mean(votes, weights).amax(dim=-1)


def energy_score(logits: Stacked, weights: Weights = None) -> PerExample:
    r"""Free energy of the mean logits at temperature 1, $-\log \sum_c \exp \bar z_c$ with $\bar z = \sum_t w_t z_t$.

    Liu et al. 2020 (arXiv 2010.03759), for one deterministic network. Of T samples we take the mean of the logits
    first, as a network would that averages in front of its softmax; of one sample it is theirs.

    >>> energy_score(torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]))
    tensor([-1.3133])
    """
    return -predictive_mean(logits, weights).logsumexp(dim=-1)


def max_logit_score(logits: Stacked, weights: Weights = None) -> PerExample:
    r"""The largest mean logit, negative: $-\max_c \bar z_c$ (MaxLogit, Hendrycks et al. 2022, arXiv 1911.11132).

    >>> max_logit_score(torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]))
    tensor([-1.])
    """
    return -predictive_mean(logits, weights).amax(dim=-1)


def auroc(inside: InScores, outside: OutScores) -> Float[Tensor, ""]:
    r"""Area under the ROC curve, $P(s_{out} > s_{in}) + P(s_{out} = s_{in}) / 2$ (Mann and Whitney's U).

    Args:
        inside: Scores of in-distribution inputs.
        outside: Scores of OOD inputs, in the same float type.

    Raises:
        ValueError: One of the sets is empty, or a score is NaN.

    >>> auroc(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.4]))
    tensor(0.9167, dtype=torch.float64)
    """
    _check(inside, outside)
    ordered = inside.sort().values
    # integers as long as can be: the sum of twice the wins is exact
    twice = torch.searchsorted(ordered, outside) + torch.searchsorted(ordered, outside, right=True)
    return twice.sum().to(wide_dtype(inside.device)) / (2 * len(inside) * len(outside))


def roc(inside: InScores, outside: OutScores) -> tuple[Float[Tensor, " thresholds"], Float[Tensor, " thresholds"]]:
    """ROC curve: shares of inside and of outside inputs that score each threshold or more, from none to all of them.

    Raises:
        ValueError: One of the sets is empty, or a score is NaN.

    >>> roc(torch.tensor([0.0, 0.5]), torch.tensor([0.5, 1.0]))[1]
    tensor([0.0000, 0.5000, 1.0000, 1.0000], dtype=torch.float64)
    """
    _check(inside, outside)
    thresholds = torch.cat([inside, outside]).unique().flip(0)
    none = torch.zeros(1, dtype=wide_dtype(inside.device), device=inside.device)
    false, hits = (
        torch.cat([none, _at_least(scores, thresholds) / none.new_tensor(len(scores))]) for scores in (inside, outside)
    )
    return false, hits


def aupr(inside: InScores, outside: OutScores) -> Float[Tensor, ""]:
    r"""Average precision of detecting OOD, $\frac{1}{n_{out}} \sum_i \mathrm{precision}(s_i)$ over OOD scores $s_i$.

    The precision at $s$ counts all inputs whose score is $s$ or more. A score that tells nothing gives the share of OOD
    inputs, so the value depends on the sizes of the two sets; compare it only for equal sizes.

    Raises:
        ValueError: One of the sets is empty, or a score is NaN.

    >>> aupr(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.4]))
    tensor(0.8333, dtype=torch.float64)
    """
    _check(inside, outside)
    hits, false = _at_least(outside, outside), _at_least(inside, outside)
    return (hits.to(wide_dtype(inside.device)) / (hits + false)).mean()


def fpr_at_tpr(inside: InScores, outside: OutScores, tpr: float = 0.95) -> Float[Tensor, ""]:
    """Share of in-distribution inputs flagged where at least ``tpr`` of the OOD inputs are (FPR95 by default).

    Flagged is what scores at least $t$; $t$ is the largest score of an OOD input that reaches the rate. Nothing is
    interpolated between thresholds.

    Args:
        inside: Scores of in-distribution inputs.
        outside: Scores of OOD inputs, in the same float type.
        tpr: Share of OOD inputs to be detected, above 0 and up to 1.

    Raises:
        ValueError: One of the sets is empty, a score is NaN, or ``tpr`` is no such share.

    >>> fpr_at_tpr(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.2, 0.4]))
    tensor(0.6667, dtype=torch.float64)
    """
    _check(inside, outside)
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr is the share of OOD inputs to detect, above 0 and up to 1; got {tpr}")
    needed = math.ceil(tpr * len(outside) - 1e-9 * len(outside))  # 0.95 * 140 is one step above 133
    threshold = outside.sort(descending=True).values[needed - 1]
    return (inside >= threshold).to(wide_dtype(inside.device)).mean()


def _at_least(scores: Tensor, thresholds: Tensor) -> Tensor:
    """How many scores reach each threshold."""
    return len(scores) - torch.searchsorted(scores.sort().values, thresholds)


def _check(inside: Tensor, outside: Tensor) -> None:
    for scores, name in ((inside, "in-distribution"), (outside, "out-of-distribution")):
        if not len(scores):
            raise ValueError(f"there are no {name} inputs: detection is measured between two sets, neither empty")
        if scores.isnan().any():
            raise ValueError(f"{int(scores.isnan().sum())} scores of {name} inputs are NaN and have no rank")
