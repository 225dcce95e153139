r"""Formulas over stacked predictions: uncertainty, intervals, OOD rule, point metrics (paper eq. 18-23, 26).

A prediction is a tensor ``(samples, batch, classes)``: $T$ stochastic passes of one network, $M$ networks, or
the leaves of an exact enumeration of the masks. Leaves carry ``weights`` that sum to one; ``None`` is $1/T$
each. Weights are an exact distribution, not $T$ draws, so what needs a number of draws either asks for it
(:func:`normal_interval`) or is not defined with them (the unbiased variance). Entropies are in nats.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lit_scaledrop.shapes import Bool, Float, Int

Stacked = Float[Tensor, "samples batch classes"]  # probabilities, or logits where a docstring says so
Weights = Float[Tensor, " samples"] | None
Mean = Float[Tensor, "batch classes"]
Target = Int[Tensor, " batch"]
PerExample = Float[Tensor, " batch"]
Interpolation = Literal["linear", "lower", "higher", "nearest", "midpoint"]


def wide_dtype(device: torch.device) -> torch.dtype:
    """Float type for sums over many examples or leaves: float64, or float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _average(values: Tensor, weights: Weights) -> Tensor:
    if weights is None:
        return values.mean(dim=0)
    # Not an einsum: that is a matrix product, which a GPU may round to TF32.
    return (weights.to(values).view(-1, *[1] * (values.ndim - 1)) * values).sum(dim=0)


def predictive_mean(values: Stacked, weights: Weights = None) -> Mean:
    r"""Mean over the samples, $\bar y = \sum_t w_t\, y_t$ (eq. 18).

    >>> predictive_mean(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]))
    tensor([[0.7000, 0.3000]])
    """
    return _average(values, weights)


def predictive_variance(
    values: Stacked,
    weights: Weights = None,
    unbiased: bool = False,
) -> Mean:
    r"""Variance over the samples, $\sum_t w_t\, (y_t - \bar y)^2$ (eq. 19).

    Args:
        values: Probabilities or logits.
        weights: Sample weights that sum to one; ``None`` is uniform.
        unbiased: Divide by $T - 1$ instead of $T$. One sample has no spread: its variance is 0 either way.

    Raises:
        ValueError: ``unbiased`` with ``weights``: a known distribution needs no correction.

    >>> predictive_variance(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]))
    tensor([[0.0400, 0.0400]])
    """
    if unbiased and weights is not None:
        raise ValueError("weights are an exact distribution, which needs no unbiased variance; leave it off")
    variance = _average((values - _average(values, weights)).square(), weights)
    samples = values.shape[0]
    return variance * (samples / (samples - 1)) if unbiased and samples > 1 else variance


def log_predictive_mean(logits: Stacked, weights: Weights = None) -> Mean:
    r"""$\log \sum_t w_t\, \mathrm{softmax}(z_t)$ in the log domain, where no probability rounds to zero.

    >>> log_predictive_mean(torch.tensor([[[200.0, 0.0]], [[400.0, 0.0]]]))
    tensor([[   0.0000, -200.6931]])
    """
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    if weights is None:
        return log_probs.logsumexp(dim=0) - math.log(logits.shape[0])
    return (log_probs + weights.to(log_probs).log()[:, None, None]).logsumexp(dim=0)


def predictive_entropy(probs: Stacked, weights: Weights = None) -> PerExample:
    r"""Entropy of the mean, $-\sum_c \bar p_c \log \bar p_c$: the total uncertainty, from 0 to $\log C$ nats.

    >>> predictive_entropy(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    tensor([0.6931])
    """
    return torch.special.entr(_average(probs, weights)).sum(dim=-1)


def expected_entropy(probs: Stacked, weights: Weights = None) -> PerExample:
    r"""Mean of the entropies, $-\sum_t w_t \sum_c p_{tc} \log p_{tc}$: the noise in the data, in nats.

    >>> expected_entropy(torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]]))
    tensor([0.3466])
    """
    return _average(torch.special.entr(probs).sum(dim=-1), weights)


def mutual_information(probs: Stacked, weights: Weights = None) -> PerExample:
    """Predictive minus expected entropy: how far the samples disagree, in nats, clamped at 0.

    >>> mutual_information(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    tensor([0.6931])
    """
    return (predictive_entropy(probs, weights) - expected_entropy(probs, weights)).clamp_min(0)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is the share that the interval covers, between 0 and 1; got {level}")


def normal_interval(
    values: Stacked,
    level: float = 0.95,
    weights: Weights = None,
    draws: int | None = None,
) -> tuple[Mean, Mean]:
    r"""Normal approximation of the mean's interval, $\bar y \pm z\, s / \sqrt T$; not clipped to $[0, 1]$.

    Args:
        values: Probabilities or logits. One sample gives an interval of width zero.
        level: Share of the normal distribution inside, so $z = \Phi^{-1}((1 + level) / 2)$.
        weights: Sample weights that sum to one. Then $s$ is the standard deviation of that distribution;
            without them it is the estimate with $T - 1$.
        draws: The $T$ under the root. Default: the number of samples. Needed with weights, whose exact mean
            has no Monte-Carlo error of its own.

    >>> low, high = normal_interval(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]), level=0.5)
    >>> low, high
    (tensor([[0.5651, 0.1651]]), tensor([[0.8349, 0.4349]]))
    """
    _check_level(level)
    if weights is not None and draws is None:
        raise ValueError(
            "weighted samples are an exact distribution, whose mean has no Monte-Carlo error: pass draws=T "
            "for the interval of a mean over T passes, or take the quantile interval"
        )
    count = values.shape[0] if draws is None else draws
    if count < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    z = torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)).item()
    mean = predictive_mean(values, weights)
    half = z * (predictive_variance(values, weights, unbiased=weights is None) / count).sqrt()
    return mean - half, mean + half


