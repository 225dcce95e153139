"""The OOD rule's quantile and threshold: the share of test images accepted, and of noise rejected."""

import torch

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.results.measurement import Coordinates, Measurement

QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5)
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.999)
SUITES = ("uniform", "test_uniform")


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The test images, pure noise, and test images with noise."""
    return {name: {"suite": name} for name in ("clean", *SUITES)}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Share of inputs that the rule rejects, by quantile and threshold; of test images also the error of the others.

    With nothing accepted there is no error, and it is left out.
    """
    labels = None
    if at["suite"] == "clean":
        _, labels, prediction = subject.clean()
    else:
        suite = subject.suite(str(at["suite"]))
        prediction = subject.predict(suite.images, suite.normalized)
    found = []
    for quantile in QUANTILES:
        confidence = prediction.quantile_confidence(quantile, subject.evaluation.interpolation)
        rejected = confidence < torch.tensor(THRESHOLDS, dtype=confidence.dtype)[:, None]
        for threshold, mask in zip(THRESHOLDS, rejected, strict=True):
            metrics = {"rate": mask.double().mean().item()}
            if labels is not None and not mask.all():
                metrics["error"] = (prediction.predicted_class != labels)[~mask].double().mean().item()
            found.append(Measurement(metrics, {"quantile": quantile, "threshold": threshold}))
    return found
