"""MNIST from the official idx files."""

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datamodules.classification.base import Augment, PublishedDataModule
from datamodules.files.fileset import Download, FileSet, Read
from datamodules.files.integrity import Checksum, DatasetCorruptError
from datamodules.loading import ImageArrays

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_PACKED = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


class MNISTDataModule(PublishedDataModule):
    """MNIST: 70,000 images of handwritten digits, 10 classes.

    - **Source**: the four idx files under ``MNIST/raw/`` (torchvision's layout), gzip'd or not; md5s
      required.
    - **Format**: 28x28 grey, 0..255, here with two zeros added on every side (32x32).
    - **Splits**: official 60,000 for training, out of which comes the validation split, and 10,000 for
      testing (writers of the two do not overlap).
    - **Cite**: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
      recognition", Proc. IEEE 86(11), 1998.
    - **Terms**: not established; often quoted as CC BY-SA 3.0.

    Args:
        channels: 1 for grey, 3 for grey repeated to RGB.
        augment: Geometry of the training images: ``none``, ``crop`` (a shift) or ``resized_crop``.
        flip: Mirror training images left to right with probability 1/2.
        **kwargs: As in ``PublishedDataModule``.
    """

    name = "mnist"
    class_names = tuple("0123456789")
    border = 2
    files: ClassVar[FileSet] = FileSet(
        name="mnist",
        folder="MNIST/raw",
        files={
            "train-images-idx3-ubyte": Checksum("6bbc9ace898e44ae57da46a324031adb", 47_040_016),
            "train-labels-idx1-ubyte": Checksum("a25bea736e30d166cdddb491f175f624", 60_008),
            "t10k-images-idx3-ubyte": Checksum("2646ac647ad5339dbf082846283269ea", 7_840_016),
            "t10k-labels-idx1-ubyte": Checksum("27ae3e4e09519cfbb04c329615203637", 10_008),
        },
        downloads=tuple(
            Download(f"MNIST/raw/{name}", md5, tuple(mirror + name for mirror in _MIRRORS))
            for name, md5 in _PACKED.items()
        ),
        megabytes=12,
        archives=("mnist-idx.tar", "mnist.tar.gz"),
    )

    def __init__(
        self, channels: Literal[1, 3] = 1, augment: Augment = "none", flip: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(augment=augment, flip=flip, **kwargs)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, not {channels!r}")
        self.in_channels = channels
        self.mean, self.std = (0.1000,) * channels, (0.2752,) * channels  # of the padded images

    def parse(self, read: Read) -> ImageArrays:
        """Decode the four idx files."""
        parts: list[Tensor] = []
        for part in ("train", "t10k"):
            images = _idx(f"{part}-images-idx3-ubyte", read)
            labels = _idx(f"{part}-labels-idx1-ubyte", read)
            if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
                raise DatasetCorruptError(
                    f"MNIST {part}: {tuple(images.shape)} images for {tuple(labels.shape)} labels"
                )
            padded = functional.pad(images, [self.border] * 4)[:, None]
            parts += [padded.expand(-1, self.in_channels, -1, -1), labels.long()]
        train_images, train_labels, test_images, test_labels = parts
        return ImageArrays(train_images, train_labels, test_images, test_labels, self._source("idx"))


def _idx(name: str, read: Read) -> Tensor:
    """Decode one idx file of bytes: two zeros, type 8, number of axes, each axis as 32 bits, values."""
    content = read(name)
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = np.frombuffer(content, ">u4", axes, 4).tolist() if len(content) >= 4 + 4 * axes else []
    if not 1 <= axes <= 3 or len(content) != 4 + 4 * axes + math.prod(shape):
        raise DatasetCorruptError(f"{name} is no idx file of bytes, or is not as long as its header says")
    # a copy, because a tensor must own memory that it may write to
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())
