"""Torchmetrics of predictions: the formulas are in :mod:`lit_scaledrop.functional`, only sums live here.

All states are float64 sums, so a result does not depend on how examples spread over batches and processes.
Computed before any update, a metric is NaN (and torchmetrics warns), never 0.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from lit_scaledrop.functional import calibration, uncertainty
from lit_scaledrop.functional.uncertainty import Interpolation, PerExample, Target
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.shapes import Float


class _SumMetric(Metric):
    """One float64 state that adds up over batches and processes."""

    is_differentiable = False
    full_state_update = False
    plot = Metric._plot
    higher_is_better: bool | None = None

    def __init__(self, *options: object, shape: tuple[int, ...], num_classes: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        # A collection's compute groups share one state between metrics whose states have the same name and,
        # after the first batch, the same value (an accuracy and an OOD rate of 1, say). Hence own names.
        self._name = "_".join(["sum", type(self).__name__, *map(str, options)])
        self.add_state(self._name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def sums(self) -> Tensor:
        """The state."""
        return getattr(self, self._name)

    def _add(self, batch: Tensor) -> None:
        setattr(self, self._name, self.sums + batch.to(self.sums.dtype))

    def _apply(self, fn: Callable, exclude_state: Sequence[str] = "") -> torch.nn.Module:
        try:
            fn(torch.zeros(1, dtype=torch.float64))
        except TypeError:  # MPS has no float64
            self._defaults[self._name] = torch.zeros_like(self.sums, dtype=torch.float32)
            setattr(self, self._name, self.sums.float())
        return super()._apply(fn, exclude_state)

    def _check(self, predictive: Predictive, target: Target | None) -> None:
        batch, classes = predictive.logits.shape[1:]
        if self.num_classes not in (None, classes):
            raise ValueError(f"this metric is for {self.num_classes} classes, the prediction has {classes}")
        if target is None:
            return
        if target.shape != (batch,):
            raise ValueError(f"expected a target of shape ({batch},), got {tuple(target.shape)}")
        if batch and (target.min() < 0 or target.max() >= classes):
            found = f"{target.min().item()} to {target.max().item()}"
            raise ValueError(f"targets must be class indices from 0 to {classes - 1}, got {found}")


class _MeanMetric(_SumMetric):
    """Mean of one number per example."""

    def __init__(self, *options: object, num_classes: int | None = None, **kwargs: Any) -> None:
        super().__init__(*options, shape=(2,), num_classes=num_classes, **kwargs)

    def _add_examples(self, values: Tensor) -> None:
        values = values.to(self.sums.dtype)
        self._add(torch.stack([values.sum(), torch.ones_like(values).sum()]))

    def compute(self) -> Float[Tensor, ""]:
        """Mean over all examples so far."""
        return self.sums[0] / self.sums[1]


class _TargetMetric(_MeanMetric):
    @abstractmethod
    def _values(self, predictive: Predictive, target: Target) -> PerExample: ...

    def update(self, predictive: Predictive, target: Target) -> None:
        """Add a batch."""
        self._check(predictive, target)
        self._add_examples(self._values(predictive, target))


class _UncertaintyMetric(_MeanMetric):
    @abstractmethod
    def _values(self, predictive: Predictive) -> Tensor: ...

    def update(self, predictive: Predictive, target: Target | None = None) -> None:
        """Add a batch; the target is not used, and may be left off where there is none."""
        self._check(predictive, target)
        self._add_examples(self._values(predictive))


class Accuracy(_TargetMetric):
    """Share of examples whose most probable class is right.

    >>> metric = Accuracy()
    >>> metric.update(Predictive(torch.tensor([[[0.7, 0.3], [0.6, 0.4]]]).log()), torch.tensor([0, 1]))
    >>> metric.compute().item()
    0.5
    """

    higher_is_better = True

    def _values(self, predictive: Predictive, target: Target) -> PerExample:
        return uncertainty.accuracy(predictive.mean, target)


class NegativeLogLikelihood(_TargetMetric):
    """Negative log-likelihood of the target under the mean prediction, in nats.

    >>> metric = NegativeLogLikelihood()
    >>> metric.update(Predictive(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()), torch.tensor([0]))
    >>> round(metric.compute().item(), 4)  # -log 0.7
    0.3567
    """

    higher_is_better = False

    def _values(self, predictive: Predictive, target: Target) -> PerExample:
        return uncertainty.negative_log_likelihood(predictive.log_mean, target)


class BrierScore(_TargetMetric):
    """Squared distance of the mean prediction to the one-hot target, summed over classes, from 0 to 2.

    >>> metric = BrierScore()
    >>> metric.update(Predictive(torch.tensor([[[0.7, 0.2, 0.1]]]).log()), torch.tensor([0]))
    >>> round(metric.compute().item(), 4)
    0.14
    """

    higher_is_better = False

    def _values(self, predictive: Predictive, target: Target) -> PerExample:
        return uncertainty.brier_score(predictive.mean, target)


class CalibrationError(_SumMetric):
    """Expected calibration error of the mean, see :func:`calibration.expected_calibration_error`.

    Not torchmetrics' class: that one closes its bins on the left, gives confidence 1 a bin of its own and
    stores every prediction.

    >>> metric = CalibrationError()
    >>> metric.update(Predictive(torch.tensor([[[0.8, 0.2], [0.4, 0.6]]]).log()), torch.tensor([0, 0]))
    >>> round(metric.compute().item(), 4)
    0.4
    """

    higher_is_better = False

    def __init__(self, num_bins: int = 15, num_classes: int | None = None, **kwargs: Any) -> None:
        super().__init__(num_bins, shape=(num_bins, 3), num_classes=num_classes, **kwargs)
        self.num_bins = num_bins

    def update(self, predictive: Predictive, target: Target) -> None:
        """Add a batch to the bins."""
        self._check(predictive, target)
        self._add(calibration.calibration_bins(predictive.mean, target, self.num_bins))

    def compute(self) -> Float[Tensor, ""]:
        """Calibration error of all examples so far."""
        return calibration.calibration_error(self.sums)


class PredictiveEntropy(_UncertaintyMetric):
    """Entropy of the mean prediction, in nats."""

    def _values(self, predictive: Predictive) -> Tensor:
        return predictive.predictive_entropy


class ExpectedEntropy(_UncertaintyMetric):
    """Mean entropy of the samples, in nats."""

    def _values(self, predictive: Predictive) -> Tensor:
        return predictive.expected_entropy


class MutualInformation(_UncertaintyMetric):
    """Predictive minus expected entropy, in nats."""

    def _values(self, predictive: Predictive) -> Tensor:
        return predictive.mutual_information


class OODRate(_UncertaintyMetric):
    """Share of inputs that the quantile rule (eq. 26) calls out-of-distribution.

    >>> metric = OODRate()
    >>> probs = torch.tensor([[[0.99, 0.01], [0.99, 0.01]], [[0.89, 0.11], [0.98, 0.02]]])
    >>> metric.update(Predictive(probs.log()))
    >>> metric.compute().item()
    0.5
    """

    def __init__(
        self,
        quantile: float = 0.1,
        threshold: float = 0.95,
        interpolation: Interpolation = "linear",
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(quantile, threshold, interpolation, num_classes=num_classes, **kwargs)
        self.quantile, self.threshold, self.interpolation = quantile, threshold, interpolation

    def _values(self, predictive: Predictive) -> Tensor:
        return predictive.is_ood(self.quantile, self.threshold, self.interpolation)


def uncertainty_metrics(
    quantile: float = 0.1,
    threshold: float = 0.95,
    interpolation: Interpolation = "linear",
    num_classes: int | None = None,
) -> MetricCollection:
    """The metrics that need no target, for out-of-distribution inputs; keys as in the glossary.

    >>> metrics = uncertainty_metrics(threshold=0.6)
    >>> metrics.update(Predictive(torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]]).log()))
    >>> metrics.compute()["ood/rate"].item()
    1.0
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "unc/predictive_entropy": PredictiveEntropy(num_classes=num_classes),
        "unc/expected_entropy": ExpectedEntropy(num_classes=num_classes),
        "unc/mutual_information": MutualInformation(num_classes=num_classes),
        "ood/rate": OODRate(quantile, threshold, interpolation, num_classes=num_classes),
    }
    return MetricCollection(metrics)


def classification_metrics(
    num_classes: int,
    quantile: float = 0.1,
    threshold: float = 0.95,
    interpolation: Interpolation = "linear",
    num_bins: int = 15,
) -> MetricCollection:
    """All metrics of a classifier, updated with ``(predictive, target)``; keys as in the glossary.

    >>> metrics = classification_metrics(num_classes=2)
    >>> metrics.update(Predictive(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()), torch.tensor([0]))
    >>> {key: round(value.item(), 2) for key, value in metrics.compute().items() if key.startswith("c")}
    {'cal/ece': 0.3, 'cls/acc': 1.0, 'cls/brier': 0.18, 'cls/nll': 0.36}
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "cls/acc": Accuracy(num_classes=num_classes),
        "cls/nll": NegativeLogLikelihood(num_classes=num_classes),
        "cls/brier": BrierScore(num_classes=num_classes),
        "cal/ece": CalibrationError(num_bins, num_classes=num_classes),
    }
    metrics |= dict(uncertainty_metrics(quantile, threshold, interpolation, num_classes).items())
    return MetricCollection(metrics)
