"""What each logged metric means, without importing torch: for reports, the README and tests."""

from typing import NamedTuple


class MetricEntry(NamedTuple):
    """One row of the glossary."""

    description: str
    """One sentence, with unit and range."""
    higher_is_better: bool | None
    """``None`` where it depends on the data: a high entropy is right on noise and wrong on clean images."""


_SCORES = {
    "max_probability": "the largest mean probability",
    "predictive_entropy": "predictive entropy",
    "mutual_information": "mutual information",
    "variance": "the variance of the probabilities",
    "quantile_confidence": "the quantile rule's confidence",
}
_DETECTION = {
    "auroc": ("OOD detection by {}: area under the ROC curve, 0.5 for chance, to 1.", True),
    "aupr": ("OOD detection by {}: average precision, OOD positive, 0 to 1.", True),
    "fpr95": ("Share of in-distribution inputs flagged where {} flags 95 % of OOD inputs.", False),
}

METRICS: dict[str, MetricEntry] = {
    "cls/acc": MetricEntry("Share of examples whose most probable class is right, 0 to 1.", True),
    "cls/nll": MetricEntry("Negative log-likelihood of the right class under the mean prediction, nats.", False),
    "cls/brier": MetricEntry("Squared distance of the mean prediction to the one-hot target, 0 to 2.", False),
    "cal/ece": MetricEntry("Expected calibration error of the top class, 15 equal-width bins, 0 to 1.", False),
    "unc/predictive_entropy": MetricEntry("Entropy of the mean prediction: total uncertainty, nats.", None),
    "unc/expected_entropy": MetricEntry("Mean entropy of the samples: uncertainty within one sample, nats.", None),
    "unc/mutual_information": MetricEntry("Predictive minus expected entropy: disagreement, nats.", None),
    "ood/rate": MetricEntry("Share of inputs that the quantile rule calls out-of-distribution, 0 to 1.", None),
    "cls/error": MetricEntry("Share of examples whose most probable class is wrong, 0 to 1.", False),
    "cal/adaptive_ece": MetricEntry(
        "Calibration error of the top class, 15 bins of equally many examples, 0 to 1.", False
    ),
    "sel/accept": MetricEntry("Share of inputs that the quantile rule accepts, 0 to 1.", None),
    "sel/reject": MetricEntry("Share of inputs that the quantile rule rejects, 0 to 1.", None),
    "sel/tpr": MetricEntry("Share of correct predictions that the rule accepts, 0 to 1.", True),
    "sel/tnr": MetricEntry("Share of wrong predictions that the rule rejects, 0 to 1.", True),
    "sel/ar": MetricEntry("Share of accepted predictions that are correct, 0 to 1.", True),
    "sel/aurc": MetricEntry("Area under the risk-coverage curve, inputs ordered by confidence, 0 to 1.", False),
    "sel/coverage_at_risk_5": MetricEntry("Most confident share of inputs with an error of at most 5 %, 0 to 1.", True),
    "chip/same_logits": MetricEntry("Share of inputs whose logits on a chip are those of the digital network.", True),
    "chip/same_class": MetricEntry("Share of inputs whose class on a chip is that of the digital network.", True),
} | {
    f"ood/{key}/{score}": MetricEntry(text.format(name), better)
    for key, (text, better) in _DETECTION.items()
    for score, name in _SCORES.items()
}
