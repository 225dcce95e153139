"""Table IX: which test images the rule accepts, and how often the network is right on them."""

from lit_scaledrop.evaluation.probes.subject import Subject


def parts(_subject: Subject) -> list[str]:
    """The test images."""
    return ["clean"]


def measure(subject: Subject, _part: str) -> dict[str, float]:
    """Acceptance, risk and coverage, calibration."""
    from lit_scaledrop.metrics.selective import selective_metrics

    _, labels, prediction = subject.clean()
    return {**subject.classification(prediction, labels), **selective_metrics(prediction, labels, **subject.rule)}
