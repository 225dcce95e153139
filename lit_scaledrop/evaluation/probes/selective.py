"""Table IX: which test images the rule accepts, and how often the network is right on them."""

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.results.measurement import Coordinates, Measurement


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The test images."""
    return {"clean": {"suite": "clean"}}


def measure(subject: Subject, _at: Coordinates) -> list[Measurement]:
    """Acceptance, risk and coverage, calibration."""
    from lit_scaledrop.metrics.selective import selective_metrics

    _, labels, prediction = subject.clean()
    selected = selective_metrics(prediction, labels, **subject.rule)
    return [Measurement({**subject.classification(prediction, labels), **selected})]
