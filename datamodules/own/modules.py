"""Data modules of users' images, described by a ``DATA.yaml``."""

from pathlib import Path
from typing import Any

import torch

from datamodules.base import DataModule, require
from datamodules.classification.base import Augment, ImageDataModule
from datamodules.files.integrity import DatasetCorruptError, fingerprint
from datamodules.loading import ImageArrays, ImageDataset
from datamodules.own.description import OwnData, load_own
from datamodules.own.read import Contents, arrays, ends_of, read_own
from datamodules.segmentation.base import PairAugment, SegmentationDataModule
from datamodules.segmentation.masked_images import MaskedImageDataset, MaskedImages
from datamodules.shapes import Int


class _Described(DataModule):
    """What the two share: the description, its facts, and that the pictures are still those that it was made of."""

    own: OwnData
    file: Path
    _read: Contents

    def _take(self, root: str, digest: str | None, masks: bool) -> OwnData:
        """Read the description, and check that it is the one that is meant."""
        self.file = Path(root).expanduser()
        self.own = own = load_own(self.file)
        require(masks == (own.masks is not None), "root", root, f"a description {'with' if masks else 'without'} masks")
        if digest not in (None, own.digest):
            raise DatasetCorruptError(f"{root} has changed: its digest is {own.digest}, expected was {digest}")
        self.name, self.class_names, self.in_channels = own.name, own.class_names, own.channels
        self.mean, self.std = own.mean, own.std
        return own

    def load(self) -> Any:
        """Decode all pictures, and compare them with the fingerprint of the description."""
        self._read = read_own(self.own, self.file.parent)
        contents = arrays(self.own, self._read)
        if (found := fingerprint(*contents.tensors)) != self.own.fingerprint:
            raise DatasetCorruptError(
                f"the images in {self.own.images} are not those of {self.file} was written of (fingerprint {found} "
                f"instead of {self.own.fingerprint}): restore them, or delete {self.file} and read the folder again"
            )
        return contents

    @property
    def image_facts(self) -> dict[str, Any]:
        """With size, square and window."""
        return super().image_facts | self.own.facts

    @property
    def split_facts(self) -> dict[str, Any]:
        """The digest of the description, which has the parts."""
        return {"digest": self.own.digest}

    def _parts(self) -> list[Int[torch.Tensor, " part"]]:
        """Places of the training, validation and test images."""
        first, second = ends_of(self.own, self._read)
        return list(torch.arange(len(self._read.row)).tensor_split([first, second]))


class OwnImagesDataModule(_Described, ImageDataModule):
    """Pictures of one's own in a folder a class, whole in memory at one square size.

    Args:
        root: The description, ``DATA.yaml``; ``scaledrop fit --images DIR`` writes it.
        digest: What its digest has to be; None takes what is there.
        augment: As in ``ImageDataModule``, and so are the arguments behind it.
        batch_size: None takes 64, or 16 where fewer files than that are for training.
    """

    def __init__(
        self,
        root: str = "DATA.yaml",
        digest: str | None = None,
        augment: Augment = "crop",
        crop_padding: int = 4,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        flip: bool = False,
        batch_size: int | None = None,
        eval_batch_size: int = 100,
        seed: int = 0,
        limit_train: int | None = None,
    ) -> None:
        own = self._take(root, digest, masks=False)
        batch_size = batch_size or (64 if len(own.parts["train"]) >= 64 else 16)
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        super().__init__(None, augment, crop_padding, crop_scale, flip, **sizes, seed=seed, limit_train=limit_train)
        self.image_size = own.size

    def split(self, contents: ImageArrays) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
        """The parts of the description."""
        images, labels = contents.train_images, contents.train_labels
        train, val, _ = self._parts()
        kept = ImageDataset(images, labels, self._limited(train, labels))
        return kept, ImageDataset(images, labels, val), ImageDataset(contents.test_images, contents.test_labels)


class OwnMasksDataModule(_Described, SegmentationDataModule):
    """Pictures of one's own with masks, whole in memory at one square size.

    Args:
        root: The description, ``DATA.yaml``; ``scaledrop fit --images DIR --masks DIR`` writes it.
        digest: What its digest has to be; None takes what is there.
        augment: As in ``SegmentationDataModule``, and so are the arguments behind it.
    """

    def __init__(
        self,
        root: str = "DATA.yaml",
        digest: str | None = None,
        augment: PairAugment = "flip",
        num_workers: int = 0,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        seed: int = 0,
        limit_train: int | None = None,
    ) -> None:
        own = self._take(root, digest, masks=True)
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "num_workers": num_workers}
        super().__init__(None, own.size, augment=augment, **sizes, seed=seed, limit_train=limit_train)

    def split(self, contents: MaskedImages) -> tuple[MaskedImageDataset, MaskedImageDataset, MaskedImageDataset]:
        """The parts of the description."""
        train, val, test = self._parts()
        self.left_out = []
        kept, held_out, tested = (
            MaskedImageDataset(contents, part) for part in (self._limited(train, contents.strata), val, test)
        )
        return kept, held_out, tested


def own_module(file: Path | str, **arguments: Any) -> OwnImagesDataModule | OwnMasksDataModule:
    """The data module of a description; arguments of either."""
    kind = OwnImagesDataModule if load_own(Path(file)).masks is None else OwnMasksDataModule
    return kind(str(file), **arguments)
