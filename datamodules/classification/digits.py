"""Handwritten digits that come with scikit-learn: real data for quick runs, without a download."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from datamodules.classification.base import Augment, ImageDataModule
from datamodules.loading import ImageArrays, stratified_subset


class DigitsDataModule(ImageDataModule):
    """Handwritten digits: 1,797 images, 10 classes; a stand-in for CIFAR-10 in quick runs.

    - **Source**: ``sklearn.datasets.load_digits``, which is the test part of the UCI set of the same name (13
      writers).
    - **Format**: 8x8 counts from 0 to 16, here scaled to 0..255, enlarged to 32x32 (bilinear), grey repeated
      to RGB.
    - **Splits**: ours. 20 % of each class for testing, the same for every seed; validation out of the rest.
      Images of one writer fall on both sides, so that accuracies are higher than on new writers.
    - **Cite**: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
      Repository, 1998.
    - **Terms**: CC BY 4.0 as stated by the UCI repository.

    Args:
        augment: Geometry of the training images: ``none``, ``crop`` (a shift) or ``resized_crop``.
        crop_padding: Largest shift of ``crop`` in pixels; 2 is half a pixel of the original.
        flip: Mirror training images left to right with probability 1/2.
        **kwargs: As in ``ImageDataModule``; ``root`` is not used.
    """

    name = "digits"
    class_names = tuple("0123456789")
    stand_in = True
    mean = (0.3047, 0.3047, 0.3047)
    std = (0.3236, 0.3236, 0.3236)

    def __init__(self, augment: Augment = "crop", crop_padding: int = 2, flip: bool = False, **kwargs: Any) -> None:
        super().__init__(augment=augment, crop_padding=crop_padding, flip=flip, **kwargs)

    def load(self) -> ImageArrays:
        """Read scikit-learn's copy and hold out the test split."""
        from sklearn.datasets import load_digits  # only this data set needs it

        digits = load_digits()
        small = torch.from_numpy(digits.images.astype(np.float32)) * (255 / 16)
        large = functional.interpolate(small[:, None], size=self.image_size, mode="bilinear", align_corners=False)
        images = large.round().to(torch.uint8).repeat(1, self.in_channels, 1, 1)
        labels = torch.from_numpy(digits.target.astype(np.int64))
        test = stratified_subset(labels, round(0.2 * len(labels)), seed=0)
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[test] = False
        return ImageArrays(images[kept], labels[kept], images[test], labels[test], source="scikit-learn")
