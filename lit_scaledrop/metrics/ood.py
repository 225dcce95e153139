"""Detection of out-of-distribution inputs as a torchmetric, which keeps every score.

States are lists that are joined over processes, so results are exact and do not depend on how inputs spread over
batches and processes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_scaledrop.functional.ood import (
    InScores,
    OutScores,
    aupr,
    auroc,
    disagreement,
    energy_score,
    fpr_at_tpr,
    logit_variance,
    max_logit_score,
)
from lit_scaledrop.functional.uncertainty import Interpolation, PerExample, wide_dtype
from lit_scaledrop.metrics.samples import _ListMetric
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.shapes import Bool

SCORES: dict[str, Callable[[Predictive], Tensor]] = {
    "max_probability": lambda prediction: 1 - prediction.confidence,
    "predictive_entropy": lambda prediction: prediction.predictive_entropy,
    "mutual_information": lambda prediction: prediction.mutual_information,
    "variance": lambda prediction: prediction.variance.sum(dim=-1),
    "quantile_confidence": lambda prediction: 1 - prediction.quantile_confidence(),
    "logit_variance": lambda prediction: logit_variance(prediction.logits, prediction.weights),
    "disagreement": lambda prediction: disagreement(prediction.logits, prediction.weights),
    "energy": lambda prediction: energy_score(prediction.logits, prediction.weights),
    "max_logit": lambda prediction: max_logit_score(prediction.logits, prediction.weights),
}
"""Score of each input by name; of one sample, whatever compares samples (mutual information, the variances,
disagreement) is 0 and tells nothing."""


class OODDetection(_ListMetric):
    """Streaming :func:`ood_metrics`: updated with predictions and which of them are out of distribution.

    >>> metric = OODDetection()
    >>> metric.update(Predictive(torch.tensor([[[9.0, 0.0], [0.1, 0.0]]])), torch.tensor([False, True]))
    >>> metric.compute()["ood/fpr95/max_probability"].item()
    0.0
    """

    names = (*SCORES, "outside", "flagged")

    def update(self, prediction: Predictive, outside: Bool[Tensor, " batch"]) -> None:
        """Add a batch; ``outside`` is True for OOD inputs."""
        if len(outside) != len(prediction.predicted_class):
            raise ValueError(f"{len(outside)} marks for a prediction of {len(prediction.predicted_class)} inputs")
        scores = ood_scores(prediction, self.quantile, self.interpolation)
        flagged = prediction.is_ood(self.quantile, self.threshold, self.interpolation)
        self._append(**scores, outside=outside, flagged=flagged)

    def compute(self) -> dict[str, Tensor]:
        """The keys of :func:`ood_metrics`, over all inputs so far."""
        columns = self._columns()
        outside = columns["outside"].bool()
        pairs = {name: (columns[name][~outside], columns[name][outside]) for name in SCORES}
        values = detection(pairs) | {"ood/rate": columns["flagged"][outside].mean().item()}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def ood_scores(
    prediction: Predictive, quantile: float = 0.1, interpolation: Interpolation = "linear"
) -> dict[str, PerExample]:
    """All of :data:`SCORES`, the quantile rule's confidence for the ``quantile`` asked for.

    They are computed in float64: in float32, confident predictions all have probability one, which makes ties.

    >>> prediction = Predictive(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log())
    >>> {name: round(score.item(), 4) for name, score in ood_scores(prediction).items()}  # doctest: +ELLIPSIS
    {'max_probability': 0.3, 'predictive_entropy': 0.6109, ..., 'variance': 0.08, 'quantile_confidence': 0.46, ...}
    """
    wide = prediction.wide()
    scores = {name: score(wide) for name, score in SCORES.items() if name != "quantile_confidence"}
    scores["quantile_confidence"] = 1 - wide.quantile_confidence(quantile, interpolation)
    return {name: scores[name] for name in SCORES}


def ood_metrics(
    in_prediction: Predictive,
    out_prediction: Predictive,
    quantile: float = 0.1,
    threshold: float = 0.95,
    interpolation: Interpolation = "linear",
) -> dict[str, float]:
    """How well each score tells OOD inputs from in-distribution ones, and the share of them that eq. 26 detects.

    Returns:
        ``ood/auroc/<score>``, ``ood/aupr/<score>``, ``ood/fpr95/<score>``, and ``ood/rate`` of the OOD inputs.

    Raises:
        ValueError: One of the predictions is of no inputs.

    >>> sure, torn = Predictive(torch.tensor([[[9.0, 0.0]]])), Predictive(torch.tensor([[[0.1, 0.0]]]))
    >>> metrics = ood_metrics(sure, torn)
    >>> metrics["ood/auroc/max_probability"], metrics["ood/auroc/variance"], metrics["ood/rate"]
    (1.0, 0.5, 1.0)
    """
    inside = ood_scores(in_prediction, quantile, interpolation)
    outside = ood_scores(out_prediction, quantile, interpolation)
    flagged = out_prediction.is_ood(quantile, threshold, interpolation)
    return detection({name: (inside[name], outside[name]) for name in SCORES}) | {
        "ood/rate": float(flagged.to(wide_dtype(flagged.device)).mean())
    }


def detection(scores: dict[str, tuple[InScores, OutScores]]) -> dict[str, float]:
    """AUROC, AUPR and FPR95 of named scores, each a pair (in distribution, OOD).

    >>> detection({"entropy": (torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.4]))})
    {'ood/auroc/entropy': 1.0, 'ood/aupr/entropy': 1.0, 'ood/fpr95/entropy': 0.0}
    """
    measures = {"auroc": auroc, "aupr": aupr, "fpr95": fpr_at_tpr}
    return {
        f"ood/{key}/{name}": measure(*pair).item() for key, measure in measures.items() for name, pair in scores.items()
    }
