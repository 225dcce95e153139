"""Synthetic pictures that show their class, a colour and a stripe under noise: a network learns them in seconds."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = 10


def fake_images(number: int, channels: int, size: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (number, channels, size, size), and labels in random order, as balanced as they can be.

    >>> images, labels = fake_images(20, channels=3, size=32)
    >>> images.shape, np.bincount(labels).tolist()
    ((20, 3, 32, 32), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(number) % CLASSES)
    look = np.random.default_rng(0).uniform(40, 200, (CLASSES, channels))  # the same classes for every seed
    images = np.repeat(look[labels][:, :, None, None], size, 2).repeat(size, 3)
    stripe = size * labels // CLASSES
    for image, row in zip(images, stripe, strict=True):
        image[:, row : row + size // 8] = 255
    images += random.normal(0, 20, images.shape)
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def write_fake_pictures(
    folder: str | Path, classes: tuple[str, ...], each: int = 2, size: tuple[int, int] = (64, 64), suffix: str = "png"
) -> list[Path]:
    """Write ``each`` pictures to every ``folder/<class>/``; "" is the folder itself. Returns the files."""
    images, _ = fake_images(each * len(classes), 3, 8)
    paths = []
    for number, image in enumerate(images):
        path = Path(folder) / classes[number // each] / f"picture_{number:05}.{suffix}"
        save(path, np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize(size)))
        paths.append(path)
    return paths


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture in the format that its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
