r"""Selective prediction: rejecting inputs by the paper's OOD rule (Table IX) or by confidence.

A prediction is *correct* where its most probable class is the target. The rule of eq. 26 *accepts* what it does not
call out of distribution. Independent of a threshold, the risk-coverage curve orders inputs by their confidence (the
largest mean probability) and gives the error rate (risk) among the most confident share (coverage) of them (Geifman and
El-Yaniv 2017, arXiv 1705.08500). Inputs of equal confidence have no order; no result here depends on the one given.
"""

import math

import torch
from torch import Tensor

from lit_scaledrop.functional.calibration import adaptive_calibration_error
from lit_scaledrop.functional.uncertainty import PerExample, wide_dtype
from lit_scaledrop.shapes import Bool

Mask = Bool[Tensor, " batch"]


def acceptance(accepted: Mask, correct: Mask) -> dict[str, float]:
    """Table IX of the paper: shares of a set of in-distribution inputs.

    Args:
        accepted: True where the rule does not call an input out of distribution.
        correct: True where the predicted class is right.

    Returns:
        ``sel/accept`` and ``sel/reject``, the shares of all inputs; ``sel/tpr``, the share of correct predictions that
        are accepted; ``sel/tnr``, the share of wrong ones that are rejected; ``sel/ar``, the share of accepted ones
        that are correct.
        A share of nothing (no wrong prediction, say) is undefined and left out.

    >>> acceptance(torch.tensor([True, True, False, False]), torch.tensor([True, False, True, True]))
    {'sel/accept': 0.5, 'sel/reject': 0.5, 'sel/tpr': 0.3333333333333333, 'sel/tnr': 0.0, 'sel/ar': 0.5}
    """
    _check(accepted)
    count, both = len(accepted), int((accepted & correct).sum())
    taken, right = int(accepted.sum()), int(correct.sum())
    wrong_rejected = count - taken - right + both
    shares = {
        "sel/accept": (taken, count),
        "sel/reject": (count - taken, count),
        "sel/tpr": (both, right),
        "sel/tnr": (wrong_rejected, count - right),
        "sel/ar": (both, taken),
    }
    return {name: part / whole for name, (part, whole) in shares.items() if whole}


def accepting_threshold(confidence: PerExample, share: float = 0.95) -> float:
    r"""The largest threshold that accepts at least ``share`` of the inputs, accepted being what is not below it.

    It is a confidence that occurs, so inputs of equal confidence are accepted together. Chosen on a validation split,
    it makes detection rates comparable: every network rejects (nearly) the same share of clean images.

    Args:
        confidence: Of in-distribution inputs that are no test data, e.g. ``Predictive.quantile_confidence``.
        share: Of them to accept, above 0 and up to 1.

    Raises:
        ValueError: No inputs, or ``share`` is no such share.

    >>> accepting_threshold(torch.tensor([0.9, 0.5, 0.7, 0.8]), 0.75)
    0.699999988079071
    """
    _check(confidence)
    if not 0 < share <= 1:
        raise ValueError(f"share is that of the inputs to accept, above 0 and up to 1; got {share}")
    needed = max(1, math.ceil((share - 1e-9) * len(confidence)))  # 0.95 * 140 is one step above 133
    return confidence.sort(descending=True).values[needed - 1].item()


def risk_coverage(confidence: PerExample, correct: Mask) -> tuple[PerExample, PerExample]:
    r"""Risk-coverage curve at the coverages $1/n, 2/n, \dots, 1$.

    Where the $k$ most confident inputs would part inputs of equal confidence, the risk is the expectation over their
    orders.

    Returns:
        Coverage and risk, both rising from the most confident input to all.

    >>> risk_coverage(torch.tensor([0.9, 0.8, 0.8]), torch.tensor([True, True, False]))[1]
    tensor([0.0000, 0.2500, 0.3333], dtype=torch.float64)
    """
    _check(confidence)
    wide = wide_dtype(confidence.device)
    ordered, order = confidence.sort(descending=True)
    _, group, size = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    errors = torch.zeros(len(size), dtype=wide, device=confidence.device).index_add(
        0, group, (~correct[order]).to(wide)
    )
    places = torch.arange(1, len(confidence) + 1, dtype=wide, device=confidence.device)
    return places / len(confidence), (errors / size)[group].cumsum(0) / places


def aurc(confidence: PerExample, correct: Mask) -> float:
    r"""Area under the risk-coverage curve, $\frac1n \sum_k r(k/n)$; the error rate if all confidences are equal.

    >>> round(aurc(torch.tensor([0.9, 0.8, 0.8]), torch.tensor([True, True, False])), 4)
    0.1944
    """
    return risk_coverage(confidence, correct)[1].mean().item()


def coverage_at_risk(confidence: PerExample, correct: Mask, risk: float = 0.05) -> float:
    """Largest share of inputs that a threshold on confidence accepts with an error rate of at most ``risk``.

    Inputs of equal confidence are accepted together. 0 where no threshold is good enough.

    >>> coverage_at_risk(torch.tensor([0.9, 0.8, 0.7, 0.7]), torch.tensor([True, True, True, False]), 0.2)
    0.5
    """
    _check(confidence)
    if not 0 <= risk <= 1:
        raise ValueError(f"risk is an error rate between 0 and 1; got {risk}")
    ordered, order = confidence.sort(descending=True)
    _, size = ordered.unique_consecutive(return_counts=True)
    accepted = size.cumsum(0)
    errors = (~correct[order]).cumsum(0)[accepted - 1]
    within = accepted[errors.to(wide_dtype(confidence.device)) / accepted <= risk]
    return int(within.max()) / len(confidence) if len(within) else 0.0


def summary(confidence: PerExample, correct: Mask, accepted: Mask, num_bins: int = 15) -> dict[str, float]:
    """What :func:`selective_metrics` gives, from the :func:`outcomes` of all inputs."""
    return acceptance(accepted, correct) | {
        "sel/aurc": aurc(confidence, correct),
        "sel/coverage_at_risk_5": coverage_at_risk(confidence, correct, 0.05),
        "cal/adaptive_ece": adaptive_calibration_error(confidence, correct, num_bins).item(),
        "cls/error": int((~correct).sum()) / len(correct),
    }


def _check(values: Tensor) -> None:
    if not len(values):
        raise ValueError("there are no inputs: shares, risk and coverage of nothing are undefined")
