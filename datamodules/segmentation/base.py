"""What all segmentation sets share: splits by group, loaders of image-mask pairs, fingerprints, normalization."""

from abc import abstractmethod
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from datamodules.files.integrity import fingerprint
from datamodules.files.source_folders import SourceFolders
from datamodules.grouping import group_positions
from datamodules.in_memory import InMemoryDataModule, missing_setup, require
from datamodules.loading import BatchLoader, stratified_subset, train_batches
from datamodules.segmentation.joint_augment import JointAugmentation
from datamodules.segmentation.masked_images import (
    AugmentedBatches,
    Flips,
    MaskedBatches,
    MaskedImageDataset,
    MaskedImages,
)
from datamodules.segmentation.paired_files import IGNORE
from datamodules.shapes import Bool

PairAugment = Literal["none", "flip", "full"]
"""What is drawn for every training image: nothing, flips, or all of ``JointAugmentation`` (needs albumentations)."""
SPLIT_SEED = 0
"""Decides the test images where the publishers hold out none; no argument, so that test sets can be compared."""


class SegmentationDataModule(InMemoryDataModule):
    """Images with a mask each, whole in memory at one square size.

    Batches are pairs: normalized float32 images (batch, channels, size, size) and int64 masks (batch, size, size), in
    which ``ignore_index`` marks pixels that count nowhere. ``predict_dataloader`` gives the test set. Images are
    squeezed to the square, so the aspect is not kept; all measures are taken at this size.

    Groups (near-duplicates, slices of one volume) are never on two sides of a split. The test set is the publishers',
    where there is one, and training images of its groups are left out; else it is one of ``folds`` parts, the same for
    every seed. Validation images come out of the rest.

    Args:
        root: Folder of the data; None takes the environment variable DATA, else ``data``.
        image_size: Height and width in pixels, a multiple of 32 for the networks with five poolings.
        batch_size: Training images per step and process.
        eval_batch_size: Largest evaluation batch per process.
        val_fraction: Part of the training images held out for validation, between 0 (none) and 1.
        split_seed: Seed of the validation split and of ``limit_train``; keep it fixed while ``seed`` varies.
        seed: Seed of shuffling and augmentation.
        augment: ``none``, ``flip`` (whole batches), or ``full`` (image by image, see ``joint_augment``).
        limit_train: Train on a random subset of this many images, for smoke runs.
        num_workers: Processes that augment where ``augment`` is ``full``; 0 is this one. No result depends on it.
        fold: Test on this part, from 0, of a cross-validation over all images; None takes the publishers' test set,
            or part 0 where there is none.
        folds: Number of parts.

    Raises:
        ValueError: If an argument is out of range.
        ModuleNotFoundError: If ``augment`` is ``full`` and albumentations is absent.
    """

    name: str
    """Name of the data set, as in the commands and the results."""
    files: ClassVar[SourceFolders | None] = None
    """Where the files may lie; None where nothing has to be there."""
    stand_in: ClassVar[bool] = False
    """Whether this set only stands in for another one in quick runs; it belongs in no published column."""
    class_names: tuple[str, ...] = ("background", "lesion")
    """Name of each label; the first is the background."""
    ignore_index: ClassVar[int] = IGNORE
    """Label of pixels that count nowhere."""
    in_channels: ClassVar[int] = 1
    """Colour channels."""
    flips: ClassVar[Flips] = (True, False)
    """Whether images may be mirrored left to right, and upside down."""

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 128,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
        augment: PairAugment = "none",
        limit_train: int | None = None,
        num_workers: int = 0,
        fold: int | None = None,
        folds: int = 5,
    ) -> None:
        super().__init__(root, batch_size, eval_batch_size, val_fraction, split_seed, seed, limit_train)
        require(image_size >= 8, "image_size", image_size, "at least 8")
        require(augment in get_args(PairAugment), "augment", augment, f"one of {get_args(PairAugment)}")
        require(num_workers >= 0, "num_workers", num_workers, "at least 0")
        require(folds >= 2, "folds", folds, "at least 2")
        require(fold is None or 0 <= fold < folds, "fold", fold, f"from 0 to {folds - 1}, or None")
        self.image_size, self.augment, self.num_workers = image_size, augment, num_workers
        self.fold, self.folds = fold, folds
        self._joint = JointAugmentation(seed, image_size, self.flips) if augment == "full" else None
        self._data: MaskedImages | None = None
        self._fingerprint: str | None = None

    @abstractmethod
    def load(self) -> MaskedImages:
        """Read the whole data set into memory.

        Raises:
            DatasetNotFoundError: If it is not there.
            DatasetCorruptError: If a file is unreadable, or does not belong to the others.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load the data once and split it; further calls do nothing."""
        if self._data is not None:
            return
        data = self.load()
        test = self._held_out(data)
        leaks = torch.isin(data.groups, data.groups[test]) & ~test
        rest = (~test & ~leaks).nonzero()[:, 0]
        position = group_positions(data.groups[rest], data.strata[rest], self.split_seed)
        val = position < self.val_fraction
        if self.val_fraction > 0 and len(position.unique()) > 1:
            val |= position == position.min()  # one group at least
        train, val = rest[~val], rest[val]
        if self.limit_train is not None:
            if self.limit_train > len(train):
                raise ValueError(f"limit_train is {self.limit_train}, but there are {len(train)} training images")
            train = train[stratified_subset(data.strata[train], self.limit_train, self.split_seed)]
        self.train_set, self.val_set = MaskedImageDataset(data, train), MaskedImageDataset(data, val)
        self.test_set = MaskedImageDataset(data, test.nonzero()[:, 0])
        self.left_out = [data.names[index] for index in leaks.nonzero()[:, 0].tolist()]
        self._data = data

    @property
    def source(self) -> str:
        """What the data was read from, and which part of a cross-validation is the test set."""
        data = self._loaded()
        official = self.fold is None and data.official_test is not None
        return data.source if official else f"{data.source}; test: part {self.fold or 0} of {self.folds}"

    def fingerprint(self) -> str:
        """16 hexadecimal digits for the content: all images and masks as they are used, in order."""
        if self._fingerprint is None:
            data = self._loaded()
            self._fingerprint = fingerprint(data.images, data.masks)
        return self._fingerprint

    def train_dataloader(self) -> BatchLoader:
        """Full batches of this process; order and augmentation depend only on (seed, epoch, index).

        Raises:
            ValueError: If the training set does not fill one batch.
        """
        self._loaded()
        order = train_batches(self.train_set, self.batch_size, self.seed, *self._rank_and_world(), self._shuffled())
        if self._joint is not None:
            return AugmentedBatches(self.train_set, order, self.normalized, self._joint, self.num_workers)
        flips = self.flips if self.augment == "flip" else (False, False)
        return MaskedBatches(self.train_set, order, self.normalized, self.seed, flips)

    def _held_out(self, data: MaskedImages) -> Bool[Tensor, " items"]:
        if self.fold is None and data.official_test is not None:
            return data.official_test
        fold = self.fold or 0
        position = group_positions(data.groups, data.strata, SPLIT_SEED)
        test = (position * self.folds).floor().long() == fold
        if not test.any():
            count = len(data.groups.unique())
            raise ValueError(f"fold {fold} of {self.folds} is empty: there are only {count} groups; lower folds")
        return test

    def _eval_loader(self, dataset: MaskedImageDataset, whole: bool = False) -> BatchLoader:
        return MaskedBatches(dataset, self._shards(dataset, whole), self.normalized)

    def _loaded(self) -> MaskedImages:
        if self._data is None:
            raise missing_setup(self)
        return self._data
