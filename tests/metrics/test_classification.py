"""Metric states: values, batching, compute groups, devices without float64, the glossary.

Two processes: ``test_samples.py``.
"""

import subprocess
import sys

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from lit_scaledrop import functional
from lit_scaledrop.metrics.classification import (
    Accuracy,
    CalibrationError,
    NegativeLogLikelihood,
    OODRate,
    PredictiveEntropy,
    classification_metrics,
    uncertainty_metrics,
)
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.glossary import METRICS

CLASSES = 5
THRESHOLD = 0.4


def data(batch=97, samples=6):
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(CLASSES, (batch,), generator=generator)
    logits = torch.randn(samples, batch, CLASSES, generator=generator)
    logits += 2 * torch.nn.functional.one_hot(target, CLASSES)
    return logits, target


def metrics_of(logits, target, chunks):
    metrics = classification_metrics(CLASSES, threshold=THRESHOLD)
    for part, labels in zip(logits.split(chunks, dim=1), target.split(chunks), strict=True):
        metrics.update(Predictive(part), labels)
    return {key: value.item() for key, value in metrics.compute().items()}


def formulas(logits, target):
    prediction = Predictive(logits)
    return {
        "cls/acc": multiclass_accuracy(prediction.mean, target, CLASSES, average="micro").item(),
        "cls/nll": torch.nn.functional.nll_loss(prediction.mean.log(), target).item(),
        "cls/brier": functional.brier_score(prediction.mean, target).mean().item(),
        "cal/ece": multiclass_calibration_error(prediction.mean, target, CLASSES, 15).item(),
        "unc/predictive_entropy": prediction.predictive_entropy.mean().item(),
        "unc/expected_entropy": prediction.expected_entropy.mean().item(),
        "unc/mutual_information": prediction.mutual_information.mean().item(),
        "ood/rate": prediction.is_ood(threshold=THRESHOLD).float().mean().item(),
    }


def test_uneven_batches_equal_the_formulas_on_all():
    logits, target = data()
    expected = formulas(logits, target)
    assert 0 < expected["ood/rate"] < 1
    for chunks in ([97], [1, 96], [40, 0, 50, 7]):
        assert metrics_of(logits, target, chunks) == pytest.approx(expected, rel=1e-5)


def test_logging_by_forward_returns_the_batch_and_keeps_the_sum():
    logits, target = data()
    metrics = classification_metrics(CLASSES, threshold=THRESHOLD)
    for part, labels in zip(logits.split([90, 7], dim=1), target.split([90, 7]), strict=True):
        batch = metrics(Predictive(part), labels)
        assert {k: v.item() for k, v in batch.items()} == pytest.approx(formulas(part, labels), rel=1e-5)
    assert {k: v.item() for k, v in metrics.compute().items()} == pytest.approx(formulas(logits, target), rel=1e-5)
    metrics.reset()
    metrics.update(Predictive(logits[:, :9]), target[:9])
    expected = formulas(logits[:, :9], target[:9])
    assert {k: v.item() for k, v in metrics.compute().items()} == pytest.approx(expected, rel=1e-5)


def test_compute_groups_do_not_merge_metrics_that_agree_on_the_first_batch():
    # Certain, right and one sample: accuracy and both OOD rates 1, NLL, Brier score and entropies 0.
    sure = Predictive(torch.tensor([[[200.0, 0.0]]]))
    torn = Predictive(torch.tensor([[[4.0, 0.0]], [[0.0, 3.0]]]))
    metrics = classification_metrics(2, threshold=1.5)
    own = MetricCollection({"loose": OODRate(threshold=0.5), "strict": OODRate(threshold=0.9), "acc": Accuracy()})
    for collection in (metrics, own):
        collection.update(sure, torch.tensor([0]))
        collection.update(torn, torch.tensor([1]))
    result = {key: value.item() for key, value in metrics.compute().items()}
    assert len(metrics.compute_groups) == len(result) == 8
    mean = torn.mean[0].tolist()
    assert result["cls/acc"] == 0.5
    assert result["ood/rate"] == 1
    assert result["cls/nll"] == pytest.approx(-torch.tensor(mean[1]).log().item() / 2)
    assert result["cls/brier"] == pytest.approx(2 * mean[0] ** 2 / 2)
    assert result["unc/predictive_entropy"] == pytest.approx(torn.predictive_entropy.item() / 2)
    assert result["unc/expected_entropy"] == pytest.approx(torn.expected_entropy.item() / 2)
    assert result["unc/mutual_information"] == pytest.approx(torn.mutual_information.item() / 2)
    assert {key: value.item() for key, value in own.compute().items()} == {
        "loose": 0.5,
        "strict": 0.5,
        "acc": 0.5,
    }
    lenient, strict = OODRate(threshold=0.05), OODRate(threshold=0.5)
    pair = MetricCollection({"lenient": lenient, "strict": strict})
    pair.update(sure)
    pair.update(torn)
    assert {key: value.item() for key, value in pair.compute().items()} == {"lenient": 0, "strict": 0.5}


