"""Figure 7: accuracy and likelihood against the number of passes T, and their limit.

Passes are independent, so the first T of 50 are T random passes. Several plans show the variance of a curve. The
asymptote is the exact predictive distribution where all masks, or those that cover 99 % of the probability, can be
taken; where there are too many, it is the mean over 1000 passes of another plan, which has a Monte-Carlo error of its
own. Which of the two it is stands in the result.
"""

import torch

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.functional.uncertainty import accuracy, negative_log_likelihood
from lit_scaledrop.posterior.plans import enumerate_plan
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.measurement import Coordinates, Measurement
from lit_scaledrop.shapes import Float, Int

PLANS = 5
PASSES = 50
REFERENCE_PASSES = 1000
MASS, MAX_LEAVES = 0.99, 1024  # as PosteriorPredictive's defaults


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """Plans of 50 passes, and the asymptote."""
    return {f"plan/{number}": {"plan": number} for number in range(PLANS)} | {"asymptote": {"condition": "asymptote"}}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Accuracy and likelihood of the first 1, 2, ... passes of a plan, or of the asymptote.

    Raises:
        ValueError: the subject is an ensemble, whose networks are no passes of one.
    """
    subject.require_one_network("figure7")
    if "plan" not in at:
        return [Measurement(asymptote(subject))]
    plan = subject.independent(samples=PASSES, seed=subject.evaluation.seed + int(at["plan"]))
    images, labels = subject.test_images
    rows = prefix_metrics(plan.predict(images), labels)
    return [Measurement(row, {"passes": passes}) for passes, row in enumerate(rows, start=1)]


def asymptote(subject: Subject) -> dict[str, float]:
    """Accuracy and likelihood of the exact distribution, or of many passes where it cannot be had."""
    try:
        enumerate_plan(subject.networks[0], MASS, MAX_LEAVES)
        limit, exact = subject.independent(execution="exact"), True
    except ValueError:  # too many masks, or draws that cannot be enumerated
        limit, exact = subject.independent(samples=REFERENCE_PASSES, seed=subject.evaluation.seed + PLANS), False
    images, labels = subject.test_images
    prediction = limit.predict(images)
    return {
        "exact": float(exact),
        "passes": float(prediction.num_samples),
        "uncovered": prediction.uncovered,
        "cls/acc": accuracy(prediction.mean, labels).double().mean().item(),
        "cls/nll": negative_log_likelihood(prediction.log_mean, labels).double().mean().item(),
    }


def prefix_metrics(prediction: Predictive, labels: Int[torch.Tensor, " images"]) -> list[dict[str, float]]:
    """Metrics of the first sample, the first two, and so on, each sample counting alike.

    >>> prediction = Predictive(torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]], [[0.2, 0.8]]]).log())
    >>> [row["cls/acc"] for row in prefix_metrics(prediction, torch.tensor([1]))]
    [0.0, 0.0, 1.0]
    """
    rows = []
    total: Float[torch.Tensor, "images classes"] | None = None
    for passes, logits in enumerate(prediction.logits.double(), start=1):
        log_probs = logits.log_softmax(-1)
        total = log_probs if total is None else torch.logaddexp(total, log_probs)
        log_mean = total - torch.tensor(passes, dtype=torch.float64).log()
        nll = negative_log_likelihood(log_mean, labels).mean().item()
        rows.append({"cls/acc": accuracy(log_mean, labels).mean().item(), "cls/nll": nll})
    return rows
