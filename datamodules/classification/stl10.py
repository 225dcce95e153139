"""STL-10 from the official binary files, reduced to 32x32."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from datamodules.classification.base import Augment, PublishedDataModule
from datamodules.files.fileset import Download, FileSet, Read
from datamodules.files.integrity import Checksum, DatasetCorruptError
from datamodules.loading import ImageArrays
from datamodules.pictures import resized

_SIDE = 96
_OURS = (0, 2, 1, 3, 4, 5, 7, 6, 8, 9)
"""Our label of each class of the files, which are in alphabetical order: airplane, bird, car, ..., monkey, ..."""


class STL10DataModule(PublishedDataModule):
    """STL-10's labelled part: 13,000 colour images, 10 classes.

    - **Source**: ``train_X.bin``, ``train_y.bin``, ``test_X.bin``, ``test_y.bin`` in ``stl10_binary/`` (torchvision's
      layout), or the archive of it; md5s required. The 100,000 unlabelled images, most of the archive, are not used.
    - **Format**: 96x96 RGB, here reduced to 32x32 (bilinear, antialiased), 0..255.
    - **Classes**: 1,300 images each. Labels are CIFAR-10's where the class is: nine are, under CIFAR-10's names;
      "monkey" has no counterpart and takes the label of "frog", 6, which STL-10 has not. As an out-of-distribution
      suite for CIFAR-10, as the paper uses it, nine of its ten classes are thus in distribution, in other pictures.
    - **Splits**: official 5,000 for training, out of which comes the validation split, and 8,000 for testing; the ten
      predefined folds are not used.
    - **Normalization**: mean and deviation as they are commonly given for the images of full size.
    - **Cite**: A. Coates, H. Lee, A. Y. Ng, "An analysis of single-layer networks in unsupervised feature learning",
      AISTATS 2011.
    - **Terms**: not established; the images come from ImageNet (non-commercial research and education).

    Args:
        augment: Geometry of the training images: ``none``, ``crop`` (a shift) or ``resized_crop``.
        flip: Mirror training images left to right with probability 1/2.
        **kwargs: As in ``PublishedDataModule``.
    """

    name = "stl10"
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "monkey", "horse", "ship", "truck")
    mean = (0.4467, 0.4398, 0.4066)
    std = (0.2603, 0.2566, 0.2713)
    files: ClassVar[FileSet] = FileSet(
        name="stl10",
        folder="stl10_binary",
        files={
            "train_X.bin": Checksum("918c2871b30a85fa023e0c44e0bee87f", 5_000 * 3 * _SIDE**2),
            "train_y.bin": Checksum("5a34089d4802c674881badbb80307741", 5_000),
            "test_X.bin": Checksum("7f263ba9f9e0b06b93213547f721ac82", 8_000 * 3 * _SIDE**2),
            "test_y.bin": Checksum("36f9794fa4beb8a2c72628de14fa638e", 8_000),
        },
        downloads=(
            Download(
                "stl10_binary.tar.gz",
                "91f7769df0f17e558f3565bffb0c7dfb",
                ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
            ),
        ),
        megabytes=2640,
        archives=("stl10_binary.tar.gz", "stl10_binary.tar"),
    )

    def __init__(self, augment: Augment = "crop", flip: bool = True, **kwargs: Any) -> None:
        super().__init__(augment=augment, flip=flip, **kwargs)

    def parse(self, read: Read) -> ImageArrays:
        """Decode the labelled images and reduce them."""
        train, test = (_part(part, read) for part in ("train", "test"))
        return ImageArrays(*train, *test, source=self._source("binary, 32x32"))


def _part(part: str, read: Read) -> tuple[Tensor, Tensor]:
    """Decode one split: images as channels of columns, labels from 1 to 10."""
    labels = np.frombuffer(read(f"{part}_y.bin"), np.uint8).astype(np.int64)
    pixels = np.frombuffer(read(f"{part}_X.bin"), np.uint8)
    if len(pixels) != len(labels) * 3 * _SIDE**2 or not np.isin(labels, np.arange(1, 11)).all():
        raise DatasetCorruptError(f"STL-10 {part}: {len(pixels):,} bytes of images for {len(labels):,} labels")
    upright = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 1, 3, 2)
    small = [resized(torch.from_numpy(chunk.copy()), 32) for chunk in np.array_split(upright, len(upright) // 500 + 1)]
    return torch.cat(small), torch.tensor(_OURS)[torch.from_numpy(labels - 1)]
