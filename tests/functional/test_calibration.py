"""Calibration errors against loops, torchmetrics, torch-uncertainty and netcal; ties and degenerate inputs."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot
from torchmetrics.functional.classification import multiclass_calibration_error

from lit_scaledrop.functional import calibration
from lit_scaledrop.functional.calibration import (
    adaptive_calibration_bins,
    adaptive_calibration_error,
    calibration_bins,
    calibration_error,
    expected_calibration_error,
    fitted_temperature,
)
from lit_scaledrop.posterior.predictive import Predictive


def random_case(seed, batch, classes=5, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    mean = (scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64)).softmax(-1)
    return mean, torch.randint(classes, (batch,), generator=generator)


def hand_written_ece(mean, target, num_bins):
    confidence, correct = mean.max(1), mean.argmax(1) == target
    error = 0.0
    for i in range(num_bins):
        inside = (confidence > i / num_bins) & (confidence <= (i + 1) / num_bins)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return error


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_calibration_error_agrees_with_a_loop_and_torchmetrics(num_bins):
    mean, target = random_case(0, 500)
    ours = expected_calibration_error(mean, target, num_bins).item()
    assert ours == pytest.approx(hand_written_ece(mean.numpy(), target.numpy(), num_bins), abs=1e-12)
    assert ours == pytest.approx(multiclass_calibration_error(mean, target, 5, num_bins, "l1").item(), abs=1e-6)


def test_calibration_bins_close_on_the_right():
    confidences = torch.tensor([0.5, 0.50001, 1.0, 1.0])
    mean, target = torch.stack([confidences, 1 - confidences], 1), torch.tensor([0, 0, 0, 1])
    assert calibration_bins(mean, target, 2)[:, 0].tolist() == [1, 3]
    # Guo et al. put confidence 1 into the top bin; torchmetrics 1.9 gives it a bin of its own.
    ours = expected_calibration_error(mean, target, 2).item()
    assert ours == pytest.approx((0.5 + abs(2.50001 - 2)) / 4, abs=1e-6)
    theirs = multiclass_calibration_error(mean, target, 2, 2, "l1").item()
    assert theirs == pytest.approx((abs(1.00001 - 2) + 1) / 4, abs=1e-6)


def test_bins_of_equal_width_are_at_least_one():
    with pytest.raises(ValueError, match="num_bins"):
        calibration_bins(*random_case(0, 1), 0)
    with pytest.raises(ValueError, match="num_bins"):
        adaptive_calibration_bins(torch.ones(1), torch.tensor([True]), 0)


@pytest.mark.parametrize(("batch", "num_bins"), [(300, 15), (150, 10), (7, 7), (40, 1)])
def test_adaptive_error_agrees_with_torch_uncertainty(batch, num_bins):
    theirs = pytest.importorskip("torch_uncertainty.metrics.classification")
    mean, target = random_case(batch, batch)
    metric = theirs.AdaptiveCalibrationError(task="multiclass", num_classes=5, num_bins=num_bins)
    metric.update(mean, target)
    ours = adaptive_calibration_error(mean.amax(-1), mean.argmax(-1) == target, num_bins).item()
    assert ours == pytest.approx(metric.compute().item(), abs=1e-6)


def test_equal_width_error_agrees_with_netcal():
    metrics = pytest.importorskip("netcal.metrics")
    mean, target = random_case(3, 400)
    ours = expected_calibration_error(mean, target, 15).item()
    assert ours == pytest.approx(metrics.ECE(15).measure(mean.numpy(), target.numpy()), abs=1e-9)


@pytest.mark.parametrize(("batch", "num_bins"), [(100, 15), (31, 4), (3, 15)])
def test_adaptive_bins_differ_by_at_most_one_example(batch, num_bins):
    mean, target = random_case(0, batch)
    bins = adaptive_calibration_bins(mean.amax(-1), mean.argmax(-1) == target, num_bins)
    counts = bins[:, 0]
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == batch
    used = counts > 0
    average = bins[used, 1] / counts[used]
    assert (average.diff() >= 0).all()  # bins are ordered by confidence
    error = (average - bins[used, 2] / counts[used]).abs() @ counts[used] / batch
    assert calibration_error(bins).item() == pytest.approx(error.item())


def test_equal_confidences_share_a_bin():
    confidence, correct = torch.full((10,), 0.7, dtype=torch.float64), torch.arange(10) < 4
    bins = adaptive_calibration_bins(confidence, correct, 5)
    assert sorted(bins[:, 0].tolist()) == [0, 0, 0, 0, 10]
    assert adaptive_calibration_error(confidence, correct, 5).item() == pytest.approx(0.3)
    assert adaptive_calibration_error(torch.tensor([0.75]), torch.tensor([True])).item() == 0.25
    assert adaptive_calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)).isnan()


@given(
    st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 10),
    st.randoms(use_true_random=False),
)
def test_adaptive_error_does_not_depend_on_the_order(cases, num_bins, random):
    shuffled = random.sample(cases, len(cases))
    results = []
    for rows in (cases, shuffled):
        confidence = torch.tensor([row[0] / 8 for row in rows], dtype=torch.float64)
        results.append(adaptive_calibration_bins(confidence, torch.tensor([row[1] for row in rows]), num_bins))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    confidence = np.array([row[0] / 8 for row in cases])
    gap = abs(confidence.mean() - np.mean([row[1] for row in cases]))
    error = calibration_error(results[0]).item()
    assert gap - 1e-12 <= error <= 1  # one bin for all is the smallest error


def calibrated(sharpness, samples=1):
    """Inputs whose classes are as frequent as the network says; its logits are then multiplied by ``sharpness``."""
    probs, target = [], []
    for right, of in ((4, 5), (9, 10), (3, 5), (1, 2)):
        probs += [[right / of, 1 - right / of]] * of
        target += [0] * right + [1] * (of - right)
    logits = torch.tensor(probs, dtype=torch.float64).log() * sharpness
    return logits.repeat(samples, 1, 1), torch.tensor(target)


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 1.7, 6.0])
@pytest.mark.parametrize("samples", [1, 3])
def test_scaled_logits_of_a_calibrated_network_give_the_temperature_back(sharpness, samples):
    logits, target = calibrated(sharpness, samples)
    assert fitted_temperature(logits, target) == pytest.approx(sharpness, rel=1e-5)
    tempered = Predictive(logits).tempered(sharpness)
    assert expected_calibration_error(tempered.mean, target).item() == pytest.approx(0, abs=1e-12)


def test_the_temperature_of_several_passes_is_that_of_least_likelihood(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(4, (200,), generator=generator)
    logits = 6 * torch.randn(5, 200, 4, generator=generator, dtype=torch.float64) + 2 * one_hot(target, 4)
    weights = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.1], dtype=torch.float64)

    def likelihood(log_temperature):
        probs = scipy.special.softmax(logits.numpy() / np.exp(log_temperature), -1)
        mean = np.einsum("t,tbc->bc", weights.numpy(), probs)
        return -np.log(mean[np.arange(200), target.numpy()]).mean()

    best = scipy.optimize.minimize_scalar(likelihood, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    found = fitted_temperature(logits, target, weights)
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    assert likelihood(np.log(found)) < likelihood(0.0) - 0.01
    monkeypatch.setattr(calibration, "_NUMBERS", 100)  # in parts of five inputs
    assert fitted_temperature(logits, target, weights) == pytest.approx(found, rel=1e-6)


def test_a_temperature_needs_inputs_and_has_bounds():
    with pytest.raises(ValueError, match="there are none"):
        fitted_temperature(torch.zeros(1, 0, 2), torch.zeros(0, dtype=torch.long))
    always_right = torch.tensor([[[1.0, 0.0]]]), torch.tensor([0])
    assert fitted_temperature(*always_right) == pytest.approx(calibration.TEMPERATURES[0], rel=1e-6)
    with pytest.raises(ValueError, match="a temperature must be above 0, got 0"):
        Predictive(torch.zeros(1, 1, 2)).tempered(0.0)
