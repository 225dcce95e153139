"""Reliability diagram: accuracy of the test images by their confidence, in 15 bins of equal width."""

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.functional.calibration import adaptive_calibration_error, calibration_bins
from lit_scaledrop.results.measurement import Coordinates, Measurement

BINS = 15


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The test images."""
    return {"clean": {"suite": "clean"}}


def measure(subject: Subject, _at: Coordinates) -> list[Measurement]:
    """Share of the images, mean confidence and accuracy of each bin that is not empty; calibration errors."""
    _, labels, prediction = subject.clean()
    bins = calibration_bins(prediction.mean, labels, BINS)
    metrics = subject.classification(prediction, labels)
    correct = prediction.predicted_class == labels
    metrics["cal/adaptive_ece"] = adaptive_calibration_error(prediction.wide().confidence, correct, BINS).item()
    found = [Measurement(metrics)]
    for number, (count, confidence, right) in enumerate(bins.tolist()):
        of_bin = {"confidence": confidence / count, "accuracy": right / count} if count else {}
        found.append(Measurement({"share": count / len(labels), **of_bin}, {"bin": number}))
    return found
