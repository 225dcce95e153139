"""Augmentation of an image together with its mask, with albumentations; nothing else here imports it or OpenCV.

albumentations 2.0.8 is the last release under a permissive licence and is no longer maintained. Two of its habits are
worked around, and a third in ``elastic``:

- Worker processes start from copies of one random state: two workers, and two epochs, would draw the same. Here each
  item has a state of its own, made from (seed, epoch, index).
- ``Compose.set_random_seed`` gives every transform a generator of its own with the same seed, so that an image would be
  mirrored left to right if and only if it is turned upside down. Here all transforms draw from one generator in turn.

Cite: A. Buslaev et al., "Albumentations: fast and flexible image augmentations", Information 11(2), 2020; for elastic
deformation P. Y. Simard, D. Steinkraus, J. C. Platt, "Best practices for convolutional neural networks applied to
visual document analysis", ICDAR 2003.
"""

import importlib.util
import os
import random
from typing import Any

import numpy as np

from datamodules.loading import stream_seed
from datamodules.shapes import UInt8


class JointAugmentation:
    """Flips, a small affine map, elastic deformation, brightness and contrast.

    What comes in from beyond the border is the mirrored image with its mirrored mask. Masks are moved by nearest
    neighbour: no label is made that was not there, and "ignore" stays what it is.

    Args:
        seed: Different seeds give unrelated draws.
        size: Height and width of the images in pixels; elastic shifts are about 1/64 of it.
        flips: Whether to mirror left to right, and upside down, each with probability 1/2.

    Raises:
        ModuleNotFoundError: If albumentations is not installed.
    """

    def __init__(self, seed: int, size: int, flips: tuple[bool, bool] = (True, False)) -> None:
        if importlib.util.find_spec("albumentations") is None:
            lacks = "augment='full' needs albumentations 2.0.8 (or choose augment='flip')"
            raise ModuleNotFoundError(lacks, name="albumentations")
        self.seed, self.size, self.flips = seed, size, flips
        self._compose: Any = None

    def __call__(
        self,
        image: UInt8[np.ndarray, "channels height width"],
        mask: UInt8[np.ndarray, "height width"],
        epoch: int,
        index: int,
    ) -> tuple[UInt8[np.ndarray, "channels height width"], UInt8[np.ndarray, "height width"]]:
        """Augment one item; the result is a function of the item and (seed, epoch, index)."""
        if self._compose is None:
            self._compose = _transforms(self.size, self.flips)
        word = stream_seed(self.seed, epoch, index)
        self._compose.set_random_state(np.random.default_rng(word), random.Random(word))
        done = self._compose(image=np.ascontiguousarray(image.transpose(1, 2, 0)), mask=mask)
        moved = done["image"].reshape(*mask.shape, -1).transpose(2, 0, 1)
        return np.ascontiguousarray(moved), np.ascontiguousarray(done["mask"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compose": None}  # every worker makes its own


def single_threaded(_: int) -> None:
    """Keep OpenCV to one thread in a worker process; there are as many workers as cores already."""
    import cv2

    cv2.setNumThreads(0)


def _transforms(size: int, flips: tuple[bool, bool]) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the package index
    import albumentations as A
    import cv2

    border = cv2.BORDER_REFLECT_101
    shape = {"scale": (0.9, 1.1), "translate_percent": (-0.05, 0.05), "rotate": (-15, 15), "shear": (-5, 5)}
    affine = A.Affine(**shape, border_mode=border, p=0.75)
    contrast = A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5)
    flipped = [A.HorizontalFlip(p=0.5 * flips[0]), A.VerticalFlip(p=0.5 * flips[1])]
    return A.Compose([*flipped, affine, elastic(size, p=0.25), contrast])


def elastic(size: int, p: float) -> Any:
    """A smooth random field of shifts whose deviation is 1/64 of the image, at any place in it.

    albumentations blurs its noise with replicated borders, so that a corner of the image would be shifted by several
    times as much as its middle, and by a good part of the image. So the field is made for a larger one, and cut.

    Args:
        size: Height and width of the images in pixels.
        p: How often it is applied.
    """
    import albumentations as A
    import cv2

    border, sigma = cv2.BORDER_REFLECT_101, max(1.0, size / 16)
    whole = size + 2 * round(3 * sigma)
    # the noise is divided by its largest value, about 4.3, and blurred, which leaves 1 / (2 sqrt(pi) sigma) of it
    alpha = size / 64 * 4.3 * 2 * float(np.pi) ** 0.5 * sigma
    steps = [
        A.PadIfNeeded(whole, whole, border_mode=border),
        A.ElasticTransform(alpha=alpha, sigma=sigma, border_mode=border, p=1),
        A.CenterCrop(size, size),
    ]
    return A.Sequential(steps, p=p)
