r"""Posterior: histograms of each class's logit over T passes, and how close they come to a normal distribution.

The images are the first test images. The first T of 1000 independent passes are compared, so a histogram grows and is
not drawn anew. A network with L random bits has at most $2^L$ different outputs: its posterior is a finite mixture,
which no T makes normal. So beside the distance to the fitted normal distribution stand the distance that T truly normal
numbers have, and the number of different outputs among the passes.
"""

import torch
from torch import Tensor

from lit_scaledrop.evaluation.probes.passes import asked
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.shapes import Float

IMAGES = 3
PASSES = (10, 50, 200, 1000)
BINS = 24
NORMAL_REPEATS = 200


def parts(subject: Subject) -> list[str]:
    """The first test images."""
    return [f"image/{number}" for number in range(min(IMAGES, len(subject.test_images[1])))]


def measure(subject: Subject, part: str) -> dict[str, float]:
    """Counts in equal bins between the extremes of all passes, moments, distances to a normal distribution.

    Raises:
        ValueError: nothing in the network is random.
    """
    number = int(part.rpartition("/")[2])
    images, labels = subject.test_images
    posterior = asked(subject, samples=max(PASSES))
    logits = posterior.predict(images[number : number + 1]).logits[:, 0].double()
    if len(logits) == 1:
        raise ValueError("the network is deterministic: its posterior is a point, of which there is no histogram")
    metrics = {"label": float(labels[number]), "passes": float(len(logits))}
    low, high = logits.amin(0), logits.amax(0)
    for label in range(logits.shape[1]):
        metrics |= {f"class/{label}/low": low[label].item(), f"class/{label}/high": high[label].item()}
    # where members of an ensemble make more samples, the first are of the first member: take them evenly
    order = torch.arange(len(logits)).view(len(subject.networks), -1).T.flatten()
    for passes in PASSES:
        metrics |= _grown(logits[order[:passes]], low, high, f"T/{passes}")
    return metrics


def _grown(values: Tensor, low: Tensor, high: Tensor, name: str) -> dict[str, float]:
    passes = len(values)
    metrics = {
        f"{name}/distinct": float(len(values.unique(dim=0))),
        f"{name}/normal_distance": normal_reference(passes),
    }
    distances = normal_distance(values)
    for label in range(values.shape[1]):
        key = f"{name}/class/{label}"
        counts = torch.histc(values[:, label], BINS, low[label].item(), high[label].item())
        metrics |= {f"{key}/bin/{number}": count for number, count in enumerate(counts.tolist())}
        metrics |= {f"{key}/mean": values[:, label].mean().item(), f"{key}/std": values[:, label].std().item()}
        if distances[label].isfinite():
            metrics[f"{key}/distance"] = distances[label].item()
    return metrics


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
