"""What a search for uncertainty goes by: the validation split and outliers made of it, no test image, no test suite."""

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.results.measurement import Coordinates, Measurement

CLEAN = "validation"
_SAID = {
    "val/predictive_acc": "cls/acc",
    "val/predictive_nll": "cls/nll",
    "val/predictive_ece": "cal/ece",
    "val/mutual_information": "unc/mutual_information",
}


def parts(subject: Subject) -> dict[str, Coordinates]:
    """The validation images, and each kind of outliers; images of one channel have no channels to shift."""
    from datamodules.suites.outliers import OUTLIERS

    kinds = [kind for kind in OUTLIERS if kind != "ghost" or subject.data.in_channels > 1]
    return {name: {"suite": name} for name in (CLEAN, *kinds)}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Accuracy, NLL, ECE and mutual information of the validation images, or the AUROC of outliers by each score.

    Raises:
        ValueError: there is no validation split.
    """
    from datamodules.suites.outliers import outliers
    from lit_scaledrop.metrics.ood import SCORES, ood_metrics

    if subject.validation is None:
        raise ValueError("there is no validation split to measure on; data.val_fraction must be above 0")
    images, labels, clean = subject.validation
    if at["suite"] == CLEAN:
        found = subject.classification(clean, labels)
        return [Measurement({name: found[metric] for name, metric in _SAID.items()})]
    suite = outliers(str(at["suite"]), images, labels)
    subject.note(str(at["suite"]), suite)
    found = ood_metrics(clean, subject.predict(suite.images), **subject.rule)
    return [Measurement({f"val/auroc/{score}": found[f"ood/auroc/{score}"] for score in SCORES})]
