"""Table IX: which test images the rule accepts, and how often the network is right on them."""

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.functional.selective import acceptance
from lit_scaledrop.results.measurement import Coordinates, Measurement


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The test images."""
    return {"clean": {"suite": "clean"}}


def measure(subject: Subject, _at: Coordinates) -> list[Measurement]:
    """Acceptance, risk and coverage, calibration; by the validation split's threshold, and at its temperature, too.

    Both are chosen on the validation split. Without one they are left out.
    """
    from lit_scaledrop.metrics.selective import selective_metrics

    _, labels, prediction = subject.clean()
    selected = selective_metrics(prediction, labels, **subject.rule)
    found = [Measurement({**subject.classification(prediction, labels), **selected})]
    threshold, temperature = subject.validation_threshold, subject.temperature
    if threshold is not None and temperature is not None:
        accepted = ~prediction.wide().is_ood(**{**subject.rule, "threshold": threshold})
        shares = acceptance(accepted, prediction.predicted_class == labels)
        found.append(Measurement({"sel/threshold": threshold, **shares}, {"rule": "validation"}))
        tempered = subject.classification(prediction.tempered(temperature), labels)
        found.append(Measurement({"cal/temperature": temperature, **tempered}, {"condition": "tempered"}))
    return found
