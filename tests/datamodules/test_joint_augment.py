"""Augmentation with albumentations: image and mask stay together; no two items, workers or epochs share a stream."""

import os
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules import PhantomDataModule
from datamodules.segmentation.joint_augment import JointAugmentation, elastic

SIZE = 32


@pytest.fixture
def pair():
    """An image whose levels are its mask: 40 times the label."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[6:20, 4:14], labels[18:28, 15:30] = 1, 2
    return 40 * labels[None], labels


class OnePicture(PhantomDataModule):
    """Forty times the same picture."""

    def load(self):
        every = super().load()
        return replace(every, images=every.images[:1].repeat(40, 1, 1, 1), masks=every.masks[:1].repeat(40, 1, 1))


def loader(workers=0, seed=0, kind=PhantomDataModule):
    data = kind(image_size=SIZE, images=40, seed=seed, augment="full", batch_size=8, num_workers=workers)
    data.setup()
    return data.train_dataloader()


def epochs(loader, *numbers):
    result = []
    for number in numbers:
        loader.batch_sampler.sampler.set_epoch(number)
        result.append([(images.clone(), masks.clone()) for images, masks in loader])
    return result


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


def test_image_and_mask_move_together(pair):
    augmentation = JointAugmentation(0, SIZE, (True, True))
    moved, agree = 0, []
    for index in range(40):
        image, mask = augmentation(*pair, epoch=0, index=index)
        assert image.shape == (1, SIZE, SIZE)
        assert set(np.unique(mask)) <= {0, 1, 2}  # no label is made up between two others
        moved += not np.array_equal(mask, pair[1])
        means = [image[0][mask == label].mean() for label in range(3)]
        assert means == sorted(means)  # whatever brightness and contrast did
        centre = [(image[0] > (means[1] + means[2]) / 2), mask == 2]
        agree.append((centre[0] & centre[1]).sum() / (centre[0] | centre[1]).sum())
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"  # the package index is not asked
    assert moved >= 35
    assert min(agree) > 0.8  # bilinear against nearest at the outline
    assert np.mean(agree) > 0.93


def test_what_is_to_be_ignored_stays_so(pair):
    mask = np.where(pair[1] == 2, 255, pair[1]).astype(np.uint8)
    for index in range(20):
        _, moved = JointAugmentation(0, SIZE)(pair[0], mask, 0, index)
        assert set(np.unique(moved)) <= {0, 1, 255}
        assert 255 in moved


def test_an_item_is_a_function_of_seed_epoch_and_index(pair):
    def draws(seed, keys, augmentation=None):
        augmentation = augmentation or JointAugmentation(seed, SIZE)
        return [augmentation(*pair, epoch, index)[0].tobytes() for epoch, index in keys]

    keys = [(epoch, index) for epoch in range(3) for index in range(8)]
    first = draws(0, keys)
    assert first == draws(0, keys)
    assert first == draws(0, reversed(keys))[::-1]  # also not of what came before
    assert first == draws(0, keys, pickle.loads(pickle.dumps(JointAugmentation(0, SIZE))))
    everything = [*first, *draws(1, keys), *draws(2, keys)]
    assert len(set(everything)) > 0.8 * len(everything)  # some draw nothing at all: 1/2 * 1/4 * 3/4 * 1/2 of them
    state = np.random.get_state()[1].copy()
    torch_state = torch.get_rng_state()
    draws(0, keys)
    assert (np.random.get_state()[1] == state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_transforms_draw_independently():
    """With albumentations' own seeding both flips would always come together."""
    image = np.zeros((1, SIZE, SIZE), np.uint8)
    image[0, :10, :10] = 200
    corners = {"top": 0, "left": 0, "both": 0}
    augmentation = JointAugmentation(0, SIZE, (True, True))
    for index in range(120):
        rows, columns = np.nonzero(augmentation(image, image[0] // 200, 0, index)[1])
        top, left = rows.mean() < SIZE / 2, columns.mean() < SIZE / 2
        corners["top"] += top
        corners["left"] += left
        corners["both"] += top and left
    assert 42 <= corners["top"] <= 78  # three standard deviations
    assert 42 <= corners["left"] <= 78
    assert 15 <= corners["both"] <= 45


@pytest.mark.parametrize("size", [64, 128])
def test_elastic_shifts_are_as_large_as_said_everywhere(size):
    transform, shifts = elastic(size, p=1.0), []
    transform.set_random_state(np.random.default_rng(0), random.Random(0))
    levels = np.tile(np.linspace(0, 1, size, dtype=np.float32), (size, 1))
    coordinates = np.stack([levels, levels.T], -1)
    for _ in range(40):
        moved = transform(image=coordinates, mask=coordinates)["image"]
        assert moved.shape == coordinates.shape
        shifts.append((moved - coordinates) * (size - 1))
    field = np.abs(shifts)
    near = slice(size // 8, size // 8 + 4)  # beside a corner, where nothing is mirrored yet
    for place in (slice(size // 4, -size // 4), near):
        deviation = np.sqrt((field[:, place, place] ** 2).mean())
        assert deviation == pytest.approx(size / 64, rel=0.35)  # 40 draws of few independent places
    assert field[:, size // 8 : -size // 8, size // 8 : -size // 8].max() < size / 10


def test_no_flip_that_is_not_allowed(pair):
    upright = JointAugmentation(0, SIZE, (False, False))
    for index in range(30):
        _, mask = upright(*pair, 0, index)
        rows, columns = np.nonzero(mask == 1)
        assert rows.mean() < 19
        assert columns.mean() < 16


def test_workers_share_no_stream_and_change_nothing():
    state = torch.get_rng_state()
    alone, two = loader(0), loader(2)
    first, second = epochs(two, 0, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, epochs(alone, 0)[0])  # the number of workers does not matter
    assert same(second, epochs(alone, 1)[0])
    assert not same(first, second)
    assert same(first, epochs(two, 0)[0])  # the same workers, asked again
    assert not same(first, epochs(loader(0, seed=1), 0)[0])


def test_two_workers_draw_differently_for_one_and_the_same_picture():
    """Batches alternate between workers; every picture is the same one here, so only the draws can differ."""
    batches = loader(2, kind=OnePicture)
    images = [torch.cat([images for images, _ in epoch]) for epoch in epochs(batches, 0, 1)]
    assert len(images[0]) == 24
    for one in (images[0], torch.cat(images)):
        assert len(one.flatten(1).unique(dim=0)) > 0.85 * len(one)
    halves = [torch.cat([images for images, _ in epochs(batches, 0)[0]][start::2]) for start in (0, 1)]
    common = min(len(half) for half in halves)
    assert not torch.equal(halves[0][:common], halves[1][:common])


def test_absent_albumentations_is_said_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"augment='full' needs albumentations 2\.0\.8"):
        PhantomDataModule(augment="full")
    PhantomDataModule(augment="flip")
