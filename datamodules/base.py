"""What all image data sets share: splits, loaders, fingerprints, augmentation, normalization."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from datamodules.augment import random_crop, random_flip, random_resized_crop
from datamodules.fileset import FileSet
from datamodules.in_memory import InMemoryDataModule, missing_setup, require
from datamodules.integrity import fingerprint
from datamodules.loading import (
    BatchLoader,
    ImageArrays,
    ImageDataset,
    ShardBatches,
    stratified_subset,
    stream_seed,
    train_batches,
)
from datamodules.shapes import Shaped, UInt8

Augment = Literal["none", "crop", "resized_crop"]
"""Geometry drawn for every training image: none, a shift within zero padding, or an enlarged part."""


class ImageDataModule(InMemoryDataModule):
    """A classification data set, whole in memory, with a fixed stratified validation split.

    Batches are pairs (images, labels); ``predict_dataloader`` gives the test set. Images reach the model as
    normalized floats: they are loaded and moved as uint8, and augmented and normalized as whole batches on
    the device.

    Args:
        root: Folder of the data (or an archive of it); None takes the environment variable DATA, else
        ``data``. batch_size: Training images per step and process.
        eval_batch_size: Largest evaluation batch per process.
        val_fraction: Part of the training set held out for validation, between 0 (none) and 1.
        split_seed: Seed of the validation split and of ``limit_train``; keep it fixed while ``seed`` varies.
        seed: Seed of shuffling and augmentation.
        augment: Geometry of the training images: ``none``, ``crop`` (a shift) or ``resized_crop``.
        crop_padding: Largest shift of ``crop`` in pixels.
        crop_scale: Smallest and largest area of ``resized_crop`` as fractions of the image.
        flip: Mirror training images left to right with probability 1/2.
        limit_train: Train on a stratified subset of this many images, for smoke runs.

    Raises:
        ValueError: If an argument is out of range.
    """

    name: str
    """Name of the data set, as in the commands and the results."""
    files: ClassVar[FileSet | None] = None
    """The published files; None where nothing has to be there."""
    stand_in: ClassVar[bool] = False
    """Whether this set only stands in for another one in quick runs; it belongs in no published column."""
    image_size: ClassVar[int] = 32
    """Height and width in pixels."""
    in_channels: int = 3
    """Colour channels."""

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
        augment: Augment = "none",
        crop_padding: int = 4,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        flip: bool = False,
        limit_train: int | None = None,
    ) -> None:
        super().__init__(root, batch_size, eval_batch_size, val_fraction, split_seed, seed, limit_train)
        require(augment in get_args(Augment), "augment", augment, f"one of {get_args(Augment)}")
        require(0 <= crop_padding <= 32, "crop_padding", crop_padding, "from 0 to 32")
        low, high = crop_scale
        require(0 < low <= high <= 1, "crop_scale", crop_scale, "two ascending fractions above 0 and up to 1")
        self.augment, self.crop_padding, self.crop_scale, self.flip = augment, crop_padding, (low, high), flip
        self._arrays: ImageArrays | None = None
        self._fingerprint: str | None = None

    @abstractmethod
    def load(self) -> ImageArrays:
        """Read the whole data set into memory.

        Raises:
            DatasetNotFoundError: If it is not there.
            DatasetCorruptError: If a file is truncated or altered.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load the data once and split it; further calls do nothing."""
        if self._arrays is not None:
            return
        arrays = self.load()
        labels = arrays.train_labels
        held_out = stratified_subset(labels, round(self.val_fraction * len(labels)), self.split_seed)
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[held_out] = False
        train = kept.nonzero()[:, 0]
        if self.limit_train is not None:
            if self.limit_train > len(train):
                raise ValueError(f"limit_train is {self.limit_train}, but there are {len(train)} training images")
            train = train[stratified_subset(labels[train], self.limit_train, self.split_seed)]
        self.train_set = ImageDataset(arrays.train_images, labels, train)
        self.val_set = ImageDataset(arrays.train_images, labels, held_out)
        self.test_set = ImageDataset(arrays.test_images, arrays.test_labels)
        self._arrays = arrays

    @property
    def source(self) -> str:
        """What the data was read from; with ``unofficial`` in it, other md5s than the published ones."""
        return self._loaded().source

    def fingerprint(self) -> str:
        """16 hexadecimal digits for the content: all training and test images and labels, in order."""
        if self._fingerprint is None:
            arrays = self._loaded()
            self._fingerprint = fingerprint(
                arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels
            )
        return self._fingerprint

    def train_dataloader(self) -> BatchLoader:
        """Full batches of this process, in an order that depends only on (seed, epoch).

        Raises:
            ValueError: If the training set does not fill one batch.
        """
        self._loaded()
        order = train_batches(self.train_set, self.batch_size, self.seed, *self._rank_and_world(), self._shuffled())
        return BatchLoader(self.train_set, order)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment (in training) and normalize a batch of uint8 images; pass anything else through unchanged.

        The draws depend on (seed, epoch, batch, rank) only: a resumed run repeats them, and the global random
        stream is untouched.
        """
        if not isinstance(batch, tuple | list) or not isinstance(batch[0], Tensor) or batch[0].dtype != torch.uint8:
            return batch
        images, *rest = batch
        trainer = self.trainer
        if trainer is not None and trainer.training:
            batch_idx = trainer.fit_loop.batch_idx + 1  # it still counts the batch before this one
            words = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
            images = self.augmented(images, torch.Generator(images.device).manual_seed(stream_seed(*words)))
        return (self.normalized(images), *rest)

    def augmented(
        self, images: UInt8[Tensor, "batch channels height width"], generator: torch.Generator
    ) -> Shaped[Tensor, "batch channels height width"]:
        """Apply the configured augmentation; values stay on the scale 0 to 255."""
        if self.flip:
            images = random_flip(images, generator)
        if self.augment == "crop":
            return random_crop(images, generator, self.crop_padding)
        if self.augment == "resized_crop":
            return random_resized_crop(images, generator, self.crop_scale)
        return images

    def _eval_loader(self, dataset: ImageDataset) -> BatchLoader:
        return BatchLoader(dataset, ShardBatches(len(dataset), self.eval_batch_size, *self._rank_and_world()))

    def _loaded(self) -> ImageArrays:
        if self._arrays is None:
            raise missing_setup(self)
        return self._arrays
