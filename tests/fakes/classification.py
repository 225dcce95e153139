"""Miniature classification sets, and sets to evaluate on; ``seed`` decides the noise and the order of the classes."""

import gzip
import io
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from datamodules.corruptions.corruptions import CORRUPTIONS, SEVERITIES
from datamodules.files.integrity import RECORD, md5_of, parse_record, write_atomically
from fakes.pictures import CLASSES, fake_images

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def write_fake_cifar10(root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0) -> Path:
    """Write batches to ``root/cifar-10-batches-py/``."""
    (images, labels), test = _splits(n_train, n_test, 3, 32, seed)
    contents = {
        "batches.meta": pickle.dumps({b"label_names": [b"fake"] * CLASSES}, protocol=4),
        "test_batch": _batch(*test),
    }
    for number, part in enumerate(np.array_split(np.arange(n_train), 5), start=1):
        contents[f"data_batch_{number}"] = _batch(images[part], labels[part])
    return _write(Path(root) / "cifar-10-batches-py", contents)


def write_fake_mnist(
    root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0, packed: bool = True
) -> Path:
    """Write idx files to ``root/MNIST/raw/``, as ``.gz`` unless ``packed`` is false."""
    contents = {}
    for part, (images, labels) in zip(("train", "t10k"), _splits(n_train, n_test, 1, 28, seed), strict=True):
        header = struct.pack(">IIII", 0x803, *images[:, 0].shape)
        contents[f"{part}-images-idx3-ubyte"] = header + images.tobytes()
        contents[f"{part}-labels-idx1-ubyte"] = struct.pack(">II", 0x801, len(labels)) + labels.astype("u1").tobytes()
    return _write(Path(root) / "MNIST" / "raw", contents, packed)


def write_fake_svhn(root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0) -> Path:
    """Write MATLAB files to ``root``; digit 0 has label 10, as published."""
    contents = {}
    for part, (images, labels) in zip(("train", "test"), _splits(n_train, n_test, 3, 32, seed), strict=True):
        stream = io.BytesIO()
        digits = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(stream, {"X": images.transpose(2, 3, 1, 0), "y": digits}, do_compression=True)
        contents[f"{part}_32x32.mat"] = stream.getvalue()
    return _write(Path(root), contents)


def write_fake_stl10(root: str | Path, n_train: int = 50, n_test: int = 20, seed: int = 0) -> Path:
    """Write binary files, 96x96 and column by column, to ``root/stl10_binary/``."""
    contents = {}
    for part, (images, labels) in zip(("train", "test"), _splits(n_train, n_test, 3, 96, seed), strict=True):
        contents[f"{part}_X.bin"] = images.transpose(0, 1, 3, 2).tobytes()
        contents[f"{part}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
    return _write(Path(root) / "stl10_binary", contents)


def write_fake_cifar10_c(root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0) -> Path:
    """Write arrays to ``root/CIFAR-10-C/``.

    The images are the test images of ``write_fake_cifar10`` with the same arguments, darkened by 3 levels per severity
    and tinted by corruption, so that every file and every severity is told apart.
    """
    _, (images, labels) = _splits(n_train, n_test, 3, 32, seed)
    contents = {"labels.npy": _npy(np.tile(labels, len(SEVERITIES)).astype(np.uint8))}
    for number, name in enumerate(CORRUPTIONS):
        tint = np.array([number, 0, 0])[:, None, None]
        parts = [(images.astype(int) - 3 * severity + tint).clip(0, 255) for severity in SEVERITIES]
        contents[f"{name}.npy"] = _npy(np.concatenate(parts).transpose(0, 2, 3, 1).astype(np.uint8))
    return _write(Path(root) / "CIFAR-10-C", contents)


def write_fake_cifar100(root: str | Path, n_test: int = 100, seed: int = 0) -> Path:
    """Write a test batch to ``root/cifar-100-python/``."""
    images, labels = fake_images(n_test, 3, 32, seed)
    batch = {
        b"data": images.reshape(n_test, -1),
        b"fine_labels": (10 * labels).tolist(),
        b"coarse_labels": [0] * n_test,
    }
    return _write(Path(root) / "cifar-100-python", {"test": pickle.dumps(batch, protocol=4)})


def _splits(n_train: int, n_test: int, channels: int, size: int, seed: int) -> tuple[Split, Split]:
    images, labels = fake_images(n_train + n_test, channels, size, seed)
    return (images[:n_train], labels[:n_train]), (images[n_train:], labels[n_train:])


def _batch(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    return pickle.dumps({b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}, protocol=4)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _write(folder: Path, contents: dict[str, bytes], packed: bool = False) -> Path:
    """Write files, ``.gz`` where packed, and beside them the ``checksums.md5`` of what they hold unpacked."""
    for name, content in contents.items():
        if packed:
            write_atomically(folder / f"{name}.gz", gzip.compress(content, mtime=0))
        else:
            write_atomically(folder / name, content)
    record(folder, contents)
    return folder


def record(folder: Path, contents: Mapping[str, bytes]) -> None:
    """State md5s in the folder's ``checksums.md5``, beside those of other files that it states."""
    known = parse_record((folder / RECORD).read_bytes()) if (folder / RECORD).exists() else {}
    sums = {name: one.md5 for name, one in known.items()} | {name: md5_of(data) for name, data in contents.items()}
    write_atomically(folder / RECORD, "".join(f"{md5}  {name}\n" for name, md5 in sums.items()).encode())
