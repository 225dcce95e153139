"""Writers of miniature data in the published layouts, for the sets that are mostly evaluated on; see ``fakes.py``."""

import io
import pickle
from pathlib import Path

import numpy as np

from datamodules.corruptions.corruptions import CORRUPTIONS, SEVERITIES
from datamodules.fakes import fake_images, write_files


def write_fake_svhn(root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0) -> Path:
    """Write miniature MATLAB files of SVHN to ``root``; digit 0 has label 10, as published.

    Args:
        root: Where the data module is to look.
        n_train: Training images.
        n_test: Test images.
        seed: Decides the noise and the order of the classes.

    Returns:
        The folder.
    """
    from scipy.io import savemat  # only this data set needs it

    images, labels = fake_images(n_train + n_test, 3, 32, seed)
    contents = {}
    for part, rows in (("train", slice(0, n_train)), ("test", slice(n_train, None))):
        stream = io.BytesIO()
        digits = np.where(labels[rows] == 0, 10, labels[rows]).astype(np.uint8)[:, None]
        savemat(stream, {"X": images[rows].transpose(2, 3, 1, 0), "y": digits}, do_compression=True)
        contents[f"{part}_32x32.mat"] = stream.getvalue()
    return write_files(Path(root), contents)


def write_fake_stl10(root: str | Path, n_train: int = 50, n_test: int = 20, seed: int = 0) -> Path:
    """Write miniature binary files of STL-10, 96x96 and column by column, to ``root/stl10_binary/``.

    Args:
        root: Where the data module is to look.
        n_train: Training images.
        n_test: Test images.
        seed: Decides the noise and the order of the classes.

    Returns:
        The folder.
    """
    images, labels = fake_images(n_train + n_test, 3, 96, seed)
    contents = {}
    for part, rows in (("train", slice(0, n_train)), ("test", slice(n_train, None))):
        contents[f"{part}_X.bin"] = images[rows].transpose(0, 1, 3, 2).tobytes()
        contents[f"{part}_y.bin"] = (labels[rows] + 1).astype(np.uint8).tobytes()
    return write_files(Path(root) / "stl10_binary", contents)


def write_fake_cifar10_c(root: str | Path, n_train: int = 500, n_test: int = 100, seed: int = 0) -> Path:
    """Write miniature arrays of CIFAR-10-C to ``root/CIFAR-10-C/``.

    The images are those of ``write_fake_cifar10`` with the same arguments, darkened by 3 levels per severity and
    tinted by corruption, so that every file and every severity is told apart.

    Args:
        root: Where the data module is to look.
        n_train: Training images of the CIFAR-10 that it belongs to.
        n_test: Test images.
        seed: Decides the noise and the order of the classes.

    Returns:
        The folder.
    """
    images, labels = (part[n_train:] for part in fake_images(n_train + n_test, 3, 32, seed))
    contents = {"labels.npy": _npy(np.tile(labels, len(SEVERITIES)).astype(np.uint8))}
    for number, name in enumerate(CORRUPTIONS):
        tint = np.array([number, 0, 0])[:, None, None]
        parts = [(images.astype(int) - 3 * severity + tint).clip(0, 255) for severity in SEVERITIES]
        contents[f"{name}.npy"] = _npy(np.concatenate(parts).transpose(0, 2, 3, 1).astype(np.uint8))
    return write_files(Path(root) / "CIFAR-10-C", contents)


def write_fake_cifar100(root: str | Path, n_test: int = 100, seed: int = 0) -> Path:
    """Write a miniature test batch of CIFAR-100 to ``root/cifar-100-python/``.

    Args:
        root: Where the set is looked for.
        n_test: Images.
        seed: Decides the noise and the order of the classes.

    Returns:
        The folder.
    """
    images, labels = fake_images(n_test, 3, 32, seed)
    batch = {
        b"data": images.reshape(n_test, -1),
        b"fine_labels": (10 * labels).tolist(),
        b"coarse_labels": [0] * n_test,
    }
    return write_files(Path(root) / "cifar-100-python", {"test": pickle.dumps(batch, protocol=4)})


def write_fake_pictures(
    folder: str | Path, classes: tuple[str, ...], each: int = 2, size: tuple[int, int] = (64, 64), suffix: str = "png"
) -> list[Path]:
    """Write pictures to ``folder/<class>/``, as Tiny-ImageNet, Textures and Places365 are; returns the files.

    Args:
        folder: Folder of the set.
        classes: Names of the subfolders; "" is the folder itself.
        each: Pictures a class.
        size: Width and height in pixels.
        suffix: ``png`` or ``jpg``.
    """
    from PIL import Image  # comes with torchvision

    images, _ = fake_images(each * len(classes), 3, 8)
    paths = []
    for number, image in enumerate(images):
        path = Path(folder) / classes[number // each] / f"picture_{number:05}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).resize(size).save(path)
        paths.append(path)
    return paths


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
