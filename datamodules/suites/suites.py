"""What a trained network is asked about beside its test set: out-of-distribution suites and shifted test sets, by name.

- noise (the paper's): ``gaussian``, ``uniform``, ``test_gaussian``, ``test_uniform``
- other data: ``svhn``, ``stl10`` (the paper's); ``cifar100``, ``tiny_imagenet``, ``mnist``, ``textures``,
  ``places365``, ``cifar10``
- shifted test images, whose labels stay: ``corrupted/<corruption>/<severity>``, ``rotation/<degrees>``
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from datamodules.classification.base import ImageDataModule, PublishedDataModule
from datamodules.classification.cifar10 import CIFAR10DataModule
from datamodules.classification.mnist import MNISTDataModule
from datamodules.classification.stl10 import STL10DataModule
from datamodules.classification.svhn import SVHNDataModule
from datamodules.corruptions.corruptions import CORRUPTIONS, SEVERITIES, VERSION, corrupt
from datamodules.files.fileset import Checksums
from datamodules.files.integrity import DatasetCorruptError, fingerprint
from datamodules.naming import lookup
from datamodules.pictures import resized, with_channels
from datamodules.shapes import Float, Images
from datamodules.suites.cifar10_c import CIFAR10C
from datamodules.suites.evaluation_sets import CIFAR100, ImageSet, Pictures, Places365, Textures, TinyImageNet, order
from datamodules.suites.suite_noise import gaussian, uniform

Kind = Literal["noise", "near", "far", "natural", "shift", "made"]
ANGLES = tuple(range(0, 181, 15))
"""Degrees by which the rotated test set is turned."""

_SETS: dict[str, tuple[Kind, type[ImageSet] | type[PublishedDataModule], str]] = {
    "svhn": ("far", SVHNDataModule, "SVHN"),
    "stl10": ("natural", STL10DataModule, "STL-10"),
    "cifar100": ("near", CIFAR100, "CIFAR-100"),
    "tiny_imagenet": ("near", TinyImageNet, "Tiny-ImageNet"),
    "mnist": ("far", MNISTDataModule, "MNIST"),
    "textures": ("far", Textures, "Textures"),
    "places365": ("far", Places365, "Places365"),
    "cifar10": ("natural", CIFAR10DataModule, "CIFAR-10"),
}
_NOISE = {
    "gaussian": "Gaussian noise",
    "uniform": "Uniform noise",
    "test_gaussian": "Test images + Gaussian noise",
    "test_uniform": "Test images + uniform noise",
}
GROUPS: dict[str, tuple[str, ...]] = {
    "table6": ("gaussian", "uniform", "test_gaussian", "test_uniform", "svhn", "stl10"),
    "near": ("cifar100", "tiny_imagenet"),
    "far": ("mnist", "svhn", "textures", "places365"),
    "corruptions": tuple(f"corrupted/{name}/{severity}" for name in CORRUPTIONS for severity in SEVERITIES),
    "rotation": tuple(f"rotation/{angle}" for angle in ANGLES),
}
"""Suites that are shown together: the paper's six, OpenOOD's for CIFAR-10, CIFAR-10-C, and the rotated test set."""


@dataclass(frozen=True, eq=False)
class Suite:
    """Images to ask a network about."""

    name: str
    title: str
    """For tables."""
    kind: Kind
    """What it is to the training data: ``shift`` keeps the classes; ``near`` and ``far`` are OpenOOD's for CIFAR-10;
    ``made`` are outliers made of its images."""
    images: Tensor
    """(images, channels, height, width) as the in-distribution data; uint8 or float32 on the scale 0 to 255."""
    source: str
    """What a result says about where the images come from."""
    labels: Tensor | None = None
    """(images,) where the classes are those of the in-distribution data."""
    normalized: bool = False
    """Whether the images are network inputs already, and not to be normalized."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits for images and labels."""
        return fingerprint(self.images) if self.labels is None else fingerprint(self.images, self.labels)


