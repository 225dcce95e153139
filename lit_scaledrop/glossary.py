"""What each logged metric means, without importing torch: for reports, the README and tests."""

from typing import NamedTuple


class MetricEntry(NamedTuple):
    """One row of the glossary."""

    description: str
    """One sentence, with unit and range."""
    higher_is_better: bool | None
    """``None`` where it depends on the data: a high entropy is right on noise and wrong on clean images."""


METRICS: dict[str, MetricEntry] = {
    "cls/acc": MetricEntry("Share of examples whose most probable class is right, 0 to 1.", True),
    "cls/nll": MetricEntry("Negative log-likelihood of the right class under the mean prediction, nats.", False),
    "cls/brier": MetricEntry("Squared distance of the mean prediction to the one-hot target, 0 to 2.", False),
    "cal/ece": MetricEntry("Expected calibration error of the top class, 15 equal-width bins, 0 to 1.", False),
    "unc/predictive_entropy": MetricEntry("Entropy of the mean prediction: total uncertainty, nats.", None),
    "unc/expected_entropy": MetricEntry("Mean entropy of the samples: uncertainty within one sample, nats.", None),
    "unc/mutual_information": MetricEntry("Predictive minus expected entropy: disagreement, nats.", None),
    "ood/rate": MetricEntry("Share of inputs that the quantile rule calls out-of-distribution, 0 to 1.", None),
}
