"""The container: what it refuses, what it computes, joining batches."""

import math

import pytest
import torch

from lit_scaledrop import functional
from lit_scaledrop.posterior.predictive import Predictive


def random_predictive(samples=6, batch=5, classes=4, weighted=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(samples, batch, classes, generator=generator)
    weights = torch.rand(samples, generator=generator).softmax(0) if weighted else None
    return Predictive(logits, weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_properties_are_the_formulas_with_its_weights(weighted):
    prediction = random_predictive(weighted=weighted)
    probs, weights = prediction.logits.softmax(-1), prediction.weights
    expected = {
        "probs": probs,
        "mean": functional.predictive_mean(probs, weights),
        "variance": functional.predictive_variance(probs, weights),
        "predictive_entropy": functional.predictive_entropy(probs, weights),
        "expected_entropy": functional.expected_entropy(probs, weights),
        "mutual_information": functional.mutual_information(probs, weights),
        "predicted_class": functional.predictive_mean(probs, weights).argmax(-1),
        "confidence": functional.predictive_mean(probs, weights).amax(-1),
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(prediction, name), value, msg=name)
    torch.testing.assert_close(prediction.log_mean.exp(), prediction.mean)
    torch.testing.assert_close(
        prediction.quantile_confidence(0.2, "lower"),
        functional.quantile_confidence(probs, 0.2, weights, "lower"),
    )
    middle = functional.quantile_confidence(probs, 0.2, weights, "higher").median().item()
    flagged = functional.is_ood(probs, 0.2, middle, weights, "higher")
    assert flagged.sum() == 2  # of five
    assert prediction.is_ood(0.2, middle, "higher").tolist() == flagged.tolist()
    assert prediction.probs is prediction.probs  # computed once
    assert (prediction.num_samples, prediction.num_classes) == (6, 4)


def test_half_precision_logits_give_float32_probabilities():
    prediction = Predictive(torch.tensor([[[1.0, 0.0]]], dtype=torch.bfloat16))
    assert prediction.probs.dtype == prediction.log_mean.dtype == torch.float32
    assert prediction.probs[0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)
    assert Predictive(prediction.logits.double()).mean.dtype == torch.float64


@pytest.mark.parametrize("of", ["probs", "logits"])
def test_intervals_of_probabilities_and_logits(of):
    prediction = random_predictive(samples=20)
    values = getattr(prediction, of)
    pairs = [
        (prediction.confidence_interval(0.9, of=of), functional.normal_interval(values, 0.9)),
        (
            prediction.confidence_interval(0.9, "quantile", "nearest", of),
            functional.quantile_interval(values, 0.9, None, "nearest"),
        ),
    ]
    for ours, expected in pairs:
        for bound, value in zip(ours, expected, strict=True):
            torch.testing.assert_close(bound, value)
        assert (ours[0] < ours[1]).all()


def test_weighted_intervals():
    prediction = random_predictive(weighted=True)
    with pytest.raises(ValueError, match="draws=T"):
        prediction.confidence_interval()
    low, high = prediction.confidence_interval(0.95, draws=100)
    torch.testing.assert_close(high - low, 2 * 1.959964 * prediction.variance.sqrt() / 10)
    low, high = prediction.confidence_interval(0.5, kind="quantile")
    torch.testing.assert_close(low, functional.sample_quantile(prediction.probs, 0.25, prediction.weights))


def test_a_deterministic_network_is_one_sample():
    prediction = random_predictive(samples=1)
    assert not prediction.variance.any()
    assert not prediction.mutual_information.any()
    for kind in ("normal", "quantile"):
        low, high = prediction.confidence_interval(kind=kind)
        torch.testing.assert_close(low, prediction.mean)
        torch.testing.assert_close(high, prediction.mean)
    assert prediction.is_ood(threshold=0.6).tolist() == (prediction.confidence < 0.6).tolist()


LOGITS = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("logits", "weights", "message"),
    [
        (torch.zeros(3, 4), None, r"single pass being logits\[None\]; got torch.float32 of shape \(3, 4\)"),
        (torch.zeros(2, 3, 4, dtype=torch.long), None, "must be floats .* got torch.int64"),
        (torch.zeros(0, 3, 4), None, "at least one sample"),
        (torch.zeros(2, 3, 1), None, "two classes"),
        (torch.full((2, 3, 4), math.nan), None, "24 of 24 logits are not finite"),
        (torch.tensor([[[0.0, math.inf, -math.inf]]]), None, "2 of 3 logits are not finite"),
        (LOGITS, torch.ones(3) / 3, r"one for each of the 2 samples; got torch.float32 of shape \(3,\)"),
        (LOGITS, torch.tensor([1, 0]), "weights must be floats"),
        (LOGITS, torch.tensor([1.0, 1.0]), "sum to one, got 2"),
        (LOGITS, torch.tensor([math.nan, 1.0]), "sum to one, got nan"),
        (LOGITS, torch.tensor([1.5, -0.5]), "not be negative, got -0.5"),
    ],
)
def test_refuses(logits, weights, message):
    # The type hook of the tests refuses wrong shapes before our check would, so call the check itself.
    prediction = object.__new__(Predictive)
    object.__setattr__(prediction, "logits", logits)
    object.__setattr__(prediction, "weights", weights)
    with pytest.raises(ValueError, match=message):
        prediction.__post_init__()


@pytest.mark.parametrize("weighted", [False, True])
def test_cat_joins_batches(weighted):
    whole = random_predictive(batch=7, weighted=weighted)
    parts = [Predictive(part, whole.weights) for part in whole.logits.split([3, 0, 4], dim=1)]
    joined = Predictive.cat(parts)
    assert torch.equal(joined.logits, whole.logits)
    torch.testing.assert_close(joined.mean, whole.mean)
    if weighted:
        assert torch.equal(joined.weights, whole.weights)
        copies = [Predictive(part.logits, whole.weights.clone()) for part in parts]
        assert torch.equal(Predictive.cat(copies).mean, joined.mean)


def test_cat_refuses_other_samples_classes_or_weights():
    plain = random_predictive()
    with pytest.raises(ValueError, match="at least one"):
        Predictive.cat([])
    with pytest.raises(ValueError, match=r"\(samples, classes\): \[\(3, 4\), \(6, 4\)\]"):
        Predictive.cat([plain, random_predictive(samples=3)])
    with pytest.raises(ValueError, match="differ"):
        Predictive.cat([plain, random_predictive(classes=3)])
    weighted = random_predictive(weighted=True)
    for other in (plain, random_predictive(weighted=True, seed=1)):
        with pytest.raises(ValueError, match="weight their samples differently"):
            Predictive.cat([weighted, other])


def test_cpu_moves_both_tensors():
    weighted = random_predictive(weighted=True)
    host = weighted.cpu()
    assert host.logits.device.type == host.weights.device.type == "cpu"
    assert torch.equal(host.mean, weighted.mean)
    assert random_predictive().cpu().weights is None


def test_fields_cannot_be_reassigned():
    with pytest.raises(AttributeError):
        random_predictive().logits = LOGITS


def test_the_picture_shows_means_and_samples():
    prediction = random_predictive(samples=6, classes=4)
    figure = prediction.plot([1, 0], names=list("abcd"))
    first, second = figure.axes
    assert "input 1" in first.get_title(loc="left")
    order = prediction.mean[0].argsort(descending=True)
    assert [text.get_text() for text in second.get_yticklabels()] == ["abcd"[index] for index in order]
    assert [bar.get_width() for bar in second.patches] == pytest.approx(prediction.mean[0, order].tolist())
    dots = second.collections[0].get_offsets()
    assert dots[:, 0].tolist() == pytest.approx(prediction.probs[:, 0, order].flatten().tolist())
    assert len(prediction.plot().axes) == min(4, len(prediction.predicted_class))
    with pytest.raises(ValueError, match="inputs to draw are numbers from 0"):
        prediction.plot([99])
    with pytest.raises(ValueError, match="2 names for 4 classes"):
        prediction.plot(names=["a", "b"])
