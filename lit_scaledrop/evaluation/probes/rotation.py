"""Figure 6: the test set rotated by growing angles; accuracy should fall and uncertainty rise."""

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.results.measurement import Coordinates, Measurement


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The angles, 0 to 180 degrees."""
    from datamodules.suites.suites import ANGLES

    return {f"rotation/{angle}": {"angle": float(angle)} for angle in ANGLES}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Accuracy, likelihood, calibration, entropies and the OOD rate."""
    suite = subject.suite(f"rotation/{at['angle']:g}")
    if suite.labels is None:
        raise ValueError(f"the suite {suite.name!r} has no labels, so its accuracy cannot be measured")
    prediction = subject.predict(suite.images, suite.normalized)
    return [Measurement(subject.classification(prediction, suite.labels))]
