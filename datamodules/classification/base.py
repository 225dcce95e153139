"""Data modules of images with one label each: augmented on the device; with files of known md5s, or without."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import BatchSampler

from datamodules.base import DataModule, has_pixels, require
from datamodules.classification.augment import (
    Augmentation,
    crop,
    draw_boxes,
    draw_corners,
    draw_flips,
    flip,
    resized_crop,
)
from datamodules.files.fileset import Checksums, FileSet, Read
from datamodules.loading import BatchLoader, Blocks, ImageArrays, ImageDataset, stratified_subset, stream_seed
from datamodules.shapes import Images, Pixels

Augment = Literal["none", "crop", "resized_crop"]
"""Geometry drawn for every training image: none, a shift within zero padding, or an enlarged part."""


class ImageDataModule(DataModule):
    """A classification data set, whole in memory, with a fixed stratified validation split.

    Batches are pairs (images, labels). Images reach the model as normalized floats: they are loaded and moved as
    uint8, and augmented and normalized as whole batches on the device.

    Args:
        root: As in ``DataModule``, and so are ``kwargs``.
        augment: Geometry of the training images: ``none``, ``crop`` (a shift) or ``resized_crop``.
        crop_padding: Largest shift of ``crop`` in pixels.
        crop_scale: Smallest and largest area of ``resized_crop`` as fractions of the image.
        flip: Mirror training images left to right with probability 1/2.
        **kwargs: Batch sizes, split and seeds.
    """

    files: ClassVar[FileSet | None] = None
    image_size: int = 32
    """Height and width in pixels."""
    in_channels = 3

    def __init__(
        self,
        root: str | None = None,
        augment: Augment = "none",
        crop_padding: int = 4,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        flip: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        require(augment in get_args(Augment), "augment", augment, f"one of {get_args(Augment)}")
        require(0 <= crop_padding <= 32, "crop_padding", crop_padding, "from 0 to 32")
        low, high = crop_scale
        require(0 < low <= high <= 1, "crop_scale", crop_scale, "two ascending fractions above 0 and up to 1")
        self.augment, self.crop_padding, self.crop_scale, self.flip = augment, crop_padding, (low, high), flip
        self._epoch_draws: tuple[tuple[int, int, torch.device], Augmentation] | None = None
        self._on_device: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def load(self) -> ImageArrays:
        """Read the whole data set into memory."""

    def split(self, contents: ImageArrays) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
        """The official test set; validation and training images in fixed shares of every class."""
        images, labels = contents.train_images, contents.train_labels
        held_out = stratified_subset(labels, round(self.val_fraction * len(labels)), self.split_seed)
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[held_out] = False
        train = self._limited(kept.nonzero()[:, 0], labels)
        test = ImageDataset(contents.test_images, contents.test_labels)
        return ImageDataset(images, labels, train), ImageDataset(images, labels, held_out), test

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment (in training) and normalize a batch of uint8 images; pass anything else through unchanged.

        The draws depend on (seed, epoch, rank) and an image's place in the epoch only, and are made once an epoch: a
        resumed run repeats them, and the global random stream is untouched.
        """
        trainer = self.trainer
        if trainer is None or not trainer.training or not has_pixels(batch):
            return super().on_after_batch_transfer(batch, dataloader_idx)
        images, *rest = batch
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

    def augmented(self, images: Pixels, drawn: Augmentation) -> Images:
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
        """Batches that the module takes at once; they come behind one another, with one dimension more in front."""
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

    def _train_loader(self, order: BatchSampler) -> BatchLoader:
        steps = self._steps_per_call()
        return BatchLoader(self._resident(self.train_set), order if steps == 1 else Blocks(order, steps))

    def _eval_loader(self, dataset: ImageDataset, whole: bool = False) -> BatchLoader:
        return super()._eval_loader(dataset if whole else self._resident(dataset), whole)


class PublishedDataModule(ImageDataModule):
    """An image data set that is published as files with known md5s, verified every time before they are parsed.

    Args:
        checksums: ``official`` requires the published md5s. ``recorded`` requires those that the folder's own
            ``checksums.md5`` states, for miniature or altered data; ``source`` then says ``unofficial``.
        **kwargs: As in ``ImageDataModule``.
    """

    files: ClassVar[FileSet]

    def __init__(self, checksums: Checksums = "official", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(checksums in get_args(Checksums), "checksums", checksums, f"one of {', '.join(get_args(Checksums))}")
        self.checksums: Checksums = checksums

    @abstractmethod
    def parse(self, read: Read) -> ImageArrays:
        """Make images and labels of the files; ``read(name)`` gives verified content."""

    def prepare_data(self) -> None:
        """Unpack an archive under the root; Lightning calls this in one process only."""
        self.files.reader(self.root, self.checksums)

    def load(self) -> ImageArrays:
        """Verify and parse the files."""
        return self.parse(self.files.reader(self.root, self.checksums))

    def _source(self, form: str) -> str:
        return form if self.checksums == "official" else f"{form} (unofficial)"
