"""Table X: corrupted test images, as they are and with re-normalized channels."""

from typing import Any

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.measurement import Coordinates, Measurement


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The test images, and each corruption and severity twice: ``corrupted/fog/3`` and ``renormalized/fog/3``."""
    from datamodules.suites.suites import GROUPS

    named: dict[str, Coordinates] = {"clean": {"suite": "clean"}}
    for variant in ("corrupted", "renormalized"):
        for name in GROUPS["corruptions"]:
            _, corruption, severity = name.split("/")
            at: Coordinates = {"suite": variant, "corruption": corruption, "severity": int(severity)}
            named["/".join(map(str, at.values()))] = at
    return named


def constants(_evaluation: Evaluation) -> dict[str, Any]:
    """The version of the generator: images of another one are another result."""
    from datamodules.corruptions.corruptions import VERSION

    return {"corruptions": VERSION}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Error, OOD rate, likelihood and calibration."""
    from datamodules.suites.suites import renormalized

    if at["suite"] == "clean":
        _, labels, prediction = subject.clean()
        return [Measurement(subject.classification(prediction, labels))]
    suite = subject.suite(f"corrupted/{at['corruption']}/{at['severity']}")
    if suite.labels is None:
        raise ValueError(f"the suite {suite.name!r} has no labels, so its error cannot be measured")
    anew = at["suite"] == "renormalized"
    images = renormalized(suite.images) if anew else suite.images
    prediction = subject.predict(images, anew or suite.normalized)
    return [Measurement(subject.classification(prediction, suite.labels))]
