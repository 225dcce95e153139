"""In-memory data sets and the loader that hands out whole batches.

The order of training is a pure function of (seed, epoch), and a place in it is (epoch, batch), so that a run
resumed from any checkpoint, also one from the middle of an epoch, sees the same batches as an uninterrupted
one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, DistributedSampler, Sampler

from datamodules.shapes import Int, Shaped, UInt8

Pair = tuple[Tensor, Tensor]


def stream_seed(*words: int) -> int:
    """Mix non-negative integers into one 64-bit seed; neighbouring words give unrelated seeds.

    >>> stream_seed(0, 1) == stream_seed(0, 1), stream_seed(0, 1) == stream_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def stratified_subset(labels: Int[Tensor, " images"], size: int, seed: int) -> Int[Tensor, " size"]:
    """Choose ``size`` images so that every class keeps its share; ascending indices.

    Raises:
        ValueError: If ``size`` is not between 0 and the number of images.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[stratified_subset(labels, 3, seed=0)].tolist()
    [0, 0, 1]
    """
    if not 0 <= size <= len(labels):
        raise ValueError(f"cannot choose {size} of {len(labels)} images")
    # RandomState, not default_rng: NumPy promises that its stream never changes, and so the split never does
    random = np.random.RandomState(seed)
    classes = labels.numpy()
    place = np.empty(len(classes))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        place[members] = (random.permutation(len(members)) + 0.5) / len(members)
    return torch.from_numpy(np.sort(np.argsort(place, kind="stable")[:size]))


@dataclass(frozen=True)
class ImageArrays:
    """A whole data set in memory, and what it was read from."""

    train_images: UInt8[Tensor, "train channels height width"]
    train_labels: Int[Tensor, " train"]
    test_images: UInt8[Tensor, "test channels height width"]
    test_labels: Int[Tensor, " test"]
    source: str

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the fingerprint is made of."""
        return self.train_images, self.train_labels, self.test_images, self.test_labels


class ImageDataset(Dataset[Pair]):
    """Images in memory with a label or a mask each, or a subset of them by index (no copy).

    A standard ``DataLoader`` fetches whole batches from it if given ``collate_fn=lambda batch: batch``.

    Args:
        images: uint8 images, NCHW.
        labels: Class of every image, or of every pixel of it; handed out as int64.
        indices: The images that belong to this data set, in order; None means all.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "total channels height width"],
        labels: Shaped[Tensor, "total ..."],
        indices: Int[Tensor, " images"] | None = None,
    ) -> None:
        self._images, self._labels = images, labels
        self.indices = torch.arange(len(labels)) if indices is None else indices

    def on(
        self, images: UInt8[Tensor, "total channels height width"], labels: Shaped[Tensor, "total ..."]
    ) -> "ImageDataset":
        """The same part of copies of the images and labels, on a GPU say."""
        return ImageDataset(images, labels, self.indices.to(images.device))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "channels height width"], Int[Tensor, "..."]]:
        where = self.indices[index]
        return self._images[where], self._labels[where].long()

    def __getitems__(
        self, indices: Sequence[int] | Int[Tensor, " batch"]
    ) -> tuple[UInt8[Tensor, "batch channels height width"], Int[Tensor, "batch ..."]]:
        """Fetch one batch (images, labels)."""
        where = self.indices[torch.as_tensor(indices, dtype=torch.int64, device=self.indices.device)]
        return self._images[where], self._labels[where].long()

    @property
    def images(self) -> UInt8[Tensor, "images channels height width"]:
        """All images of this data set (a copy if it is a subset)."""
        return self._images[self.indices]

    @property
    def labels(self) -> Int[Tensor, "images ..."]:
        """All labels of this data set."""
        return self._labels[self.indices].long()