def test_prefixes_and_slashes_in_keys():
    logits, target = data()
    metrics = classification_metrics(CLASSES).clone(prefix="test/")
    metrics.update(Predictive(logits), target)
    assert set(metrics.compute()) == {f"test/{key}" for key in classification_metrics(CLASSES)}


def test_weights_reach_every_metric():
    logits, target = data(samples=3)
    counts = torch.tensor([1, 3, 2])
    weighted, repeated = classification_metrics(CLASSES), classification_metrics(CLASSES)
    weighted.update(Predictive(logits, counts / 6), target)
    repeated.update(Predictive(logits.repeat_interleave(counts, dim=0)), target)
    expected = {key: value.item() for key, value in repeated.compute().items()}
    assert {key: value.item() for key, value in weighted.compute().items()} == pytest.approx(expected, rel=1e-5)


def test_nll_is_finite_where_probabilities_underflow():
    metric = NegativeLogLikelihood()
    metric.update(Predictive(torch.tensor([[[300.0, 0.0]]])), torch.tensor([1]))
    assert metric.compute().item() == pytest.approx(300)


def test_sums_of_many_batches_do_not_drift():
    metric = PredictiveEntropy()
    one = Predictive(torch.tensor([[[1.0, 0.0, 0.3]]]))
    for _ in range(3000):
        metric.update(one)
    assert metric.compute().item() == pytest.approx(one.predictive_entropy.item(), rel=1e-12)


def test_empty_is_nan_and_says_so():
    for metric in (Accuracy(), CalibrationError()):
        with pytest.warns(UserWarning, match="before the ``update`` method"):
            assert metric.compute().isnan()


def test_device_without_float64_falls_back_to_float32():
    def to_mps(tensor):  # what Module.to("mps") does to a float64 tensor
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor

    logits, target = data()
    for metric in (Accuracy(), CalibrationError()):
        expected = formulas(logits, target)["cls/acc" if isinstance(metric, Accuracy) else "cal/ece"]
        metric._apply(to_mps)
        metric.update(Predictive(logits), target)
        assert metric.sums.dtype == torch.float32
        assert metric.compute().item() == pytest.approx(expected, rel=1e-5)
        metric.reset()
        assert metric.sums.dtype == torch.float32
        assert not metric.sums.any()


def test_states_keep_float64_under_half_and_survive_a_checkpoint():
    logits, target = data()
    metrics = classification_metrics(CLASSES).half()
    metrics.persistent(True)
    metrics.update(Predictive(logits), target)
    saved = metrics.state_dict()
    assert all(value.dtype == torch.float64 for value in saved.values())
    restored = classification_metrics(CLASSES)
    restored.persistent(True)
    restored.load_state_dict(saved)
    for name, metric in restored.items():
        assert torch.equal(metric.sums, metrics[name].sums)


def test_uncertainty_metrics_need_no_target():
    logits, target = data()
    metrics = uncertainty_metrics(threshold=THRESHOLD, num_classes=CLASSES)
    metrics.update(Predictive(logits))
    expected = {key: value for key, value in formulas(logits, target).items() if key[:3] in ("unc", "ood")}
    assert {key: value.item() for key, value in metrics.compute().items()} == pytest.approx(expected, rel=1e-5)
    with pytest.raises(TypeError, match="target"):
        classification_metrics(CLASSES).update(Predictive(logits))


def test_bad_batches_are_refused():
    logits, target = data()
    prediction = Predictive(logits)
    with pytest.raises(ValueError, match="is for 10 classes, the prediction has 5"):
        classification_metrics(10).update(prediction, target)
    for metric in (Accuracy(), CalibrationError(), OODRate()):
        with pytest.raises(ValueError, match=r"target of shape \(97,\), got \(1,\)"):
            metric.update(prediction, target[:1])
        with pytest.raises(ValueError, match="class indices from 0 to 4, got 1 to 5"):
            metric.update(prediction, target.clamp_min(1).where(target != 0, 5))
        with pytest.raises(ValueError, match="got -1 to"):
            metric.update(prediction, target - 1)


def test_glossary_describes_each_key_and_agrees_on_the_direction():
    metrics = classification_metrics(CLASSES)
    assert {name: metric.higher_is_better for name, metric in metrics.items()} == {
        name: METRICS[name].higher_is_better for name in metrics
    }
    assert all(entry.description.endswith(".") for entry in METRICS.values())


def test_glossary_imports_without_torch():
    code = "import sys, lit_scaledrop.results.glossary; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)
