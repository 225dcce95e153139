"""Formulas against numpy, scipy, scikit-learn, torchmetrics and hand-written loops; laws by hypothesis."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from lit_scaledrop import functional as F
from lit_scaledrop.functional import uncertainty

METHODS = ("linear", "lower", "higher", "nearest", "midpoint")


def random_probs(seed, samples, batch, classes, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(samples, batch, classes, generator=generator, dtype=dtype)).softmax(-1)


def random_target(seed, batch, classes):
    return torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))


@st.composite
def predictions(draw):
    samples, batch, classes = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    return random_probs(draw(st.integers(0, 10**6)), samples, batch, classes, draw(st.sampled_from([0.1, 2.0, 60.0])))


@st.composite
def weighted_predictions(draw):
    probs = draw(predictions())
    counts = draw(st.lists(st.integers(0, 5), min_size=len(probs), max_size=len(probs)))
    counts[draw(st.integers(0, len(counts) - 1))] = 1  # the rarest sample counts once
    return probs, torch.tensor(counts)


def test_moments_agree_with_numpy():
    probs = random_probs(0, 7, 5, 4)
    weights = torch.rand(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights /= weights.sum()
    array = probs.numpy()
    np.testing.assert_allclose(F.predictive_mean(probs), array.mean(0))
    np.testing.assert_allclose(F.predictive_variance(probs), array.var(0))
    np.testing.assert_allclose(F.predictive_variance(probs, unbiased=True), array.var(0, ddof=1))
    mean = np.average(array, axis=0, weights=weights)
    np.testing.assert_allclose(F.predictive_mean(probs, weights), mean)
    expected = np.average((array - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(F.predictive_variance(probs, weights), expected)


def test_entropies_agree_with_scipy():
    probs = random_probs(0, 7, 5, 4)
    array = probs.numpy()
    total, within = scipy.stats.entropy(array.mean(0), axis=-1), scipy.stats.entropy(array, axis=-1).mean(0)
    np.testing.assert_allclose(F.predictive_entropy(probs), total)
    np.testing.assert_allclose(F.expected_entropy(probs), within)
    # Mutual information is also the mean divergence of the samples from their mean.
    divergence = scipy.stats.entropy(array, array.mean(0, keepdims=True), axis=-1).mean(0)
    np.testing.assert_allclose(F.mutual_information(probs), divergence, atol=1e-12)


def test_certain_predictions_have_entropy_zero_and_no_nan():
    probs = torch.eye(3).expand(4, 3, 3)
    assert F.predictive_entropy(probs).tolist() == [0, 0, 0]
    assert F.mutual_information(probs).tolist() == [0, 0, 0]


def test_log_mean_survives_where_probabilities_underflow():
    logits = torch.tensor([[[300.0, 0.0]], [[300.0, 0.0]], [[500.0, 0.0]]])
    assert logits.softmax(-1).mean(0)[0, 1] == 0
    assert F.log_predictive_mean(logits)[0, 1].item() == pytest.approx(math.log(2 / 3) - 300)
    weights = torch.tensor([0.0, 0.25, 0.75])
    assert F.log_predictive_mean(logits, weights)[0, 1].item() == pytest.approx(math.log(0.25) - 300)


@pytest.mark.parametrize("interpolation", METHODS)
@pytest.mark.parametrize("samples", [1, 2, 5, 10, 20, 50])
@pytest.mark.parametrize("q", [0.0, 0.025, 0.1, 0.3, 0.5, 0.77, 0.95, 1.0])
def test_quantile_agrees_with_numpy(samples, q, interpolation):
    values = random_probs(samples, samples, 3, 4)
    expected = np.quantile(values.numpy(), q, axis=0, method=interpolation)
    np.testing.assert_allclose(F.sample_quantile(values, q, None, interpolation), expected, rtol=1e-12)
    for dtype in (torch.float32, torch.float64):  # equal weights are no weights
        weights = torch.full((samples,), 1 / samples, dtype=dtype)
        np.testing.assert_allclose(F.sample_quantile(values, q, weights, interpolation), expected, rtol=1e-12)


def test_quantile_at_a_rank_ignores_rounding_of_q():
    q = (1 - 0.95) / 2  # 0.025000000000000022: 40 q is one step above rank 1
    assert q * 40 > 1
    assert F.sample_quantile(torch.arange(41.0).view(41, 1, 1), q, interpolation="higher").item() == 1


def test_weighted_quantile_of_an_enumeration_is_the_inverse_distribution_function():
    keep = torch.tensor(0.9, dtype=torch.float64)
    bits = torch.cartesian_prod(*[torch.tensor([0, 1])] * 8)  # 2^8 masks of 8 layers
    weights = (keep**bits * (1 - keep) ** (1 - bits)).prod(1)
    values = torch.rand(256, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for q in (0.05, 0.1, 0.5, 0.9):
        for row, column in np.ndindex(2, 3):
            order = values[:, row, column].argsort()
            first = int((weights[order].cumsum(0) < q).sum())
            expected = values[order[first], row, column]
            assert F.sample_quantile(values, q, weights)[row, column] == expected


def test_quantile_interval_and_ood_rule_follow_numpy():
    probs = random_probs(3, 20, 200, 5, scale=6.0)
    low, high = F.quantile_interval(probs, 0.8, interpolation="midpoint")
    np.testing.assert_allclose(low, np.quantile(probs.numpy(), 0.1, axis=0, method="midpoint"))
    np.testing.assert_allclose(high, np.quantile(probs.numpy(), 0.9, axis=0, method="midpoint"))
    score = np.percentile(probs.numpy(), 10, axis=0).max(-1)
    np.testing.assert_allclose(F.quantile_confidence(probs), score)
    threshold = float(np.quantile(score, 0.3))
    flagged = F.is_ood(probs, threshold=threshold)
    assert flagged.tolist() == (score < threshold).tolist()
    assert flagged.sum() == 60
    assert not F.is_ood(torch.ones(3, 1, 1), threshold=1.0)  # at the threshold is not below it


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_normal_interval_agrees_with_scipy(level):
    probs = random_probs(0, 20, 3, 4)
    array = probs.numpy()
    expected = scipy.stats.norm.interval(level, loc=array.mean(0), scale=array.std(0, ddof=1) / math.sqrt(20))
    for ours, theirs in zip(F.normal_interval(probs, level), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_normal_interval_of_an_exact_distribution_needs_draws():
    probs, weights = random_probs(0, 3, 1, 2), torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    with pytest.raises(ValueError, match="draws=T"):
        F.normal_interval(probs, weights=weights)
    low, high = F.normal_interval(probs, weights=weights, draws=16)
    sd = F.predictive_variance(probs, weights).sqrt()
    torch.testing.assert_close(high - low, 2 * scipy.stats.norm.ppf(0.975) * sd / 4)


def test_one_sample_works_everywhere():
    probs = random_probs(0, 1, 4, 3)
    mean = F.predictive_mean(probs)
    torch.testing.assert_close(mean, probs[0], rtol=0, atol=0)
    for unbiased in (False, True):
        assert not F.predictive_variance(probs, unbiased=unbiased).any()
    for interval in (F.normal_interval(probs), F.quantile_interval(probs)):
        for bound in interval:
            torch.testing.assert_close(bound, mean, rtol=0, atol=0)
    assert not F.mutual_information(probs).any()
    torch.testing.assert_close(F.quantile_confidence(probs), probs[0].amax(-1))


def test_point_metrics_agree_with_sklearn_and_numpy():
    mean, target = random_probs(0, 1, 300, 5)[0], random_target(1, 300, 5)
    nll = F.negative_log_likelihood(mean.log(), target).mean().item()
    assert nll == pytest.approx(log_loss(target.numpy(), mean.numpy(), labels=range(5)))
    brier = ((mean.numpy() - np.eye(5)[target.numpy()]) ** 2).sum(1)
    np.testing.assert_allclose(F.brier_score(mean, target), brier)
    np.testing.assert_array_equal(F.accuracy(mean, target), mean.numpy().argmax(1) == target.numpy())
    worst = torch.tensor([[1.0, 0.0]])
    assert F.brier_score(worst, torch.tensor([1], dtype=torch.int32)).item() == 2


@given(predictions())
def test_entropy_bounds(probs):
    most = math.log(probs.shape[-1])
    total, within, mutual = (
        F.predictive_entropy(probs),
        F.expected_entropy(probs),
        F.mutual_information(probs),
    )
    assert (total <= most + 1e-12).all()
    assert (within >= 0).all()
    assert (mutual >= 0).all()
    assert (mutual <= most + 1e-12).all()
    # Clamping may hide rounding but nothing larger.
    torch.testing.assert_close(total - within, mutual, rtol=0, atol=1e-12)


@given(weighted_predictions(), st.floats(0, 1), st.sampled_from(METHODS))
def test_multiplicities_equal_repeated_samples(case, q, interpolation):
    probs, counts = case
    weights, repeated = counts.double() / counts.sum(), probs.repeat_interleave(counts, dim=0)
    close = torch.testing.assert_close
    for function in (
        F.predictive_mean,
        F.predictive_variance,
        F.predictive_entropy,
        F.expected_entropy,
        F.mutual_information,
    ):
        close(function(probs, weights), function(repeated))
    close(F.log_predictive_mean(probs.log(), weights), F.log_predictive_mean(repeated.log()))
    close(F.quantile_confidence(probs, q, weights), F.quantile_confidence(repeated, q))
    for stored in (weights, weights.float()):
        weighted = F.sample_quantile(probs, q, stored, interpolation)
        close(weighted, F.sample_quantile(repeated, q, None, interpolation))


@given(weighted_predictions(), st.randoms(use_true_random=False))
def test_order_of_samples_does_not_matter(case, random):
    probs, counts = case
    weights = counts / counts.sum()
    order = list(range(len(probs)))
    random.shuffle(order)
    for function in (F.predictive_mean, F.predictive_variance, F.mutual_information):
        torch.testing.assert_close(function(probs[order], weights[order]), function(probs, weights))
        torch.testing.assert_close(function(probs[order]), function(probs))
    torch.testing.assert_close(
        F.sample_quantile(probs[order], 0.1, weights[order]), F.sample_quantile(probs, 0.1, weights)
    )


def test_bad_arguments_are_named():
    probs = random_probs(0, 3, 1, 2)
    for function in (F.normal_interval, F.quantile_interval):
        with pytest.raises(ValueError, match=r"level is the share.*got 95"):
            function(probs, 95.0)
    with pytest.raises(ValueError, match="between 0 and 1; got 10"):
        F.sample_quantile(probs, 10.0)
    with pytest.raises(ValueError, match="unbiased"):
        F.predictive_variance(probs, torch.full((3,), 1 / 3), unbiased=True)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        F.normal_interval(probs, draws=0)
    with pytest.raises(ValueError, match=r"unknown interpolation 'cubic'.*'linear'"):
        uncertainty._upper_share("cubic", 1.5)  # behind the type, which the checked tests would refuse first
