"""Figure 5: one test image under growing uniform noise, and the outputs of the passes for each class.

The image is the first test image that the network classifies correctly without noise: a rule independent of the image
and of uncertainty. It may differ between networks, so its index is recorded.
"""

import torch
from torch import Tensor

from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.functional.uncertainty import predictive_mean, predictive_variance, quantile_interval
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.measurement import Coordinates, Measurement

STRENGTHS = tuple(step / 10 for step in range(11))
"""Multiples of the noise of the suite ``test_uniform``, U(0, 255) on the pixel scale."""
SEEDS = 10
"""Noise patterns; each is the same at all strengths."""
PASSES = 100
LEVEL = 0.95


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The strengths of the noise."""
    return {f"strength/{strength:g}": {"strength": strength} for strength in STRENGTHS}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Mean, variance and 95 % interval over the passes of each class's logit and probability; means over the patterns.

    The interval is that of the passes (their quantiles), not of their mean.

    Raises:
        ValueError: no test image is classified correctly.
    """
    from datamodules.suites.suite_noise import uniform_noise

    index, label = first_correct(subject)
    image = subject.test_images[0][index : index + 1]
    noisy = torch.cat([uniform_noise(image, float(at["strength"]), seed) for seed in range(SEEDS)])
    prediction = subject.predict(noisy, samples=PASSES)
    about = {"image": float(index), "label": float(label), "patterns": float(SEEDS)}
    return [
        Measurement({**about, "passes": float(prediction.num_samples), **subject.uncertainty(prediction)}),
        *_classes("logits", prediction.logits, prediction),
        *_classes("probs", prediction.probs, prediction),
    ]


def first_correct(subject: Subject) -> tuple[int, int]:
    """Number and label of the first test image that is classified correctly.

    Raises:
        ValueError: there is none.
    """
    images, labels = subject.test_images
    for start in range(0, len(images), subject.data.eval_batch_size):
        batch = slice(start, start + subject.data.eval_batch_size)
        right = (subject.predict(images[batch]).predicted_class == labels[batch]).nonzero()
        if len(right):
            index = start + int(right[0])
            return index, int(labels[index])
    raise ValueError(f"none of the {len(images)} test images is classified correctly; train the network first")


def _classes(of: str, values: Tensor, prediction: Predictive) -> list[Measurement]:
    low, high = quantile_interval(values, LEVEL, prediction.weights)
    statistics = {
        "mean": predictive_mean(values, prediction.weights),
        "variance": predictive_variance(values, prediction.weights),
        "low": low,
        "high": high,
    }
    means = {name: rows.double().mean(0).tolist() for name, rows in statistics.items()}
    return [
        Measurement({name: values[label] for name, values in means.items()}, {"of": of, "class": label})
        for label in range(values.shape[-1])
    ]
