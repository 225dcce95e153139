"""The ablation of T: metrics of the first 1, 2, 5, ... of 50 passes on test images and OOD inputs.

Passes are independent, so the first T of a plan are T random passes, and a larger T contains the smaller one.
"""

from collections.abc import Callable

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.metrics.ood import ood_metrics
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.measurement import Coordinates, Measurement

COUNTS = (1, 2, 5, 10, 20, 50)
SUITES = ("uniform", "gaussian", "cifar100", "svhn")
"""Pure noise, and one near and one far set of natural images."""


def parts(subject: Subject) -> dict[str, Coordinates]:
    """The test images, and what is to be told from them."""
    return {name: {"suite": name} for name in ("clean", *SUITES) if name != subject.data.name}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Metrics by T: of the test images, or of a suite and its separation from them.

    Raises:
        ValueError: the subject is an ensemble, whose networks are no passes of one.
    """
    subject.require_one_network("ablation-passes")
    wide = subject.independent(samples=COUNTS[-1])  # the same for each suite, test images predicted once
    _, labels, clean = wide.clean()
    if at["suite"] == "clean":
        return _by_count(lambda passes: subject.classification(first(clean, passes), labels))
    suite = wide.suite(str(at["suite"]))
    subject.suites.update(wide.suites)
    prediction = wide.predict(suite.images, suite.normalized)
    return _by_count(lambda passes: _detection(subject, first(clean, passes), first(prediction, passes)))


def first(prediction: Predictive, passes: int) -> Predictive:
    """The prediction of the first ``passes`` samples, which all count alike.

    >>> import torch
    >>> first(Predictive(torch.zeros(50, 3, 10)), 5).num_samples
    5
    """
    return Predictive(prediction.logits[:passes])


def _detection(subject: Subject, clean: Predictive, foreign: Predictive) -> dict[str, float]:
    return {**ood_metrics(clean, foreign, **subject.rule), **subject.uncertainty(foreign)}


def _by_count(metrics: Callable[[int], dict[str, float]]) -> list[Measurement]:
    return [Measurement(metrics(passes), {"passes": passes}) for passes in COUNTS]
