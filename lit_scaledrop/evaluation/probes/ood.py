"""Table VI: inputs from elsewhere, and whether the network tells them from its own test images."""

from lit_scaledrop.evaluation.probes.subject import Subject


def parts(subject: Subject) -> list[str]:
    """The test images, the paper's six suites, and what OpenOOD has beyond them."""
    from datamodules.suites.suites import GROUPS

    # SVHN is in two groups; a network that was trained on MNIST does not call MNIST foreign
    names = dict.fromkeys(name for group in ("table6", "near", "far") for name in GROUPS[group])
    return ["clean", *(name for name in names if name != subject.data.name)]


def measure(subject: Subject, part: str) -> dict[str, float]:
    """Detection rate, mean uncertainties, and the separation from the test images by each score."""
    from lit_scaledrop.metrics.ood import ood_metrics

    if part == "clean":
        _, labels, prediction = subject.clean()
        return subject.classification(prediction, labels)
    suite = subject.suite(part)
    prediction = subject.predict(suite.images, suite.normalized)
    separation = ood_metrics(subject.clean()[2], prediction, **subject.rule)
    return {**separation, **subject.uncertainty(prediction)}
