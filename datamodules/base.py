"""The base of every data module: a whole set in memory, checked arguments, loaders, fingerprint, normalization."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import BatchSampler

from datamodules.files.fileset import FileSet
from datamodules.files.integrity import DatasetCorruptError, fingerprint
from datamodules.files.source_folders import SourceFolders
from datamodules.loading import BatchLoader, ShardBatches, stratified_subset, train_batches
from datamodules.pictures import standardized
from datamodules.shapes import Float, Images, Int


class DataModule(LightningDataModule, ABC):
    """Training, validation and test set, which ``setup`` makes; ``predict_dataloader`` gives the test set.

    Under a trainer images are loaded and moved as uint8, and normalized (and augmented) as whole batches on the device;
    without one the loaders give normalized floats, which any network takes.

    Args:
        root: Folder of the data (or an archive of it); None takes the environment variable DATA, else ``data``.
        batch_size: Training images per step and process.
        eval_batch_size: Largest evaluation batch per process.
        val_fraction: Part of the training set held out for validation, between 0 (none) and 1.
        split_seed: Seed of the validation split and of ``limit_train``; keep it fixed while ``seed`` varies.
        seed: Seed of shuffling and augmentation.
        limit_train: Train on a stratified subset of this many images, for smoke runs.

    Raises:
        ValueError: If an argument is out of range.
    """

    name: str
    """Name of the data set, as in the commands and the results."""
    files: ClassVar[FileSet | SourceFolders | None] = None
    """Where the files come from; None where nothing has to be there."""
    stand_in: ClassVar[bool] = False
    """Whether this set only stands in for another one in quick runs; it belongs in no published column."""
    class_names: tuple[str, ...]
    """Name of each class, by label."""
    in_channels: int
    """Colour channels."""
    mean: tuple[float, ...]
    """Mean of each channel on the scale 0 to 1."""
    std: tuple[float, ...]
    """Standard deviation of each channel on the scale 0 to 1."""
    border: int = 0
    """Pixels of zeros that are added on every side, part of the image's size."""
    train_set: Any
    """Training images, in memory."""
    val_set: Any
    """Validation images."""
    test_set: Any
    """Test images."""

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
        limit_train: int | None = None,
    ) -> None:
        super().__init__()
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        require(eval_batch_size >= 1, "eval_batch_size", eval_batch_size, "at least 1")
        require(0 <= split_seed < 2**32, "split_seed", split_seed, "from 0 to 2**32 - 1")
        require(0 <= seed < 2**32, "seed", seed, "from 0 to 2**32 - 1")
        require(0 <= val_fraction < 1, "val_fraction", val_fraction, "at least 0 and below 1")
        require(limit_train is None or limit_train >= 1, "limit_train", limit_train, "at least 1, or None")
        self.root = Path(root or os.environ.get("DATA") or "data").expanduser()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.split_seed, self.seed = val_fraction, split_seed, seed
        self.limit_train = limit_train
        self._contents: Any = None
        self._fingerprint: str | None = None

    @abstractmethod
    def load(self) -> Any:
        """Read the whole data set into memory: its ``source``, and the ``tensors`` that its fingerprint is made of.

        Raises:
            DatasetNotFoundError: If it is not there.
            DatasetCorruptError: If a file is truncated, altered or unreadable.
        """

    @abstractmethod
    def split(self, contents: Any) -> tuple[Any, Any, Any]:
        """Training, validation and test set of what was loaded."""

    def setup(self, stage: str | None = None) -> None:
        """Load the data once and split it; further calls do nothing."""
        if self._contents is None:
            contents = self.load()
            self.train_set, self.val_set, self.test_set = self.split(contents)
            if not len(self.train_set):
                raise ValueError(
                    f"val_fraction {self.val_fraction} leaves no training image of {self.name!r}: lower it"
                )
            if not len(self.test_set):  # else found when hours of training are to be evaluated
                raise DatasetCorruptError(f"data set {self.name!r} has no test image: {self.root} lacks them")
            self._contents = contents

    @property
    def source(self) -> str:
        """What the data was read from; with ``unofficial`` in it, other md5s than the published ones."""
        return self._loaded().source

    def fingerprint(self) -> str:
        """16 hexadecimal digits for the content: all images and labels or masks as they are used, in order."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(*self._loaded().tensors)
        return self._fingerprint

    @property
    def image_facts(self) -> dict[str, Any]:
        """What a picture goes through before a network sees it, and names: for checkpoints and predictions."""
        facts = {"mean": [*self.mean], "std": [*self.std], "border": self.border}
        return facts | {"class_names": [*self.class_names], "name": self.name}

    @property
    def split_facts(self) -> dict[str, Any]:
        """Arguments that say which images are held out for validation, for checkpoints."""
        return {"val_fraction": self.val_fraction, "split_seed": self.split_seed}

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def sizes(self) -> dict[str, int]:
        """Number of images in train, val and test."""
        self._loaded()
        return {"train": len(self.train_set), "val": len(self.val_set), "test": len(self.test_set)}

    def train_dataloader(self) -> BatchLoader:
        """Full batches of this process; order and augmentation depend only on (seed, epoch, place or index).

        Raises:
            ValueError: If the training set does not fill one batch.
        """
        self._loaded()
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        order = train_batches(self.train_set, self.batch_size, self.seed, *self._rank_and_world(), shuffle)
        return self._finished(self._train_loader(order))

    def val_dataloader(self) -> BatchLoader:
        """The validation images once each, in order.

        Raises:
            ValueError: If ``val_fraction`` holds none out.
        """
        self._loaded()
        if not len(self.val_set):
            raise ValueError(f"val_fraction {self.val_fraction} leaves no image; set limit_val_batches=0 as well")
        return self._finished(self._eval_loader(self.val_set))

    def test_dataloader(self, whole: bool = False) -> BatchLoader:
        """The test images once each, in order: this process's share, or all of them."""
        self._loaded()
        return self._finished(self._eval_loader(self.test_set, whole))

    def predict_dataloader(self) -> BatchLoader:
        """The same as ``test_dataloader``."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalize a batch of uint8 images; pass anything else through unchanged."""
        if not has_pixels(batch):
            return batch
        images, *rest = batch
        return (self.normalized(images), *rest)

    def normalized(self, images: Images) -> Float[Tensor, "batch channels height width"]:
        """Map values from 0 to 255 to zero mean and unit variance by the data set's ``mean`` and ``std``.

        Raises:
            ValueError: Without a trainer, if they are normalized already, as the loaders then give them.
        """
        if self.trainer is None and images.is_floating_point() and bool((images < 0).any()):
            raise ValueError(
                "these images are normalized already: without a trainer the loaders do it; loader.finish = None gives "
                "bytes, to augment and normalize by oneself"
            )
        return standardized(images, self.mean, self.std)

    def _loaded(self) -> Any:
        if self._contents is None:
            raise RuntimeError(f"{type(self).__name__} has no data yet; call setup() first")
        return self._contents

    def _limited(self, train: Int[Tensor, " items"], strata: Int[Tensor, " all"]) -> Int[Tensor, " fewer"]:
        """The training images that ``limit_train`` leaves, by index."""
        if self.limit_train is None:
            return train
        if self.limit_train > len(train):
            raise ValueError(f"limit_train is {self.limit_train}, but there are {len(train)} training images")
        return train[stratified_subset(strata[train], self.limit_train, self.split_seed)]

    def _finished(self, loader: BatchLoader) -> BatchLoader:
        """The loader, whose batches are normalized by itself where no trainer will do it."""
        if self.trainer is None:
            loader.finish = lambda batch: self.on_after_batch_transfer(batch, 0)
        return loader

    def _train_loader(self, order: BatchSampler) -> BatchLoader:
        return BatchLoader(self.train_set, order)

    def _eval_loader(self, dataset: Any, whole: bool = False) -> BatchLoader:
        """Loader of a part, each image once over all processes, or in this one."""
        processes = (0, 1) if whole else self._rank_and_world()
        return BatchLoader(dataset, ShardBatches(len(dataset), self.eval_batch_size, *processes))

    def _rank_and_world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def has_pixels(batch: Any) -> bool:
    """Whether a batch begins with uint8 images, which are not normalized yet."""
    return isinstance(batch, tuple | list) and isinstance(batch[0], Tensor) and batch[0].dtype == torch.uint8


def require(condition: bool, argument: str, value: object, wanted: str) -> None:
    """Refuse an argument that is out of range.

    Raises:
        ValueError: Naming the argument, what is wanted, and what was given.
    """
    if not condition:
        raise ValueError(f"{argument} must be {wanted}, not {value!r}")
