"""Outliers made of in-distribution images, for choices on a validation split: no test suite, and no data of its own.

The kinds are those on which D. Hendrycks, M. Mazeika and T. Dietterich, "Deep anomaly detection with outlier exposure"
(ICLR 2019, arXiv:1812.04606) choose settings so that the test suites stay unseen; the constants are ours.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.files.integrity import fingerprint
from datamodules.files.streams import Streams
from datamodules.naming import lookup
from datamodules.shapes import Float, Int, Pixels
from datamodules.suites.suites import Suite

TILES = 4
"""A jigsaw has so many tiles a side."""
SPECKLE_SD = 1.0
"""Standard deviation of the factor that speckle multiplies a pixel with, around 1; ImageNet-C's strongest has 0.6."""

Labels = Int[Tensor, " batch"]
Values = Float[Tensor, "batch channels height width"]


def _partners(images: Pixels, labels: Labels, streams: Streams) -> Values:
    """For each image another one of another class."""
    drawn, partners = streams.uniform(1)[:, 0], torch.empty_like(labels, dtype=torch.long)
    for label in labels.unique():
        others, here = (labels != label).nonzero()[:, 0], labels == label
        if not len(others):
            raise ValueError(f"outliers mix images of different classes, but all {len(images)} are of class {label}")
        partners[here] = others[(drawn[here] * len(others)).long()]
    return images[partners].float()


def _mean(images: Pixels, labels: Labels, streams: Streams) -> Values:
    return (images.float() + _partners(images, labels, streams)) / 2


def _geometric_mean(images: Pixels, labels: Labels, streams: Streams) -> Values:
    return (images.float() * _partners(images, labels, streams)).sqrt()


def _jigsaw(images: Pixels, _: Labels, streams: Streams) -> Values:
    """Tiles in random order; what is left at the lower and right edge of other sizes stays."""
    batch, channels, height, width = images.shape
    h, w = height // TILES, width // TILES
    found = images.float()
    cut = found[..., : h * TILES, : w * TILES].reshape(batch, channels, TILES, h, TILES, w)
    tiles = cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, TILES**2, channels, h, w)
    order = streams.uniform(TILES**2).argsort(1)
    mixed = tiles[torch.arange(batch)[:, None], order].reshape(batch, TILES, TILES, channels, h, w)
    found[..., : h * TILES, : w * TILES] = mixed.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, h * TILES, -1)
    return found


def _speckle(images: Pixels, _: Labels, streams: Streams) -> Values:
    return images * (1 + SPECKLE_SD * streams.normal(*images.shape[1:]).float())


def _ghost(images: Pixels, _: Labels, streams: Streams) -> Values:
    """Each channel shifted along both axes by a quarter of the size at most, and the channels in another order."""
    batch, channels, height, width = images.shape
    reach = torch.tensor([height // 4, width // 4])
    shifts = (streams.uniform(channels, 2, low=-1.0) * reach).round().long()
    rows = (torch.arange(height) - shifts[..., :1]) % height
    columns = (torch.arange(width) - shifts[..., 1:]) % width
    first = 1 + streams.integers(max(1, channels - 1), 1)
    source = (torch.arange(channels) + first) % channels
    place = torch.arange(batch)[:, None, None, None]
    return images[place, source[..., None, None], rows[..., None], columns[:, :, None]].float()


def _inverted(images: Pixels, _: Labels, streams: Streams) -> Values:
    """Some channels, at least one, as their negative."""
    channels = images.shape[1]
    chosen = 1 + streams.integers(2**channels - 1, 1)
    negative = (chosen >> torch.arange(channels)) % 2 == 1
    return torch.where(negative[..., None, None], 255 - images.float(), images.float())


_MADE: dict[str, tuple[str, Callable[[Pixels, Labels, Streams], Values]]] = {
    "mean": ("mean of two classes", _mean),
    "geometric_mean": ("geometric mean of two classes", _geometric_mean),
    "jigsaw": ("jigsaw", _jigsaw),
    "speckle": ("speckle", _speckle),
    "ghost": ("shifted channels", _ghost),
    "inverted": ("inverted channels", _inverted),
}
OUTLIERS = tuple(_MADE)
"""Kinds of outliers."""


def outliers(kind: str, images: Pixels, labels: Labels, seed: int = 0) -> Suite:
    """Outliers of one kind, one for each image.

    Args:
        kind: One of :data:`OUTLIERS`.
        images: uint8 on the scale 0 to 255, of up to 16 channels.
        labels: Their classes.
        seed: An outlier follows from it, the kind and the images.

    Returns:
        A suite of uint8 images; values are rounded and cut off at 0 and 255.

    Raises:
        ValueError: If the kind is unknown, or a mean is asked for of images of one class.

    >>> pair = torch.tensor([0, 100], dtype=torch.uint8).reshape(2, 1, 1, 1)
    >>> outliers("mean", pair, torch.tensor([0, 1])).images.flatten().tolist()
    [50, 50]
    """
    title, make = _MADE[lookup("outlier", kind, OUTLIERS)]
    streams = Streams(torch.arange(len(images)), seed, OUTLIERS.index(kind))
    made = make(images, labels, streams).round().clamp(0, 255).to(torch.uint8)
    return Suite(f"outliers/{kind}", title, "made", made, f"made of {fingerprint(images)}, seed {seed}")
