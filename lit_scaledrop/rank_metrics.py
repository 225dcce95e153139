"""Torchmetrics of ranks, which keep every score: detection of out-of-distribution inputs, selective prediction.

The formulas are in :mod:`lit_scaledrop.ood` and :mod:`lit_scaledrop.selective`. States are lists that are joined over
processes, so results are exact and do not depend on how inputs spread over batches and processes.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_scaledrop import ood, selective
from lit_scaledrop.functional import Interpolation, Target
from lit_scaledrop.predictive import Predictive
from lit_scaledrop.shapes import Bool


class _ListMetric(Metric):
    """Named lists of one number per input."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, *names: str, quantile: float, threshold: float, interpolation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # of the empty tensor that torchmetrics gathers from a process without inputs
        self.set_dtype(torch.float64)
        # own names, so that compute groups do not merge metrics that agree on the first batch
        options = f"{type(self).__name__}_{quantile}_{threshold}_{interpolation}"
        self._lists = {name: f"{name}_{options}" for name in names}
        for state in self._lists.values():
            self.add_state(state, [], dist_reduce_fx="cat")

    def _append(self, **columns: Tensor) -> None:
        for name, state in self._lists.items():
            getattr(self, state).append(columns[name].double())

    def _columns(self) -> dict[str, Tensor]:
        lists = {name: getattr(self, state) for name, state in self._lists.items()}
        empty = torch.zeros(0, dtype=torch.float64)
        return {name: dim_zero_cat(parts) if len(parts) else empty for name, parts in lists.items()}


class OODDetection(_ListMetric):
    """Streaming :func:`ood.ood_metrics`: updated with predictions and which of them are out of distribution.

    >>> metric = OODDetection()
    >>> metric.update(Predictive(torch.tensor([[[9.0, 0.0], [0.1, 0.0]]])), torch.tensor([False, True]))
    >>> metric.compute()["ood/fpr95/max_probability"].item()
    0.0
    """

    def __init__(
        self,
        quantile: float = 0.1,
        threshold: float = 0.95,
        interpolation: Interpolation = "linear",
        **kwargs: Any,
    ) -> None:
        names = (*ood.SCORES, "outside", "flagged")
        super().__init__(*names, quantile=quantile, threshold=threshold, interpolation=interpolation, **kwargs)
        self.quantile, self.threshold, self.interpolation = quantile, threshold, interpolation

    def update(self, prediction: Predictive, outside: Bool[Tensor, " batch"]) -> None:
        """Add a batch; ``outside`` is True for OOD inputs."""
        if len(outside) != len(prediction.predicted_class):
            raise ValueError(f"{len(outside)} marks for a prediction of {len(prediction.predicted_class)} inputs")
        scores = ood.ood_scores(prediction, self.quantile, self.interpolation)
        flagged = prediction.is_ood(self.quantile, self.threshold, self.interpolation)
        self._append(**scores, outside=outside, flagged=flagged)

    def compute(self) -> dict[str, Tensor]:
        """The keys of :func:`ood.ood_metrics`, over all inputs so far."""
        columns = self._columns()
        outside = columns["outside"].bool()
        pairs = {name: (columns[name][~outside], columns[name][outside]) for name in ood.SCORES}
        values = ood.detection(pairs) | {"ood/rate": columns["flagged"][outside].mean().item()}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


class SelectivePrediction(_ListMetric):
    """Streaming :func:`selective.selective_metrics`, updated with predictions and targets.

    >>> metric = SelectivePrediction()
    >>> metric.update(Predictive(torch.tensor([[[0.99, 0.01], [0.6, 0.4]]]).log()), torch.tensor([0, 1]))
    >>> metric.compute()["sel/tnr"].item()
    1.0
    """

    def __init__(
        self,
        quantile: float = 0.1,
        threshold: float = 0.95,
        interpolation: Interpolation = "linear",
        num_bins: int = 15,
        **kwargs: Any,
    ) -> None:
        rule: dict[str, Any] = {"quantile": quantile, "threshold": threshold, "interpolation": interpolation}
        super().__init__("confidence", "correct", "accepted", **rule, **kwargs)
        self.rule, self.num_bins = rule, num_bins

    def update(self, prediction: Predictive, target: Target) -> None:
        """Add a batch."""
        confidence, correct, accepted = selective.outcomes(prediction, target, **self.rule)
        self._append(confidence=confidence, correct=correct, accepted=accepted)

    def compute(self) -> dict[str, Tensor]:
        """The keys of :func:`selective.selective_metrics`, over all inputs so far."""
        columns = self._columns()
        correct, accepted = columns["correct"].bool(), columns["accepted"].bool()
        values = selective.summary(columns["confidence"], correct, accepted, self.num_bins)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
