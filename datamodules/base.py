"""What all image data sets share: splits, loaders, fingerprints, augmentation, normalization."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from datamodules.classification.augment import (
    Augmentation,
    crop,
    draw_boxes,
    draw_corners,
    draw_flips,
    flip,
    resized_crop,
)
from datamodules.files.fileset import FileSet
from datamodules.files.integrity import fingerprint
from datamodules.in_memory import InMemoryDataModule, missing_setup, require
from datamodules.loading import (
    BatchLoader,
    Blocks,
    ImageArrays,
    ImageDataset,
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
        self._epoch_draws: tuple[tuple[int, int, torch.device], Augmentation] | None = None
        self._on_device: tuple[Tensor, Tensor] | None = None

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

        Where the module takes several steps a call (``steps_per_call``), as many batches come at once, and their
        tensors have one dimension more in front. On a GPU all images lie in its memory.

        Raises:
            ValueError: If the training set does not fill one batch.
        """
        self._loaded()
        order = train_batches(self.train_set, self.batch_size, self.seed, *self._rank_and_world(), self._shuffled())
        steps = self._steps_per_call()
        return BatchLoader(self._resident(self.train_set), order if steps == 1 else Blocks(order, steps))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment (in training) and normalize a batch of uint8 images; pass anything else through unchanged.

        The draws depend on (seed, epoch, rank) and an image's place in the epoch only, and are made once an epoch: a
        resumed run repeats them, and the global random stream is untouched.
        """
        if not isinstance(batch, tuple | list) or not isinstance(batch[0], Tensor) or batch[0].dtype != torch.uint8:
            return batch
        images, *rest = batch
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return (self.normalized(images), *rest)
        steps = self._steps_per_call()
        first = (trainer.fit_loop.batch_idx + 1) * steps * self.batch_size  # it still counts the batch before this one
        drawn = self._drawn(trainer.current_epoch, images.device)
        images = self.normalized(self.augmented(images, drawn.part(first, len(images))))
        if steps == 1:
            return (images, *rest)
        return tuple(part.unflatten(0, (-1, self.batch_size)) for part in (images, *rest))

    def draw_augmentation(self, images: int, generator: torch.Generator) -> Augmentation:
        """Draw the configured augmentation of so many images."""
        size = (self.image_size, self.image_size)
        shifted, resized = self.augment == "crop", self.augment == "resized_crop"
        return Augmentation(
            flipped=draw_flips(images, generator) if self.flip else None,
            corners=draw_corners(images, generator, self.crop_padding) if shifted else None,
            boxes=draw_boxes(images, size, generator, self.crop_scale) if resized else None,
        )

    def augmented(
        self, images: UInt8[Tensor, "batch channels height width"], drawn: Augmentation
    ) -> Shaped[Tensor, "batch channels height width"]:
        """Apply a drawn augmentation; values stay on the scale 0 to 255."""
        if drawn.flipped is not None:
            images = flip(images, drawn.flipped)
        if drawn.corners is not None:
            return crop(images, drawn.corners[0], drawn.corners[1], self.crop_padding)
        return images if drawn.boxes is None else resized_crop(images, drawn.boxes)

    def _drawn(self, epoch: int, device: torch.device) -> Augmentation:
        """The draws for all images that this process sees in an epoch, in their order."""
        rank, world = self._rank_and_world()
        key = (epoch, rank, device)
        if self._epoch_draws is None or self._epoch_draws[0] != key:
            generator = torch.Generator(device).manual_seed(stream_seed(self.seed, epoch, rank))
            self._epoch_draws = key, self.draw_augmentation(len(self.train_set) // world, generator)
        return self._epoch_draws[1]

    def _steps_per_call(self) -> int:
        return getattr(getattr(self.trainer, "lightning_module", None), "steps_per_call", 1)

    def _resident(self, dataset: ImageDataset) -> ImageDataset:
        """The data set with its images in the memory of the GPU, if there is one: a batch is no copy from the host."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if device.type != "cuda":
            return dataset
        arrays = self._loaded()
        if dataset is self.test_set:
            return dataset.on(arrays.test_images.to(device), arrays.test_labels.to(device))
        if self._on_device is None or self._on_device[0].device != device:
            self._on_device = arrays.train_images.to(device), arrays.train_labels.to(device)
        return dataset.on(*self._on_device)

    def _eval_loader(self, dataset: ImageDataset, whole: bool = False) -> BatchLoader:
        return BatchLoader(dataset if whole else self._resident(dataset), self._shards(dataset, whole))

    def _loaded(self) -> ImageArrays:
        if self._arrays is None:
            raise missing_setup(self)
        return self._arrays
