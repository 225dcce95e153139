r"""Posterior: histograms of each class's logit over T passes, and how close they come to a normal distribution.

The images are the first test images. The first T of 1000 independent passes are compared, so a histogram grows and is
not drawn anew. A network with L random bits has at most $2^L$ different outputs: its posterior is a finite mixture,
which no T makes normal. So beside the distance to the fitted normal distribution stand the distance that T truly normal
numbers have, and the number of different outputs among the passes.
"""

import torch
from torch import Tensor

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.results.measurement import Coordinates, Measurement
from lit_scaledrop.shapes import Float

IMAGES = 3
PASSES = (10, 50, 200, 1000)
BINS = 24
NORMAL_REPEATS = 200


def parts(subject: Subject) -> dict[str, Coordinates]:
    """The first test images."""
    return {f"image/{number}": {"image": number} for number in range(min(IMAGES, len(subject.test_images[1])))}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Counts in equal bins between the extremes of all passes, moments, distances to a normal distribution.

    Raises:
        ValueError: nothing in the network is random.
    """
    number = int(at["image"])
    images, labels = subject.test_images
    posterior = subject.independent(samples=max(PASSES))
    logits = posterior.predict(images[number : number + 1]).logits[:, 0].double()
    if len(logits) == 1:
        raise ValueError("the network is deterministic: its posterior is a point, of which there is no histogram")
    low, high = logits.amin(0), logits.amax(0)
    found = [Measurement({"label": float(labels[number]), "passes": float(len(logits))})]
    ends = enumerate(zip(low.tolist(), high.tolist(), strict=True))
    found += [Measurement({"low": least, "high": most}, {"class": label}) for label, (least, most) in ends]
    # where members of an ensemble make more samples, the first are of the first member: take them evenly
    order = torch.arange(len(logits)).view(len(subject.networks), -1).T.flatten()
    for passes in PASSES:
        found += [one.within({"passes": passes}) for one in _grown(logits[order[:passes]], low, high)]
    return found


def _grown(values: Tensor, low: Tensor, high: Tensor) -> list[Measurement]:
    distances = normal_distance(values)
    different = float(len(values.unique(dim=0)))
    found = [Measurement({"distinct": different, "normal_distance": normal_reference(len(values))})]
    for label, column in enumerate(values.unbind(1)):
        metrics = {"mean": column.mean().item(), "std": column.std().item()}
        if distances[label].isfinite():
            metrics["distance"] = distances[label].item()
        found.append(Measurement(metrics, {"class": label}))
        counts = torch.histc(column, BINS, low[label].item(), high[label].item()).tolist()
        found += [Measurement({"count": n}, {"class": label, "bin": number}) for number, n in enumerate(counts)]
    return found


def normal_distance(values: Float[Tensor, "samples columns"]) -> Float[Tensor, " columns"]:
    r"""Kolmogorov-Smirnov distance of each column to the normal distribution of its own mean and deviation.

    $\sup_x |F_T(x) - \Phi((x - \bar x) / s)|$, Lilliefors' statistic, with $s$ from $T - 1$: 0 for a perfect fit. NaN
    where all values are equal.

    >>> round(normal_distance(torch.tensor([[-1.0], [0.0], [1.0]])).item(), 4)
    0.1747
    """
    count = len(values)
    ordered = (values - values.mean(0)).div(values.std(0)).sort(dim=0).values
    normal = torch.special.ndtr(ordered)
    # ties need no care: the steps of equal values lie between those of the first and the last of them
    rank = torch.arange(1, count + 1, dtype=values.dtype, device=values.device)[:, None]
    return torch.maximum(rank / count - normal, normal - (rank - 1) / count).amax(0)


def normal_reference(samples: int) -> float:
    """Mean :func:`normal_distance` of so many truly normal numbers, from 200 seeded repeats."""
    generator = torch.Generator().manual_seed(samples)
    numbers = torch.randn(samples, NORMAL_REPEATS, generator=generator, dtype=torch.float64)
    return normal_distance(numbers).mean().item()
