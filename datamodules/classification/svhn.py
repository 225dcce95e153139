"""SVHN's cropped digits from the official MATLAB files."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from datamodules.classification.base import Augment, PublishedDataModule
from datamodules.files.fileset import Download, FileSet, Read
from datamodules.files.integrity import Checksum, DatasetCorruptError
from datamodules.files.mat5 import read_arrays
from datamodules.loading import ImageArrays

_SERVER = "http://ufldl.stanford.edu/housenumbers/"
_FILES = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}


class SVHNDataModule(PublishedDataModule):
    """SVHN: 99,289 colour images of house numbers, cut to single digits, 10 classes.

    - **Source**: ``train_32x32.mat`` and ``test_32x32.mat`` (MATLAB 5) under the root; md5s required.
    - **Format**: 32x32 RGB, 0..255; neighbouring digits show at the sides. **Classes**: the digits, label 10 of the
      files being 0 here; not balanced, 1 and 2 make up a third.
    - **Splits**: official 73,257 for training, out of which comes the validation split, and 26,032 for testing. The
      531,131 "extra" images are not used.
    - **Normalization**: mean and deviation as they are commonly given for the training images.
    - **Cite**: Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng, "Reading digits in natural images with
      unsupervised feature learning", NIPS Workshop on Deep Learning and Unsupervised Feature Learning, 2011.
    - **Terms**: non-commercial use only, as the authors' page says.

    Args:
        augment: Geometry of the training images: ``none``, ``crop`` (a shift) or ``resized_crop``.
        flip: Mirror training images left to right with probability 1/2.
        **kwargs: As in ``PublishedDataModule``.
    """

    name = "svhn"
    class_names = tuple("0123456789")
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)
    files: ClassVar[FileSet] = FileSet(
        name="svhn",
        folder=".",
        files={name: Checksum(md5) for name, md5 in _FILES.items()},
        downloads=tuple(Download(name, md5, (_SERVER + name,)) for name, md5 in _FILES.items()),
        megabytes=246,
        archives=("svhn.tar", "svhn.tar.gz"),
    )

    def __init__(self, augment: Augment = "crop", flip: bool = False, **kwargs: Any) -> None:
        super().__init__(augment=augment, flip=flip, **kwargs)

    def parse(self, read: Read) -> ImageArrays:
        """Decode both MATLAB files."""
        train, test = (_matlab(name, read, self.num_classes) for name in _FILES)
        return ImageArrays(*train, *test, source=self._source("mat"))


def _matlab(name: str, read: Read, classes: int) -> tuple[Tensor, Tensor]:
    """Decode one file: ``X`` of shape (height, width, channel, image) and ``y`` from 1 to 10."""
    try:
        arrays = read_arrays(read(name))
        pixels, digits = arrays["X"], arrays["y"].astype(np.int64).ravel()
    except (ValueError, LookupError) as error:
        raise DatasetCorruptError(f"{name} is no MATLAB file of SVHN: {error}") from error
    if (
        pixels.dtype != np.uint8
        or pixels.shape != (32, 32, 3, len(digits))
        or not np.isin(digits, np.arange(1, classes + 1)).all()
    ):
        raise DatasetCorruptError(f"{name} is no MATLAB file of SVHN: images and labels do not belong together")
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))
    return images, torch.from_numpy(digits % classes)
