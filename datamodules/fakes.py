"""Writers of miniature data in the published layouts, for tests and dry runs of the pipeline.

The pictures are synthetic (each class a colour and a stripe, under noise), so that a network can learn them
in seconds. They load with ``checksums="recorded"`` only, and ``source`` then says ``unofficial``.
"""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.files.integrity import RECORD, format_record, md5_of, write_atomically

CLASSES = 10


def fake_images(number: int, channels: int, size: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Make images that show their class, and labels in random order, as balanced as they can be.

    Args:
        number: How many.
        channels: Colour channels.
        size: Height and width in pixels.
        seed: Decides the order of the labels and the noise.

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


def write_fake_cifar10(root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0) -> Path:
    """Write miniature CIFAR-10 batches to ``root/cifar-10-batches-py/``.

    Args:
        root: Where the data module is to look.
        n_train: Training images, spread over the five batches.
        n_test: Test images.
        seed: Decides the noise and the order of the classes.

    Returns:
        The folder.
    """
    images, labels = fake_images(n_train + n_test, 3, 32, seed)
    contents = {
        "batches.meta": pickle.dumps({b"label_names": [b"fake"] * CLASSES}, protocol=4),
        "test_batch": _pickled(images[n_train:], labels[n_train:]),
    }
    for number, part in enumerate(np.array_split(np.arange(n_train), 5), start=1):
        contents[f"data_batch_{number}"] = _pickled(images[part], labels[part])
    return write_files(Path(root) / "cifar-10-batches-py", contents)


def write_fake_mnist(
    root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0, packed: bool = True
) -> Path:
    """Write miniature MNIST idx files to ``root/MNIST/raw/``.

    Args:
        root: Where the data module is to look.
        n_train: Training images.
        n_test: Test images.
        seed: Decides the noise and the order of the classes.
        packed: Write ``.gz`` files, as published.

    Returns:
        The folder.
    """
    images, labels = fake_images(n_train + n_test, 1, 28, seed)
    contents = {}
    for part, rows in (("train", slice(0, n_train)), ("t10k", slice(n_train, None))):
        pixels, classes = images[rows, 0], labels[rows].astype(np.uint8)
        header = struct.pack(">IIII", 0x803, *pixels.shape)
        contents[f"{part}-images-idx3-ubyte"] = header + pixels.tobytes()
        contents[f"{part}-labels-idx1-ubyte"] = struct.pack(">II", 0x801, len(classes)) + classes.tobytes()
    return write_files(Path(root) / "MNIST" / "raw", contents, packed)


def _pickled(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    return pickle.dumps({b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}, protocol=4)


def write_files(folder: Path, contents: dict[str, bytes], packed: bool = False) -> Path:
    """Write files, and beside them the ``checksums.md5`` that says what they should hold.

    Args:
        folder: Where they go.
        contents: Content by file name.
        packed: Write each as ``.gz``; the record is of what is inside.

    Returns:
        The folder.
    """
    for name, content in contents.items():
        if packed:
            write_atomically(folder / f"{name}.gz", gzip.compress(content, mtime=0))
        else:
            write_atomically(folder / name, content)
    record = {name: md5_of(content) for name, content in contents.items()}
    write_atomically(folder / RECORD, format_record(record))
    return folder
