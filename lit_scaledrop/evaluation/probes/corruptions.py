"""Table X: corrupted test images, as they are and with their channels normalized anew."""

from typing import Any

from lit_scaledrop.evaluation.probes.subject import Subject


def parts(_subject: Subject) -> list[str]:
    """The test images, and each corruption and severity twice: ``corrupted/fog/3`` and ``renormalized/fog/3``."""
    from datamodules.suites.suites import GROUPS

    corrupted = list(GROUPS["corruptions"])
    return ["clean", *corrupted, *(name.replace("corrupted/", "renormalized/", 1) for name in corrupted)]


def constants() -> dict[str, Any]:
    """The version of the generator: images of another one are another result."""
    from datamodules.corruptions.corruptions import VERSION

    return {"corruptions": VERSION}


def measure(subject: Subject, part: str) -> dict[str, float]:
    """Error, OOD rate, likelihood and calibration."""
    from datamodules.suites.suites import renormalized

    if part == "clean":
        _, labels, prediction = subject.clean()
        return subject.classification(prediction, labels)
    suite = subject.suite(part.replace("renormalized/", "corrupted/", 1))
    if suite.labels is None:
        raise ValueError(f"the suite {suite.name!r} has no labels, so its error cannot be measured")
    anew = part.startswith("renormalized/")
    images = renormalized(suite.images) if anew else suite.images
    return subject.classification(subject.predict(images, anew or suite.normalized), suite.labels)
