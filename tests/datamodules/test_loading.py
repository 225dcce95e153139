"""Orders, shards and subsets."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.loading import BatchLoader, ImageDataset, ShardBatches, stratified_subset, stream_seed, train_batches


@pytest.fixture
def dataset():
    images = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 4, 4)
    return ImageDataset(images, torch.arange(50))


def epoch(batches, number):
    batches.sampler.set_epoch(number)
    return list(batches)


def test_standard_dataloader_fetches_whole_batches(dataset):
    loader = DataLoader(dataset, batch_size=20, collate_fn=lambda batch: batch)
    images, labels = next(iter(loader))
    assert images.shape == (20, 3, 4, 4)
    assert images.dtype == torch.uint8
    assert labels.tolist() == list(range(20))
    single, label = dataset[7]
    assert torch.equal(single, images[7])
    assert label == 7


def test_subset_maps_indices(dataset):
    subset = ImageDataset(dataset.images, dataset.labels, torch.tensor([40, 3, 9]))
    assert len(subset) == 3
    assert subset.__getitems__([2, 0])[1].tolist() == [9, 40]
    assert subset.labels.tolist() == [40, 3, 9]
    assert subset.images[:, 0, 0, 0].tolist() == [40, 3, 9]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_shards_are_disjoint_and_complete(dataset, world):
    shards = [epoch(train_batches(dataset, 4, seed=0, rank=r, world_size=world), 2) for r in range(world)]
    assert {len(batch) for shard in shards for batch in shard} == {4}
    assert len({len(shard) for shard in shards}) == 1
    seen = [index for shard in shards for batch in shard for index in batch]
    assert len(seen) == len(set(seen)) == 50 // world // 4 * 4 * world


def test_order_depends_on_seed_and_epoch_only(dataset):
    assert epoch(train_batches(dataset, 10, seed=3), 5) == epoch(train_batches(dataset, 10, seed=3), 5)
    orders = [epoch(train_batches(dataset, 50, seed=s), e)[0] for s in range(4) for e in range(4)]
    assert len({tuple(order) for order in orders}) == 16  # also seed 0 epoch 1 against seed 1 epoch 0
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert epoch(train_batches(dataset, 50, seed=0, shuffle=False), 1)[0] == list(range(50))


def test_too_few_images_for_one_batch(dataset):
    with pytest.raises(ValueError, match=r"50 training images on 2 process\(es\) do not fill one batch of 26"):
        train_batches(dataset, 26, seed=0, world_size=2)
    assert len(train_batches(dataset, 25, seed=0, world_size=2)) == 1


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("images", [4, 9, 20, 41])
def test_evaluation_shards_repeat_nothing_and_keep_step(images, size, world):
    shards = [list(ShardBatches(images, size, rank, world)) for rank in range(world)]
    assert {len(shard) for shard in shards} == {len(ShardBatches(images, size, 0, world))}
    flat = [[index for batch in shard for index in batch] for shard in shards]
    assert flat == [list(range(rank, images, world)) for rank in range(world)]
    lengths = [len(batch) for shard in shards for batch in shard]
    assert min(lengths) >= 1
    assert max(lengths) <= max(size, 2 if images % world else 1)


def test_more_processes_than_images():
    with pytest.raises(ValueError, match="cannot share 2 images among 3 processes"):
        ShardBatches(2, 10, 0, 3)


def test_stratified_subset_keeps_the_shares():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100, generator=torch.manual_seed(0))]
    chosen = stratified_subset(labels, 20, seed=0)
    assert torch.bincount(labels[chosen]).tolist() == [12, 6, 2]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.equal(chosen, stratified_subset(labels, 20, seed=0))
    assert not torch.equal(chosen, stratified_subset(labels, 20, seed=1))
    assert len(stratified_subset(labels, 0, seed=0)) == 0
    assert stratified_subset(labels, 100, seed=0).tolist() == list(range(100))
    with pytest.raises(ValueError, match="cannot choose 101 of 100 images"):
        stratified_subset(labels, 101, seed=0)


def test_a_split_is_for_ever():
    """The numbers are those of the first release: if they change, results are no longer comparable."""
    assert stratified_subset(torch.arange(40) % 4, 6, seed=0).tolist() == [7, 9, 25, 26, 31, 32]


def test_stream_seeds_differ_and_touch_no_global_stream():
    state = np.random.get_state()[1].copy()
    seeds = {stream_seed(*words) for words in np.ndindex(4, 5, 6, 2)}
    assert len(seeds) == 240
    assert max(seeds) < 2**64
    assert (np.random.get_state()[1] == state).all()


def test_loader_resumes_within_the_epoch_it_stopped_in(dataset):
    def loader(number):
        result = BatchLoader(dataset, train_batches(dataset, 10, seed=0))
        result.batch_sampler.sampler.set_epoch(number)
        return result

    whole = [labels.tolist() for _, labels in loader(3)]
    stopped = loader(3)
    running = iter(stopped)
    next(running), next(running)
    state = stopped.state_dict()
    assert state == {"epoch": 3, "batch": 2}
    resumed = loader(3)
    resumed.load_state_dict(state)
    assert [labels.tolist() for _, labels in resumed] == whole[2:]
    assert [labels.tolist() for _, labels in resumed] == whole  # only once
    other = loader(4)
    other.load_state_dict(state)
    assert len(list(other)) == 5


def test_epoch_may_be_set_after_iter(dataset):
    """Lightning makes the iterator first and calls set_epoch afterwards."""
    early, late = (BatchLoader(dataset, train_batches(dataset, 10, seed=0)) for _ in range(2))
    iterator = iter(early)
    early.batch_sampler.sampler.set_epoch(7)
    late.batch_sampler.sampler.set_epoch(7)
    assert next(iterator)[1].tolist() == next(iter(late))[1].tolist()
