"""Figure 6: the test set turned by growing angles; accuracy should fall and uncertainty rise."""

from lit_scaledrop.evaluation.probes.subject import Subject


def parts(_subject: Subject) -> list[str]:
    """The angles, 0 to 180 degrees."""
    from datamodules.suites.suites import GROUPS

    return list(GROUPS["rotation"])


def measure(subject: Subject, part: str) -> dict[str, float]:
    """Accuracy, likelihood, calibration, entropies and the OOD rate."""
    suite = subject.suite(part)
    if suite.labels is None:
        raise ValueError(f"the suite {suite.name!r} has no labels, so its accuracy cannot be measured")
    return subject.classification(subject.predict(suite.images, suite.normalized), suite.labels)