def load_suite(name: str, data: ImageDataModule, limit: int | None = None, seed: int = 0) -> Suite:
    """Load or make one suite.

    Args:
        name: As listed at the top of this module.
        data: The in-distribution data, set up; other data is looked for under its root.
        limit: Number of images at most: the first test images for noise and shifts, the first after a seeded shuffle
            otherwise. Pure noise has as many images as the test set.
        seed: Seed of the noise, the corruptions and the shuffle.

    Raises:
        ValueError: If the name is unknown (with the nearest match), names the in-distribution data itself, or limit is
            below 1.
        DatasetNotFoundError: If the data is absent; the message says how to get it.
        DatasetCorruptError: If a file is truncated or altered.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None, not {limit}")
    family = name.partition("/")[0]
    if name in _NOISE:
        return _noise_suite(name, data, limit, seed)
    if name in _SETS:
        return _set_suite(name, data, limit, seed)
    if family == "rotation":
        return _rotated_suite(name, data, limit)
    shown = (*_NOISE, *_SETS, "corrupted/<corruption>/<severity>", "rotation/<degrees>")
    lookup("suite", name, [*_NOISE, *_SETS, *GROUPS["corruptions"], *GROUPS["rotation"]], shown)
    return _corrupted_suite(name, data, limit, seed)


def renormalized(images: Images) -> Float[Tensor, "batch channels height width"]:
    """Network inputs in which each channel of each image has mean 0 and deviation 1 (Table X, "preprocessing").

    Our reading of the paper's channel-wise re-normalization: every image is given the training set's mean and
    deviation in each channel, which after the usual normalization are 0 and 1. The scale of the input does not
    matter. Channels of one value become 0.

    >>> renormalized(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).flatten().tolist()
    [-1.0, 1.0]
    """
    floats = images.float()
    centred = floats - floats.mean((2, 3), keepdim=True)
    return centred / centred.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def rotated(images: Images, degrees: float) -> Tensor:
    """Turn images counter-clockwise about their centre; bilinear, black where there was nothing."""
    from torchvision.transforms.v2 import InterpolationMode, functional  # type: ignore[import-untyped]

    return functional.rotate(images, degrees, interpolation=InterpolationMode.BILINEAR, fill=0)


def _noise_suite(name: str, data: ImageDataModule, limit: int | None, seed: int) -> Suite:
    clean, normal = data.test_set.images[:limit], name.endswith("gaussian")
    draw, kind = (gaussian if normal else uniform), 1 + list(_NOISE).index(name)
    images = draw(len(clean), (data.in_channels, data.image_size, data.image_size), seed, kind)
    if name.startswith("test"):
        images = (data.normalized(clean) if normal else clean.float()) + images
    return Suite(name, _NOISE[name], "noise", images, f"generated, seed {seed}", normalized=normal)


def _set_suite(name: str, data: ImageDataModule, limit: int | None, seed: int) -> Suite:
    kind, reader, title = _SETS[name]
    if name == data.name:
        raise ValueError(f"suite {name!r} is the in-distribution data itself; choose another suite")
    checksums = _checksums(data)
    if issubclass(reader, ImageSet):
        pictures = reader().load(_root(data), limit, seed, checksums)
    else:
        arrays = reader(root=str(_root(data)), checksums=checksums).load()
        pictures = Pictures(arrays.test_images[order(len(arrays.test_images), limit, seed)], title, arrays.source)
    images = with_channels(resized(pictures.images, data.image_size), data.in_channels)
    return Suite(name, pictures.title, kind, images, pictures.source)


def _corrupted_suite(name: str, data: ImageDataModule, limit: int | None, seed: int) -> Suite:
    _, corruption, severity = name.split("/")
    images, labels = data.test_set.images[:limit], data.test_set.labels[:limit]
    title = f"{corruption.replace('_', ' ')}, severity {severity}"
    root, checksums = _root(data), _checksums(data)
    if data.name == "cifar10" and CIFAR10C.files.is_meant(root):  # a part of it is an error, and no reason to generate
        released, theirs = CIFAR10C().load(root, corruption, int(severity), checksums)
        if not torch.equal(theirs, data.test_set.labels):
            raise DatasetCorruptError("CIFAR-10-C's labels.npy are not the labels of CIFAR-10's test set in order")
        source = "released" if checksums == "official" else "released (unofficial)"
        return Suite(name, title, "shift", released[:limit], source, labels)
    made = corrupt(images, corruption, int(severity), seed)
    return Suite(name, title, "shift", made, f"generated (version {VERSION}), seed {seed}", labels)


def _rotated_suite(name: str, data: ImageDataModule, limit: int | None) -> Suite:
    angle = name.partition("/")[2]
    try:
        degrees = float(angle)
        if not math.isfinite(degrees):
            raise ValueError
    except ValueError:
        raise ValueError(f"unknown suite {name!r}; after rotation/ comes a number of degrees") from None
    images = rotated(data.test_set.images[:limit], degrees)
    return Suite(name, f"rotated by {degrees:g}°", "shift", images, "rotated test images", data.test_set.labels[:limit])


def _root(data: ImageDataModule) -> Path:
    """Folder of the data, also where the root is an archive in it."""
    return data.root.parent if data.root.is_file() else data.root


def _checksums(data: ImageDataModule) -> Checksums:
    return data.checksums if isinstance(data, PublishedDataModule) else "official"
