"""Detection measures against five other libraries; laws by hypothesis; degenerate sets."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from lit_scaledrop.functional.ood import (
    aupr,
    auroc,
    disagreement,
    energy_score,
    fpr_at_tpr,
    logit_variance,
    max_logit_score,
)
from lit_scaledrop.metrics.ood import SCORES, ood_metrics, ood_scores
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.glossary import METRICS

small_scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def random_scores(seed, inside=40, outside=60, levels=None):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(inside + outside, generator=generator, dtype=torch.float64)
    scores[inside:] += 0.7
    if levels:
        scores = (scores * levels).round() / levels
    return scores[:inside], scores[inside:]


def joined(inside, outside):
    return torch.cat([inside, outside]), torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))]).long()


def prediction(seed, batch, samples=6, scale=2.0, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return Predictive(scale * torch.randn(samples, batch, classes, generator=generator))


def smallest_fpr(inside, outside, tpr):
    """By trying each threshold."""
    thresholds = np.unique(np.concatenate([inside, outside]))
    return min((inside >= t).mean() for t in thresholds if (outside >= t).mean() >= tpr - 1e-12)


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("sizes", [(40, 60), (1, 1), (1, 30), (200, 3)])
def test_measures_agree_with_other_libraries(levels, sizes):
    inside, outside = random_scores(len(sizes) + sizes[0], *sizes, levels)
    scores, labels = joined(inside, outside)
    area, precision = auroc(inside, outside).item(), aupr(inside, outside).item()
    assert area == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert precision == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    statistic = scipy.stats.mannwhitneyu(outside, inside, method="asymptotic").statistic
    assert area == pytest.approx(statistic / (len(inside) * len(outside)), abs=1e-12)
    scaled = scores.sigmoid()  # torchmetrics squashes what is no probability, in float32
    assert area == pytest.approx(binary_auroc(scaled, labels).item(), abs=1e-6)
    assert precision == pytest.approx(binary_average_precision(scaled, labels).item(), abs=1e-6)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    for tpr in (0.5, 0.95, 1.0):
        ours = fpr_at_tpr(inside, outside, tpr).item()
        assert ours == pytest.approx(false[np.argmax(true >= tpr - 1e-12)], abs=1e-12)
        assert ours == pytest.approx(smallest_fpr(inside.numpy(), outside.numpy(), tpr), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.filterwarnings("ignore:Metric `FPR95` will save all targets")
def test_fpr95_agrees_with_torch_uncertainty(levels):
    theirs = pytest.importorskip("torch_uncertainty.metrics.classification")
    inside, outside = random_scores(5, 100, 61, levels)
    metric = theirs.FPR95(pos_label=1)
    metric.update(*joined(inside, outside))
    assert fpr_at_tpr(inside, outside).item() == pytest.approx(metric.compute().item(), abs=1e-6)


@pytest.mark.parametrize("levels", [None, 2])
def test_measures_agree_with_pytorch_ood(levels):
    library = pytest.importorskip("pytorch_ood.metrics")
    inside, outside = random_scores(6, 80, 80, levels)
    scores, labels = joined(inside, outside)
    metrics = library.OODMetrics()
    metrics.update(scores, torch.where(labels == 1, -1, 1))
    theirs = {name: float(value) for name, value in metrics.compute().items()}
    assert auroc(inside, outside).item() == pytest.approx(theirs["AUROC"], abs=1e-6)
    assert fpr_at_tpr(inside, outside).item() == pytest.approx(theirs["FPR95TPR"], abs=1e-6)


def test_a_rate_that_is_a_whole_number_of_inputs_needs_no_more():
    assert math.ceil(0.95 * 140) == 133
    assert math.ceil(0.07 * 100) == 8  # 0.07 * 100 is 7.000000000000001
    outside = torch.arange(100, 0, -1, dtype=torch.float64)
    inside = torch.tensor([94.0, 93.0])
    assert fpr_at_tpr(inside, outside, 0.07).item() == 0.5


def test_scores_without_information():
    inside, outside = torch.zeros(30), torch.zeros(10)
    assert auroc(inside, outside).item() == 0.5
    assert aupr(inside, outside).item() == 0.25
    assert fpr_at_tpr(inside, outside).item() == 1
    apart = torch.full((3,), math.inf)
    assert (auroc(inside, apart).item(), aupr(inside, apart).item(), fpr_at_tpr(inside, apart).item()) == (1, 1, 0)
    assert (auroc(apart, inside).item(), fpr_at_tpr(apart, inside).item()) == (0, 1)


@pytest.mark.parametrize("measure", [auroc, aupr, fpr_at_tpr])
def test_bad_sets_are_named(measure):
    some, none = torch.ones(3), torch.ones(0)
    with pytest.raises(ValueError, match="no out-of-distribution inputs"):
        measure(some, none)
    with pytest.raises(ValueError, match="no in-distribution inputs"):
        measure(none, some)
    with pytest.raises(ValueError, match="1 scores of out-of-distribution inputs are NaN"):
        measure(some, torch.tensor([0.0, math.nan]))


@pytest.mark.parametrize("tpr", [0.0, 1.1])
def test_tpr_is_a_share(tpr):
    with pytest.raises(ValueError, match=f"got {tpr}"):
        fpr_at_tpr(torch.ones(2), torch.ones(2), tpr)


@given(small_scores, small_scores)
def test_monotone_maps_and_the_order_change_nothing(inside, outside):
    low, high = torch.tensor(inside, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64)
    for measure in (auroc, aupr, fpr_at_tpr):
        value = measure(low, high).item()
        assert measure((low**3 + 2 * low).exp(), (high**3 + 2 * high).exp()).item() == value
        assert measure(low.flip(0), high.flip(0)).item() == pytest.approx(value, abs=1e-12)
        assert 0 <= value <= 1
    assert auroc(low, high).item() + auroc(high, low).item() == pytest.approx(1)
    assert auroc(-low, -high).item() == pytest.approx(1 - auroc(low, high).item())


@given(small_scores, small_scores)
def test_measures_agree_with_scikit_learn_on_ties(inside, outside):
    low, high = torch.tensor(inside, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64)
    scores, labels = joined(low, high)
    assert auroc(low, high).item() == pytest.approx(roc_auc_score(labels, scores))
    assert aupr(low, high).item() == pytest.approx(average_precision_score(labels, scores))
    assert fpr_at_tpr(low, high).item() == pytest.approx(smallest_fpr(low.numpy(), high.numpy(), 0.95))


def test_scores_are_those_of_the_prediction():
    case = prediction(0, 50)
    logits, probs = case.logits.double().numpy(), case.logits.double().softmax(-1).numpy()
    mean = probs.mean(0)
    expected = {
        "max_probability": 1 - mean.max(-1),
        "predictive_entropy": scipy.stats.entropy(mean, axis=-1),
        "mutual_information": scipy.stats.entropy(mean, axis=-1) - scipy.stats.entropy(probs, axis=-1).mean(0),
        "variance": probs.var(0).sum(-1),
        "quantile_confidence": 1 - np.quantile(probs, 0.1, axis=0).max(-1),
        "logit_variance": logits.var(0).sum(-1),
        "disagreement": [1 - np.bincount(votes).max() / len(votes) for votes in logits.argmax(-1).T],
        "energy": -scipy.special.logsumexp(logits.mean(0), axis=-1),
        "max_logit": -logits.mean(0).max(-1),
    }
    scores = ood_scores(case)
    assert scores.keys() == SCORES.keys() == expected.keys()
    for name, score in scores.items():
        np.testing.assert_allclose(score, expected[name], atol=1e-12, err_msg=name)
        np.testing.assert_allclose(SCORES[name](case), score, atol=1e-6, err_msg=name)
    other = ood_scores(case, 0.3, "lower")["quantile_confidence"]
    np.testing.assert_allclose(other, 1 - np.quantile(probs, 0.3, axis=0, method="lower").max(-1))


def test_confident_predictions_are_no_ties():
    sure, surer = Predictive(torch.tensor([[[18.0, 0.0]]])), Predictive(torch.tensor([[[19.0, 0.0]]]))
    assert sure.confidence == surer.confidence == 1
    for name in ("max_probability", "predictive_entropy", "quantile_confidence"):
        assert ood_scores(sure)[name] > ood_scores(surer)[name]


def test_weights_are_multiplicities():
    counts = torch.tensor([1, 3, 2])
    case = prediction(1, 20, samples=3)
    weighted = ood_scores(Predictive(case.logits, counts / 6))
    repeated = ood_scores(Predictive(case.logits.repeat_interleave(counts, dim=0)))
    for name, score in weighted.items():
        torch.testing.assert_close(score, repeated[name], rtol=1e-5, atol=1e-6, msg=name)


def test_scores_of_two_classes_in_closed_form():
    """Two pixels of a binary segmentation, passes +a and -a with probabilities w and 1 - w on one of them."""
    a, w = 1.7, 0.8
    logits = torch.tensor([[[a, 0.0], [2.0, 5.0]], [[-a, 0.0], [2.0, 5.0]]], dtype=torch.float64)
    weights = torch.tensor([w, 1 - w], dtype=torch.float64)
    mean = (2 * w - 1) * a
    for score, (torn, sure) in (
        (logit_variance, (4 * w * (1 - w) * a**2, 0.0)),
        (disagreement, (1 - w, 0.0)),
        (energy_score, (-math.log(1 + math.exp(mean)), -5 - math.log1p(math.exp(-3.0)))),
        (max_logit_score, (-mean, -5.0)),
    ):
        assert score(logits, weights).tolist() == pytest.approx([torn, sure], abs=1e-12)
    equal = torch.full((2,), 0.5, dtype=torch.float64)
    for score in (logit_variance, disagreement, energy_score, max_logit_score):
        torch.testing.assert_close(score(logits, equal), score(logits))


def test_what_all_logits_have_in_common_moves_logit_scores_alone():
    case = prediction(0, 30)
    moved = Predictive(case.logits + 3 * torch.randn(6, 1, 1, generator=torch.Generator().manual_seed(7)))
    before, after = ood_scores(case), ood_scores(moved)
    for name in ("predictive_entropy", "mutual_information", "variance", "quantile_confidence", "disagreement"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-5)
    for name in ("logit_variance", "energy", "max_logit"):
        assert not torch.allclose(after[name], before[name], atol=0.01)


def test_metrics_of_two_predictions():
    inside, outside = prediction(0, 40, scale=4.0), prediction(1, 60, scale=1.0)
    metrics = ood_metrics(inside, outside, threshold=0.1)
    assert set(metrics) == {key for key in METRICS if key.startswith("ood/")}
    scores = torch.cat([inside.predictive_entropy, outside.predictive_entropy]).numpy()
    labels = [0] * 40 + [1] * 60
    assert metrics["ood/auroc/predictive_entropy"] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics["ood/rate"] == pytest.approx(outside.is_ood(threshold=0.1).double().mean().item())
    assert 0 < metrics["ood/rate"] < 1
    assert all(type(value) is float and 0 <= value <= 1 for value in metrics.values())


def test_one_sample_has_nothing_to_disagree_about():
    metrics = ood_metrics(prediction(0, 30, samples=1), prediction(1, 10, samples=1))
    for score in ("mutual_information", "variance", "logit_variance", "disagreement"):
        assert metrics[f"ood/auroc/{score}"] == 0.5
        assert metrics[f"ood/aupr/{score}"] == 0.25
        assert metrics[f"ood/fpr95/{score}"] == 1
    assert metrics["ood/auroc/max_probability"] == metrics["ood/auroc/quantile_confidence"]


def test_no_inputs_are_refused():
    some, none = prediction(0, 3), prediction(0, 0)
    with pytest.raises(ValueError, match="no out-of-distribution inputs"):
        ood_metrics(some, none)
    with pytest.raises(ValueError, match="no in-distribution inputs"):
        ood_metrics(none, some)
