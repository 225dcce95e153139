"""The 15 corruptions of CIFAR-10-C in five severities, generated from clean images.

D. Hendrycks, T. Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
2019, with the constants of the authors' generator of CIFAR-10-C. Frost's photographs are generated textures here, with
the photographs' brightness and contrast; motion blur needs no ImageMagick; the random draws are others, so that images
are like the released ones and not equal to them. As theirs, results are cut down to whole grey levels.

The mean distance of pixels to the clean image grows with severity in 11 of the 15. The constants of the others do not
ask for it: motion blur's severities 3 and 4 have one Gaussian; glass blur moves pixels once in 1 to 3 and twice in 4
and 5, under a blur that also smooths; frost dims the image from 3 on; elastic shifts the whole image less and bends it
more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datamodules.corruptions import blur, digital, noise, weather
from datamodules.files.streams import Streams
from datamodules.naming import lookup
from datamodules.shapes import Pixels

CHUNK = 64
"""Images worked on at once, so that they stay in the processor's cache; no result depends on it."""
SEVERITIES = (1, 2, 3, 4, 5)
VERSION = 2
"""Raised whenever a generated image changes, and said in its source and in the identity of what is measured on it.
Version 1, whose sources say none: darker and more contrasty frost, the last enlargement of zoom blur at severity 5 a
pixel short, snow a fraction of a level brighter, JPEG by an approximation of libjpeg."""


@dataclass(frozen=True)
class Corruption:
    """A function of (images, streams, constants) and its constants for the five severities."""

    apply: Callable[..., Tensor]
    constants: tuple[tuple[Any, ...], ...]


def _steps(*values: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple((value,) for value in values)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(noise.gaussian_noise, _steps(0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(noise.shot_noise, _steps(500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(noise.impulse_noise, _steps(0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(blur.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))),
    "glass_blur": Corruption(blur.glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": Corruption(blur.motion_blur, ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))),
    # up to 1.06, 1.11, 1.15, 1.20, 1.25: numpy.arange includes its end in the first two cases
    "zoom_blur": Corruption(blur.zoom_blur, _steps(7, 12, 16, 21, 26)),
    "snow": Corruption(
        weather.snow,
        (
            (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
        ),
    ),
    "frost": Corruption(weather.frost, ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": Corruption(weather.fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
    "brightness": Corruption(weather.brightness, _steps(0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(digital.contrast, _steps(0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        digital.elastic_transform,
        ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Corruption(digital.pixelate, _steps(0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(digital.jpeg_compression, _steps(80, 65, 58, 50, 40)),
}
"""Every corruption by the name of its released file, in the paper's order."""


def corrupt(
    images: Pixels,
    name: str,
    severity: int,
    seed: int = 0,
    first_index: int = 0,
) -> Pixels:
    """Corrupt a batch; image ``i`` comes out the same in any batch that has it at the same index.

    The work is done in float64, whose rounding is far too small to move a pixel by a level where the order of sums
    varies with the size of the batch or the device.

    Args:
        images: RGB or grey images.
        name: One of ``CORRUPTIONS``.
        severity: From 1 to 5.
        seed: Seed of all draws.
        first_index: Index of the first image; image ``k`` of the batch draws from the stream of ``first_index + k``.

    Raises:
        ValueError: If name or severity are unknown, or the images have another number of channels.

    >>> clean = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
    >>> corrupt(clean, "brightness", 2)[0, 0, 0, 0].item()  # 0.1 of 255 more
    125
    """
    corruption = CORRUPTIONS[lookup("corruption", name, CORRUPTIONS)]
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be from 1 to 5, not {severity!r}")
    if images.shape[1] not in (1, 3):
        raise ValueError(f"corruptions are for images of 1 or 3 channels, not {images.shape[1]}")
    words = (seed, list(CORRUPTIONS).index(name), severity)
    result = torch.empty_like(images)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        indices = torch.arange(start, start + len(part), device=images.device) + first_index
        corrupted = corruption.apply(part.double() / 255, Streams(indices, *words), *corruption.constants[severity - 1])
        result[start : start + CHUNK] = (corrupted * 255 + 1e-6).floor().clamp(0, 255).to(torch.uint8)
    return result
