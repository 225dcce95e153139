"""Images with a mask each, in memory, and the loaders that move image and mask together."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.files.streams import Streams
from datamodules.loading import BatchLoader, ImageDataset, Pair
from datamodules.segmentation.joint_augment import JointAugmentation, single_threaded
from datamodules.shapes import Bool, Int, UInt8

Flips = tuple[bool, bool]
"""Whether an image may be mirrored left to right, and upside down."""


@dataclass(frozen=True)
class MaskedImages:
    """A whole segmentation set in memory, and what a split has to know about it."""

    images: UInt8[Tensor, "items channels size size"]
    masks: UInt8[Tensor, "items size size"]
    """Class of every pixel, from 0 (background); 255 is to be ignored."""
    names: tuple[str, ...]
    """What each item is called in its set."""
    groups: Int[Tensor, " items"]
    """Items with one number must not be parted: near-duplicates, or slices of one volume."""
    strata: Int[Tensor, " items"]
    """Class of each item; a split keeps the shares."""
    official_test: Bool[Tensor, " items"] | None
    """The items that the publishers hold out; None where they hold out none."""
    source: str
    """What it was read from."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the fingerprint is made of."""
        return self.images, self.masks

    def called(self, indices: Int[Tensor, " some"]) -> list[str]:
        """Names of the items at these indices."""
        return [self.names[index] for index in indices.tolist()]


class MaskedImageDataset(ImageDataset):
    """The items of a set at some indices (no copy)."""

    def __init__(self, data: MaskedImages, indices: Int[Tensor, " items"]) -> None:
        super().__init__(data.images, data.masks, indices)
        self.names = data.called(indices)
        self.groups = data.groups[indices]

    @property
    def masks(self) -> Int[Tensor, "items size size"]:
        """All masks (a copy)."""
        return self.labels


class FlippedBatches(BatchLoader):
    """Whole batches, made in this process, in which images are mirrored with their masks."""

    def __init__(self, dataset: ImageDataset, batch_sampler: Sampler[list[int]], seed: int, flips: Flips) -> None:
        super().__init__(dataset, batch_sampler)
        self.seed, self.flips = seed, flips

    def fetch(self, epoch: int, first: int) -> Iterator[Pair]:
        """Make the batches of an epoch from batch ``first`` (from 0) on."""
        for indices in islice(self.batch_sampler, first, None):
            where = self.dataset.indices[torch.as_tensor(indices, dtype=torch.int64)]
            yield random_flips(*self.dataset.__getitems__(indices), where, self.flips, self.seed, epoch)


class AugmentedBatches(BatchLoader):
    """Batches whose items are augmented one by one, in worker processes if there are any.

    Each index travels to the workers together with its epoch, so that an item does not depend on which worker makes
    it, on how many there are, or on what they made before.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_sampler: Sampler[list[int]],
        augmentation: JointAugmentation,
        workers: int = 0,
    ) -> None:
        super().__init__(dataset, batch_sampler)
        self._order: list[list[tuple[int, int]]] = []  # refilled for every epoch: persistent workers keep one loader
        self._loader: DataLoader[Pair] = DataLoader(
            _AugmentedItems(dataset, augmentation),
            batch_sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=single_threaded,
            generator=torch.Generator(),  # or it would draw from the global stream
        )

    def fetch(self, epoch: int, first: int) -> Iterator[Pair]:
        """Make the batches of an epoch from batch ``first`` (from 0) on."""
        batches = islice(self.batch_sampler, first, None)
        self._order[:] = [[(epoch, index) for index in batch] for batch in batches]
        for images, masks in self._loader:
            yield images, masks.long()


class _AugmentedItems(Dataset[Pair]):
    def __init__(self, dataset: ImageDataset, augmentation: JointAugmentation) -> None:
        self.dataset, self.augmentation = dataset, augmentation

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Pair:
        epoch, index = key
        image, mask = self.dataset[index]
        drawn = self.augmentation(image.numpy(), mask.byte().numpy(), epoch, int(self.dataset.indices[index]))
        return torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1])


def random_flips(
    images: UInt8[Tensor, "batch channels size size"],
    masks: Int[Tensor, "batch size size"],
    indices: Int[Tensor, " batch"],
    flips: Flips,
    seed: int,
    epoch: int,
) -> tuple[UInt8[Tensor, "batch channels size size"], Int[Tensor, "batch size size"]]:
    """Mirror images and masks, each with probability 1/2; the draws depend on (seed, epoch, index) only."""
    drawn = Streams(indices, seed, epoch).uniform(2) < 0.5
    for axis, chosen, allowed in zip((-1, -2), drawn.T, flips, strict=True):
        if allowed:
            images = torch.where(chosen[:, None, None, None], images.flip(axis), images)
            masks = torch.where(chosen[:, None, None], masks.flip(axis), masks)
    return images, masks
