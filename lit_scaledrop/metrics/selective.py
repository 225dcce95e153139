"""Metrics of prediction with a reject option."""

from typing import Any

import torch
from torch import Tensor

from lit_scaledrop.functional.selective import Mask, summary
from lit_scaledrop.functional.uncertainty import Interpolation, PerExample, Target
from lit_scaledrop.metrics.samples import _ListMetric
from lit_scaledrop.posterior.predictive import Predictive


class SelectivePrediction(_ListMetric):
    """Streaming :func:`selective_metrics`, updated with predictions and targets.

    >>> metric = SelectivePrediction()
    >>> metric.update(Predictive(torch.tensor([[[0.99, 0.01], [0.6, 0.4]]]).log()), torch.tensor([0, 1]))
    >>> metric.compute()["sel/tnr"].item()
    1.0
    """

    names = ("confidence", "correct", "accepted")

    def __init__(self, *rule: Any, num_bins: int = 15, **options: Any) -> None:
        super().__init__(*rule, **options)
        self.num_bins = num_bins

    def update(self, prediction: Predictive, target: Target) -> None:
        """Add a batch."""
        confidence, correct, accepted = outcomes(prediction, target, self.quantile, self.threshold, self.interpolation)
        self._append(confidence=confidence, correct=correct, accepted=accepted)

    def compute(self) -> dict[str, Tensor]:
        """The keys of :func:`selective_metrics`, over all inputs so far."""
        columns = self._columns()
        correct, accepted = columns["correct"].bool(), columns["accepted"].bool()
        values = summary(columns["confidence"], correct, accepted, self.num_bins)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def selective_metrics(
    prediction: Predictive,
    target: Target,
    quantile: float = 0.1,
    threshold: float = 0.95,
    interpolation: Interpolation = "linear",
    num_bins: int = 15,
) -> dict[str, float]:
    """Table IX with the rule of eq. 26, and what orders predictions by confidence, on in-distribution inputs.

    Returns:
        The keys of :func:`acceptance`, ``sel/aurc``, ``sel/coverage_at_risk_5``, ``cal/adaptive_ece``, ``cls/error``.

    Raises:
        ValueError: No inputs, or another number of targets.

    >>> prediction = Predictive(torch.tensor([[[0.99, 0.01], [0.6, 0.4]]]).log())
    >>> metrics = selective_metrics(prediction, torch.tensor([0, 1]))
    >>> metrics["sel/tpr"], metrics["sel/tnr"], metrics["sel/aurc"], metrics["cls/error"]
    (1.0, 1.0, 0.25, 0.5)
    """
    return summary(*outcomes(prediction, target, quantile, threshold, interpolation), num_bins)


def outcomes(
    prediction: Predictive,
    target: Target,
    quantile: float = 0.1,
    threshold: float = 0.95,
    interpolation: Interpolation = "linear",
) -> tuple[PerExample, Mask, Mask]:
    """Confidence (in float64, where values next to one differ), correct, and accepted by eq. 26, for each input."""
    if target.shape != prediction.predicted_class.shape:
        raise ValueError(f"{len(target)} targets for a prediction of {len(prediction.predicted_class)} inputs")
    correct = prediction.predicted_class == target
    return prediction.wide().confidence, correct, ~prediction.is_ood(quantile, threshold, interpolation)