def _upper_share(interpolation: str, position: float) -> float:
    low = math.floor(position)
    shares = {"linear": position - low, "lower": 0.0, "higher": 1.0, "midpoint": 0.5}
    shares["nearest"] = float(round(position) - low)  # halves go to the even rank, as in numpy
    if interpolation not in shares:
        raise ValueError(f"unknown interpolation {interpolation!r}; choose one of {sorted(shares)}")
    return shares[interpolation]


def _near_whole(number: float, tolerance: float) -> float:
    return float(round(number)) if abs(number - round(number)) < tolerance else number


def sample_quantile(
    values: Stacked,
    q: float,
    weights: Weights = None,
    interpolation: Interpolation = "linear",
) -> Mean:
    r"""Empirical quantile over the samples, each class by itself.

    The quantile sits at rank $q(n - 1)$ of the order statistics $x_0 \le \dots \le x_{n-1}$, with $n = T$;
    ``interpolation`` says what happens between two ranks, in numpy's names. Weights are multiplicities of the
    rarest sample, $n = 1 / \min_{w > 0} w$, and $x_k$ is the inverse of the weighted distribution
    function at $(k + 1/2) / n$. So equal weights give the unweighted quantile, and a large enumeration the
    plain inverse of its distribution function.

    >>> passes = torch.tensor([0.0, 1.0, 2.0, 10.0]).view(4, 1, 1)
    >>> sample_quantile(passes, 0.5), sample_quantile(passes, 0.5, interpolation="lower")
    (tensor([[1.5000]]), tensor([[1.]]))
    >>> sample_quantile(passes, 0.5, weights=torch.tensor([0.1, 0.1, 0.1, 0.7]))
    tensor([[10.]])
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies between 0 and 1; got {q}")
    ordered, order = values.sort(dim=0)
    if weights is None:
        count = float(values.shape[0])
    else:
        count = 1 / weights[weights > 0].min().item()
        count = _near_whole(count, 1e-6 * count)
    position = _near_whole(q * (count - 1), 1e-9)
    low, high = math.floor(position), math.ceil(position)
    share = _upper_share(interpolation, position)
    if weights is None:
        return torch.lerp(ordered[low], ordered[high], share)
    cumulative = weights.to(values.device, wide_dtype(values.device))[order].cumsum(dim=0)
    cumulative = cumulative / cumulative[-1]

    def ranked(rank: int) -> Tensor:
        level = min(rank + 0.5, count - 0.5) / count
        return ordered.gather(0, (cumulative <= level).sum(dim=0, keepdim=True))[0]

    return torch.lerp(ranked(low), ranked(high), share)


def quantile_interval(
    values: Stacked,
    level: float = 0.95,
    weights: Weights = None,
    interpolation: Interpolation = "linear",
) -> tuple[Mean, Mean]:
    """Central interval with ``level`` of the samples: their quantiles (1 - level) / 2 and (1 + level) / 2.

    >>> quantile_interval(torch.arange(11.0).view(11, 1, 1), level=0.8)
    (tensor([[1.]]), tensor([[9.]]))
    """
    _check_level(level)
    low = sample_quantile(values, (1 - level) / 2, weights, interpolation)
    return low, sample_quantile(values, (1 + level) / 2, weights, interpolation)


def quantile_confidence(
    probs: Stacked,
    quantile: float = 0.1,
    weights: Weights = None,
    interpolation: Interpolation = "linear",
) -> PerExample:
    r"""$\max_c Q_q(p_{1c}, \dots, p_{Tc})$, the largest class-wise quantile over the samples (eq. 26).

    >>> quantile_confidence(torch.tensor([[[0.99, 0.01]], [[0.89, 0.11]]]))
    tensor([0.9000])
    """
    return sample_quantile(probs, quantile, weights, interpolation).amax(dim=-1)


def is_ood(
    probs: Stacked,
    quantile: float = 0.1,
    threshold: float = 0.95,
    weights: Weights = None,
    interpolation: Interpolation = "linear",
) -> Bool[Tensor, " batch"]:
    """Out-of-distribution rule (eq. 26): True where :func:`quantile_confidence` is below the threshold.

    The paper does not name the interpolation; linear is numpy's default.

    >>> is_ood(torch.tensor([[[0.99, 0.01], [0.99, 0.01]], [[0.89, 0.11], [0.98, 0.02]]]))
    tensor([ True, False])
    """
    return quantile_confidence(probs, quantile, weights, interpolation) < threshold


def negative_log_likelihood(log_mean: Mean, target: Target) -> PerExample:
    r"""$-\log \bar p_y$ per example, in nats, from *log* probabilities (see :func:`log_predictive_mean`).

    >>> negative_log_likelihood(torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log(), torch.tensor([0, 1]))
    tensor([0.6931, 0.1054])
    """
    return -log_mean.gather(1, target.long()[:, None])[:, 0]


def brier_score(mean: Mean, target: Target) -> PerExample:
    r"""$\sum_c (\bar p_c - [c = y])^2$ per example: the sum over classes, from 0 to 2, as Brier defined it.

    >>> brier_score(torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([0]))
    tensor([0.1400])
    """
    return (mean - one_hot(target.long(), mean.shape[-1])).square().sum(dim=-1)


def accuracy(mean: Mean, target: Target) -> PerExample:
    """1 where the most probable class (the first of equals) is the target, else 0.

    >>> accuracy(torch.tensor([[0.7, 0.3], [0.6, 0.4]]), torch.tensor([0, 1]))
    tensor([1., 0.])
    """
    return (mean.argmax(dim=-1) == target).to(mean.dtype)
