"""Table VI: detection of out-of-distribution inputs against the network's test images."""

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.measurement import Coordinates, Measurement


def parts(subject: Subject) -> dict[str, Coordinates]:
    """The test images, the paper's six suites, and what OpenOOD has beyond them."""
    from datamodules.suites.suites import GROUPS

    # SVHN is in two groups; a network that was trained on MNIST does not call MNIST foreign
    names = dict.fromkeys(name for group in ("table6", "near", "far") for name in GROUPS[group])
    return {name: {"suite": name} for name in ("clean", *names) if name != subject.data.name}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Detection rate by both rules, mean uncertainties, and the separation from the test images by each score."""
    from lit_scaledrop.metrics.ood import ood_metrics

    if at["suite"] == "clean":
        _, labels, prediction = subject.clean()
        return [Measurement(subject.classification(prediction, labels)), *_second_rule(subject, prediction)]
    suite = subject.suite(str(at["suite"]))
    prediction = subject.predict(suite.images, suite.normalized)
    separation = ood_metrics(subject.clean()[2], prediction, **subject.rule)
    return [Measurement({**separation, **subject.uncertainty(prediction)}), *_second_rule(subject, prediction)]


def _second_rule(subject: Subject, prediction: Predictive) -> list[Measurement]:
    """The share that the rule rejects at the threshold of the validation split; nothing without such a split."""
    threshold = subject.validation_threshold
    if threshold is None:
        return []
    rejected = prediction.wide().is_ood(**{**subject.rule, "threshold": threshold})
    rate = rejected.double().mean().item()
    return [Measurement({"ood/rate": rate, "sel/threshold": threshold}, {"rule": "validation"})]
