"""Data modules of images with a mask each: splits by group, image and mask augmented together; files in pairs."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import BatchSampler

from datamodules.base import DataModule, require
from datamodules.files.integrity import DatasetNotFoundError
from datamodules.files.source_folders import SourceFolders, read_index
from datamodules.grouping import group_positions, similar_groups
from datamodules.loading import BatchLoader
from datamodules.segmentation.joint_augment import JointAugmentation
from datamodules.segmentation.masked_images import (
    AugmentedBatches,
    FlippedBatches,
    Flips,
    MaskedImageDataset,
    MaskedImages,
)
from datamodules.segmentation.paired_files import IGNORE, Example, PairFiles, check_index, read_pairs, stacked
from datamodules.shapes import Bool, Int

PairAugment = Literal["none", "flip", "full"]
"""What is drawn for every training image: nothing, flips, or all of ``JointAugmentation`` (needs albumentations)."""
SPLIT_SEED = 0
"""Decides the test images where the publishers hold out none; no argument, so that test sets can be compared."""


class SegmentationDataModule(DataModule):
    """Images with a mask each, whole in memory at one square size.

    Batches are pairs: uint8 images (batch, channels, size, size), normalized to float32 on the device, and int64 masks
    (batch, size, size), in which ``ignore_index`` marks pixels that count nowhere. Images are squeezed to the square,
    so the aspect is not kept; all measures are taken at this size.

    Groups (near-duplicates, slices of one volume) are never on two sides of a split. The test set is the publishers',
    where there is one, and training images of its groups are left out; else it is one of ``folds`` parts, the same for
    every seed. Validation images come out of the rest.

    Args:
        root: As in ``DataModule``, and so are ``kwargs``.
        image_size: Height and width in pixels, a multiple of 32 for the networks with five poolings.
        batch_size: Training images per step and process.
        eval_batch_size: Largest evaluation batch per process.
        augment: ``none``, ``flip`` (whole batches), or ``full`` (image by image, see ``joint_augment``).
        num_workers: Processes that augment where ``augment`` is ``full``; 0 is this one. No result depends on it.
        fold: Test on this part, from 0, of a cross-validation over all images; None takes the publishers' test set,
            or part 0 where there is none.
        folds: Number of parts.
        **kwargs: Split and seeds.

    Raises:
        ValueError: If an argument is out of range.
        ModuleNotFoundError: If ``augment`` is ``full`` and albumentations is absent.
    """

    files: ClassVar[SourceFolders | None] = None
    class_names: tuple[str, ...] = ("background", "lesion")
    ignore_index: ClassVar[int] = IGNORE
    """Label of pixels that count nowhere."""
    in_channels = 1
    flips: ClassVar[Flips] = (True, False)
    """Whether images may be mirrored left to right, and upside down."""
    left_out: list[str]
    """Training images that are not used, since they are of a group of the test set."""

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 128,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        augment: PairAugment = "none",
        num_workers: int = 0,
        fold: int | None = None,
        folds: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, batch_size, eval_batch_size, **kwargs)
        require(image_size >= 8, "image_size", image_size, "at least 8")
        require(augment in get_args(PairAugment), "augment", augment, f"one of {get_args(PairAugment)}")
        require(num_workers >= 0, "num_workers", num_workers, "at least 0")
        require(folds >= 2, "folds", folds, "at least 2")
        require(fold is None or 0 <= fold < folds, "fold", fold, f"from 0 to {folds - 1}, or None")
        self.image_size, self.augment, self.num_workers = image_size, augment, num_workers
        self.fold, self.folds = fold, folds
        self._joint = JointAugmentation(self.seed, image_size, self.flips) if augment == "full" else None

    @abstractmethod
    def load(self) -> MaskedImages:
        """Read the whole data set into memory."""

    def split(self, contents: MaskedImages) -> tuple[MaskedImageDataset, MaskedImageDataset, MaskedImageDataset]:
        """Training, validation and test set, between which no group is divided."""
        test = self._held_out(contents)
        leaks = torch.isin(contents.groups, contents.groups[test]) & ~test
        rest = (~test & ~leaks).nonzero()[:, 0]
        position = group_positions(contents.groups[rest], contents.strata[rest], self.split_seed)
        val = position < self.val_fraction
        if self.val_fraction > 0 and len(position.unique()) > 1:
            val |= position == position.min()  # one group at least
        train = self._limited(rest[~val], contents.strata)
        self.left_out = contents.called(leaks.nonzero()[:, 0])
        parts = (train, rest[val], test.nonzero()[:, 0])
        train_set, val_set, test_set = (MaskedImageDataset(contents, part) for part in parts)
        return train_set, val_set, test_set

    @property
    def split_facts(self) -> dict[str, Any]:
        """Arguments that say which images are held out for validation and test, for checkpoints."""
        return super().split_facts | {"fold": self.fold, "folds": self.folds}

    @property
    def source(self) -> str:
        """What the data was read from, and which part of a cross-validation is the test set."""
        official = self.fold is None and self._loaded().official_test is not None
        return super().source if official else f"{super().source}; test: part {self.fold or 0} of {self.folds}"

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

    def _train_loader(self, order: BatchSampler) -> BatchLoader:
        if self._joint is not None:
            return AugmentedBatches(self.train_set, order, self._joint, self.num_workers)
        if self.augment == "flip":
            return FlippedBatches(self.train_set, order, self.seed, self.flips)
        return super()._train_loader(order)


class PairedDataModule(SegmentationDataModule):
    """A segmentation set whose images have a file each, and their masks too; look-alikes stay on one side of a split.

    What differs from set to set: where the files are (``find_examples``), what an ``index.csv`` says, if there is one,
    how alike is too alike, and which images the publishers hold out.
    """

    files: ClassVar[SourceFolders]
    correlation: ClassVar[float]
    """Above it the thumbnails of two pictures are those of near-duplicates."""
    index: ClassVar[tuple[str, ...]] = ()
    """Columns of the index: those that make an example's name, its share of foreground, and further ones."""

    @abstractmethod
    def find_examples(self, folder: Path) -> list[PairFiles]:
        """Images and masks in the folder that was found.

        Raises:
            DatasetNotFoundError: If a part is not there.
            DatasetCorruptError: If an image has no mask, or a mask no image.
        """

    def load(self) -> MaskedImages:
        """Read all files, check them against the index, and group near-duplicates."""
        folder = self.files.find(self.root)
        files = self.find_examples(folder)
        if not files:
            raise DatasetNotFoundError(f"{folder} holds no image.\n{self.files.remedy(self.root)}")
        examples = read_pairs(files, self.image_size, self.in_channels, self.num_classes)
        rows = read_index(folder, self.index) if self.index else None
        if rows is not None:
            # the shares of the index are those of masks of two classes
            check_index(folder, rows, files, examples if self.num_classes == 2 else None)
        names = tuple(example.name for example in files)
        groups, strata = self._groups(files, examples, rows), self._strata(files)
        return MaskedImages(*stacked(examples), names, groups, strata, self._official_test(files), self._source(folder))

    def _groups(
        self, files: Sequence[PairFiles], examples: Sequence[Example], rows: Mapping[str, dict[str, str]] | None
    ) -> Int[Tensor, " items"]:
        return similar_groups(torch.stack([torch.from_numpy(one.thumbnail) for one in examples]), self.correlation)

    def _strata(self, files: Sequence[PairFiles]) -> Int[Tensor, " items"]:
        return torch.zeros(len(files), dtype=torch.int64)

    def _official_test(self, files: Sequence[PairFiles]) -> Bool[Tensor, " items"] | None:
        return None

    def _source(self, folder: Path) -> str:
        return folder.name
