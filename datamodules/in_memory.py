"""What data modules with a whole set in memory share: checked arguments, evaluation loaders, sizes, ranks."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from torch import Tensor

from datamodules.loading import BatchLoader, ShardBatches
from datamodules.pictures import standardized
from datamodules.shapes import Float, Shaped


class InMemoryDataModule(LightningDataModule, ABC):
    """Training, validation and test set, which ``setup`` makes; ``predict_dataloader`` gives the test set.

    Args:
        root: Folder of the data; None takes the environment variable DATA, else ``data``.
        batch_size: Training images per step and process.
        eval_batch_size: Largest evaluation batch per process.
        val_fraction: Part of the training set held out for validation, between 0 (none) and 1.
        split_seed: Seed of the validation split.
        seed: Seed of shuffling and augmentation.
        limit_train: Most training images; None takes all.

    Raises:
        ValueError: If an argument is out of range.
    """

    train_set: Any
    """Training images, in memory."""
    val_set: Any
    """Validation images."""
    test_set: Any
    """Test images."""
    class_names: tuple[str, ...]
    """Name of each class, by label."""
    mean: tuple[float, ...]
    """Mean of each channel on the scale 0 to 1."""
    std: tuple[float, ...]
    """Standard deviation of each channel on the scale 0 to 1."""
    border: int = 0
    """Pixels of zeros that are added on every side, part of the image's size."""

    def __init__(
        self,
        root: str | None,
        batch_size: int,
        eval_batch_size: int,
        val_fraction: float,
        split_seed: int,
        seed: int,
        limit_train: int | None,
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

    @property
    def image_facts(self) -> dict[str, Any]:
        """What a picture goes through before a network sees it, and names: for checkpoints and predictions."""
        facts = {"mean": [*self.mean], "std": [*self.std], "border": self.border}
        return facts | {"class_names": [*self.class_names], "name": self.name}

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def sizes(self) -> dict[str, int]:
        """Number of images in train, val and test."""
        self._loaded()
        return {"train": len(self.train_set), "val": len(self.val_set), "test": len(self.test_set)}

    def val_dataloader(self) -> BatchLoader:
        """The validation images once each, in order.

        Raises:
            ValueError: If ``val_fraction`` holds none out.
        """
        self._loaded()
        if not len(self.val_set):
            raise ValueError(f"val_fraction {self.val_fraction} leaves no image; set limit_val_batches=0 as well")
        return self._eval_loader(self.val_set)

    def test_dataloader(self, whole: bool = False) -> BatchLoader:
        """The test images once each, in order: this process's share, or all of them."""
        self._loaded()
        return self._eval_loader(self.test_set, whole)

    def predict_dataloader(self) -> BatchLoader:
        """The same as ``test_dataloader``."""
        return self.test_dataloader()

    def normalized(
        self, images: Shaped[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Map values from 0 to 255 to zero mean and unit variance by the data set's ``mean`` and ``std``."""
        return standardized(images, self.mean, self.std)

    @abstractmethod
    def _loaded(self) -> Any:
        """What ``setup`` has loaded."""

    @abstractmethod
    def _eval_loader(self, dataset: Any, whole: bool = False) -> BatchLoader:
        """Loader of a part, each image once over all processes, or in this one."""

    def _shards(self, dataset: Any, whole: bool) -> ShardBatches:
        return ShardBatches(len(dataset), self.eval_batch_size, *((0, 1) if whole else self._rank_and_world()))

    def _rank_and_world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _shuffled(self) -> bool:
        """Whether training draws an order: not where batches are overfitted."""
        return not getattr(self.trainer, "overfit_batches", 0)


def missing_setup(module: InMemoryDataModule) -> RuntimeError:
    """What to raise where the data is used before it is loaded."""
    return RuntimeError(f"{type(module).__name__} has no data yet; call setup() first")


def require(condition: bool, argument: str, value: object, wanted: str) -> None:
    """Refuse an argument that is out of range.

    Raises:
        ValueError: Naming the argument, what is wanted, and what was given.
    """
    if not condition:
        raise ValueError(f"{argument} must be {wanted}, not {value!r}")