class ShardBatches(Sampler[list[int]]):
    """Batches for evaluation: every image exactly once over all ranks, in order, without padding.

    Rank ``r`` of ``w`` reads the images r, r + w, r + 2w, ... All ranks make the same number of batches,
    which differ by at most one image each, so that collectives inside a step match; Lightning's own sampler
    pads with repeated images.

    Args:
        images: Number of images over all ranks.
        batch_size: Largest batch (1 becomes 2 where the images do not divide among the processes).
        rank: This process.
        world_size: Number of processes.

    Raises:
        ValueError: If there are fewer images than processes.

    >>> [batch for rank in (0, 1) for batch in ShardBatches(5, 2, rank, 2)]
    [[0, 2], [4], [1], [3]]
    """

    def __init__(self, images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if images < world_size:
            raise ValueError(f"cannot share {images} images among {world_size} processes; use fewer processes")
        self._mine = np.arange(rank, images, world_size)
        self._batches = min(-(-images // (batch_size * world_size)), images // world_size)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        return (part.tolist() for part in np.array_split(self._mine, self._batches))


class Blocks(Sampler[list[int]]):
    """Several batches at once, one behind the other, for a training that takes several steps a call.

    Args:
        batches: The batches of an epoch, all of one size.
        steps: Batches in a block; the last block of an epoch may have fewer.

    >>> [len(block) for block in Blocks(BatchSampler(range(20), 4, drop_last=True), 2)]
    [8, 8, 4]
    """

    def __init__(self, batches: BatchSampler, steps: int) -> None:
        self.batches, self.steps = batches, steps
        self.sampler = batches.sampler  # where Lightning looks for set_epoch

    def __len__(self) -> int:
        return -(-len(self.batches) // self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        batches = iter(self.batches)
        while block := [*islice(batches, self.steps)]:
            yield [index for batch in block for index in batch]


class BatchLoader:
    """Iterate over whole batches of an in-memory data set, in this process.

    It is no ``torch.utils.data.DataLoader`` on purpose: an index into a tensor needs no workers, and
    Lightning then neither asks for them nor replaces the sampler. ``set_epoch`` and the state of a checkpoint
    reach it by the attributes that Lightning looks for.
    """

    finish: Callable[[Pair], Pair] | None = None
    """What is done to each batch; None where a trainer does it on the device."""

    def __init__(self, dataset: ImageDataset, batch_sampler: Sampler[list[int]]) -> None:
        self.dataset, self.batch_sampler = dataset, batch_sampler
        self._next = self._resume = (0, 0)  # epoch, and the batch of it that comes next

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Pair]:
        # a generator: the body runs at the first batch, which is after Lightning's set_epoch
        epoch = getattr(getattr(self.batch_sampler, "sampler", None), "epoch", 0)
        resume, self._resume = self._resume, (0, 0)
        done = resume[1] if resume[0] == epoch else 0
        for batch, content in enumerate(self.fetch(epoch, done), done + 1):
            self._next = epoch, batch
            yield self.finish(content) if self.finish else content

    def fetch(self, epoch: int, first: int) -> Iterator[Pair]:
        """Make the batches of an epoch from batch ``first`` (from 0) on."""
        return (self.dataset.__getitems__(indices) for indices in islice(self.batch_sampler, first, None))

    def state_dict(self) -> dict[str, Any]:
        """Place after the batch handed out last."""
        return dict(zip(("epoch", "batch"), self._next, strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next iteration there if it is of that epoch; other epochs start at their first batch."""
        self._resume = int(state["epoch"]), int(state["batch"])


def train_batches(
    dataset: ImageDataset,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool = True,
) -> BatchSampler:
    """Full batches in an order that depends on nothing but (seed, epoch); the rest of an epoch is dropped.

    Args:
        dataset: The images.
        batch_size: Images per batch and process.
        seed: Seed of the order; different seeds give unrelated orders.
        rank: This process.
        world_size: Number of processes, which share every epoch without overlap.
        shuffle: False keeps the order of the data set, for overfitting one batch.

    Raises:
        ValueError: If there is not one full batch.
    """
    if len(dataset) // world_size < batch_size:
        raise ValueError(
            f"{len(dataset)} training images on {world_size} process(es) do not fill one batch "
            f"of {batch_size}; lower batch_size (--data.batch_size=N), or raise limit_train"
        )
    # an epoch is seeded with seed + epoch: unmixed, run 1 would repeat the orders of run 0 one epoch later
    mixed = stream_seed(seed) >> 32
    sampler: DistributedSampler[int] = DistributedSampler(dataset, world_size, rank, shuffle, mixed, drop_last=True)
    return BatchSampler(sampler, batch_size, drop_last=True)
