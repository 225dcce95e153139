"""Selective prediction against torch-uncertainty and plain loops; Table IX's rows against their own definitions."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_scaledrop.functional.selective import acceptance, accepting_threshold, aurc, coverage_at_risk, risk_coverage
from lit_scaledrop.metrics.selective import selective_metrics
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.glossary import METRICS

cases = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=7)


def prediction(seed, batch, samples=5, classes=4, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (batch,), generator=generator)
    logits = scale * torch.randn(samples, batch, classes, generator=generator)
    return Predictive(logits + 3 * torch.nn.functional.one_hot(target, classes)), target


def columns(rows):
    return torch.tensor([row[0] for row in rows]).double(), torch.tensor([row[1] for row in rows])


def risks_over_orders(rows):
    """Mean of the running error rate over all orders in which the confidences fall."""
    curves = []
    for order in permutations(rows):
        if all(a[0] >= b[0] for a, b in pairwise(order)):
            errors = np.cumsum([not row[1] for row in order])
            curves.append(errors / np.arange(1, len(order) + 1))
    return np.mean(curves, axis=0)


def test_table9_by_hand():
    accepted = torch.tensor([1, 1, 1, 0, 0, 0, 0, 1], dtype=torch.bool)
    correct = torch.tensor([1, 1, 0, 1, 1, 1, 0, 0], dtype=torch.bool)
    assert acceptance(accepted, correct) == {
        "sel/accept": 0.5,
        "sel/reject": 0.5,
        "sel/tpr": 2 / 5,
        "sel/tnr": 1 / 3,
        "sel/ar": 2 / 4,
    }


@pytest.mark.parametrize(
    ("accept", "tpr", "tnr", "ar", "error", "accuracy"),
    [
        (77.43, 84.29, 81.67, 97.45, 0.09, 89.6),  # VGG-small: 97.54 would fit, two digits swapped
        (77.48, 84.00, 81.83, 97.67, 0.01, 90.1),  # ResNet-18: fits within its rounding
        (41.00, 59.24, 95.83, 99.12, 2.5, 66.9),  # ResNet-20: does not fit, and its accuracy is not 86 %
    ],
)
def test_published_rows_against_the_definitions(accept, tpr, tnr, ar, error, accuracy):
    """Accepted, TPR and TNR fix the accuracy; with it, the definitions give AR."""
    share = (accept - (100 - tnr)) / (tpr - (100 - tnr))
    assert 100 * share == pytest.approx(accuracy, abs=0.05)
    count = 1_000_000
    right, wrong = round(share * count), count - round(share * count)
    correct = torch.arange(count) < right
    accepted = torch.zeros(count, dtype=torch.bool)
    accepted[: round(tpr / 100 * right)] = True
    accepted[right : right + wrong - round(tnr / 100 * wrong)] = True
    ours = acceptance(accepted, correct)
    assert 100 * ours["sel/accept"] == pytest.approx(accept, abs=1e-3)
    assert abs(100 * ours["sel/ar"] - ar) == pytest.approx(error, rel=0.25, abs=0.01)


def test_undefined_shares_are_left_out():
    yes, no = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    assert acceptance(yes, yes) == {"sel/accept": 1, "sel/reject": 0, "sel/tpr": 1, "sel/ar": 1}
    assert acceptance(no, no) == {"sel/accept": 0, "sel/reject": 1, "sel/tnr": 1}
    with pytest.raises(ValueError, match="there are no inputs"):
        acceptance(yes[:0], no[:0])


def test_curve_agrees_with_torch_uncertainty():
    theirs = pytest.importorskip("torch_uncertainty.metrics.classification")
    case, target = prediction(0, 200)
    confidence, correct = case.mean.amax(-1), case.predicted_class == target
    assert 0.02 < (~correct).double().mean() < 0.5
    metric = theirs.AURC()
    metric.update(case.mean, target)
    coverage, risk = risk_coverage(confidence, correct)
    np.testing.assert_allclose(risk, metric.partial_compute(), atol=1e-6)
    # they integrate by trapezoids from coverage 1/n on, and stretch the result to coverage 0
    trapezoids = torch.trapezoid(risk, coverage).item() / (1 - 1 / 200)
    assert trapezoids == pytest.approx(metric.compute().item(), abs=1e-6)
    assert aurc(confidence, correct) == pytest.approx(risk.mean().item())
    for share, name in ((0.05, "CovAt5Risk"), (0.01, None)):
        reference = getattr(theirs, name)() if name else theirs.CovAtxRisk(share)
        reference.update(case.mean, target)
        assert coverage_at_risk(confidence, correct, share) == pytest.approx(reference.compute().item(), abs=1e-6)


@given(cases)
def test_risk_is_the_expectation_over_the_orders_of_equals(rows):
    confidence, correct = columns(rows)
    coverage, risk = risk_coverage(confidence, correct)
    np.testing.assert_allclose(risk, risks_over_orders(rows), atol=1e-12)
    np.testing.assert_allclose(coverage, np.arange(1, len(rows) + 1) / len(rows))
    assert risk[-1].item() == pytest.approx(1 - correct.double().mean().item())


@given(cases, st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]))
def test_coverage_is_that_of_the_best_threshold(rows, risk):
    confidence, correct = columns(rows)
    best = 0.0
    for threshold in confidence:
        taken = confidence >= threshold
        if (~correct[taken]).double().mean() <= risk:
            best = max(best, taken.double().mean().item())
    assert coverage_at_risk(confidence, correct, risk) == pytest.approx(best)


@given(cases, st.randoms(use_true_random=False))
def test_neither_order_nor_a_monotone_map_matters(rows, random):
    confidence, correct = columns(rows)
    other, flags = columns(random.sample(rows, len(rows)))
    assert aurc(other.exp(), flags) == pytest.approx(aurc(confidence, correct))
    assert coverage_at_risk(other.exp(), flags) == coverage_at_risk(confidence, correct)


def test_bounds_of_the_area():
    confidence = torch.linspace(1, 0.1, 10)
    correct = torch.arange(10) < 7
    best, worst = aurc(confidence, correct), aurc(confidence.flip(0), correct)
    assert best == pytest.approx(sum(k / (7 + k) for k in (1, 2, 3)) / 10)
    assert best < 0.3 < worst
    assert aurc(torch.ones(10), correct) == pytest.approx(0.3)  # equal confidences: the error rate
    assert aurc(confidence, torch.ones(10, dtype=torch.bool)) == 0


def test_a_risk_at_the_limit_is_within_it():
    confidence = torch.arange(180, 0, -1).double()
    correct = torch.ones(180, dtype=torch.bool)
    correct[-9:] = False  # 9 of 180 is 5 %
    assert coverage_at_risk(confidence, correct, 0.05) == 1
    correct[0] = False
    assert coverage_at_risk(confidence, correct, 0.05) == 178 / 180  # 8 errors in 178, 9 in 179
    with pytest.raises(ValueError, match=r"got 5\.0"):
        coverage_at_risk(confidence, correct, 5.0)


def test_metrics_of_a_prediction():
    case, target = prediction(1, 120)
    metrics = selective_metrics(case, target, quantile=0.2, threshold=0.6, interpolation="lower")
    accepted = np.quantile(case.probs.numpy(), 0.2, axis=0, method="lower").max(-1) >= 0.6
    correct = (case.predicted_class == target).numpy()
    assert metrics["sel/accept"] == pytest.approx(accepted.mean())
    assert metrics["sel/tpr"] == pytest.approx(accepted[correct].mean())
    assert metrics["sel/tnr"] == pytest.approx(1 - accepted[~correct].mean())
    assert metrics["sel/ar"] == pytest.approx(correct[accepted].mean())
    assert metrics["cls/error"] == pytest.approx(1 - correct.mean())
    assert metrics.keys() <= METRICS.keys()
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())


def test_saturated_confidences_keep_their_order():
    logits = torch.tensor([[[18.0, 0.0], [19.0, 0.0]]])  # both have probability 1 in float32
    metrics = selective_metrics(Predictive(logits), torch.tensor([1, 0]))
    assert metrics["sel/aurc"] == 0.25
    assert metrics["sel/coverage_at_risk_5"] == 0.5


def test_bad_input_is_refused():
    case, target = prediction(0, 4)
    with pytest.raises(ValueError, match="3 targets for a prediction of 4 inputs"):
        selective_metrics(case, target[:3])
    with pytest.raises(ValueError, match="there are no inputs"):
        selective_metrics(Predictive(torch.zeros(1, 0, 3)), target[:0])


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("levels", [0, 4])
def test_accepting_threshold_is_the_largest_that_accepts_enough(share, levels):
    confidence = torch.rand(140, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if levels:
        confidence = (confidence * levels).round() / levels
    threshold = accepting_threshold(confidence, share)
    assert (confidence >= threshold).double().mean() >= share - 1e-12
    higher = confidence[confidence > threshold]
    assert len(higher) / 140 < share - 1e-12  # the next threshold accepts too few


def test_the_smallest_share_is_that_of_one_input():
    assert accepting_threshold(torch.tensor([0.5, 0.9, 0.7]), 1e-10) == pytest.approx(0.9)


def test_accepting_threshold_refuses_what_is_no_share():
    with pytest.raises(ValueError, match="got 0"):
        accepting_threshold(torch.ones(2), 0.0)
    with pytest.raises(ValueError, match="no inputs"):
        accepting_threshold(torch.ones(0))
