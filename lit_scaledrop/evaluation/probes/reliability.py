"""Reliability diagram: accuracy of the test images by their confidence, in 15 bins of equal width."""

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.functional.calibration import adaptive_calibration_error, calibration_bins

BINS = 15


def parts(_subject: Subject) -> list[str]:
    """The test images."""
    return ["clean"]


def measure(subject: Subject, _part: str) -> dict[str, float]:
    """Share of the images, mean confidence and accuracy of each bin that is not empty; calibration errors."""
    _, labels, prediction = subject.clean()
    bins = calibration_bins(prediction.mean, labels, BINS)
    metrics = subject.classification(prediction, labels)
    correct = prediction.predicted_class == labels
    metrics["cal/adaptive_ece"] = adaptive_calibration_error(prediction.wide().confidence, correct, BINS).item()
    for number, (count, confidence, right) in enumerate(bins.tolist()):
        metrics[f"bin/{number}/share"] = count / len(labels)
        if count:
            metrics |= {f"bin/{number}/confidence": confidence / count, f"bin/{number}/accuracy": right / count}
    return metrics
