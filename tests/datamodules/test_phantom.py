"""Generated phantoms: seeds, geometry, and the statistics of speckle."""

import math
import time

import pytest
import torch

from datamodules import PhantomDataModule, phantom_images
from datamodules.segmentation.phantom import smeared


def test_an_image_depends_on_its_number_and_the_seed_only():
    images, masks = phantom_images(70, 32)
    fewer, their_masks = phantom_images(66, 32)
    assert torch.equal(images[:66], fewer)
    assert torch.equal(masks[:66], their_masks)
    other, _ = phantom_images(70, 32, seed=1)
    assert not (images == other).flatten(1).all(1).any()
    assert len(images.flatten(1).unique(dim=0)) == 70


def test_300_images_take_less_than_two_seconds_and_no_global_randomness():
    state = torch.get_rng_state()
    start = time.process_time()
    images, masks = phantom_images(300, 64)
    assert time.process_time() - start < 2
    assert torch.equal(torch.get_rng_state(), state)
    area = masks.double().mean((1, 2))
    shown = area > 0
    assert pytest.approx(1 - shown.double().mean().item(), abs=0.065) == 1 / 6  # three standard deviations
    assert 0.02 < area[shown].min() < area.max() < 0.14
    edge = torch.cat([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], 1)
    assert not edge.any()  # whole lesions
    assert (images == 0).double().mean() < 0.02
    assert (images == 255).double().mean() < 0.02


def test_lesions_are_darker_than_what_is_beside_them():
    images, masks = phantom_images(100, 64)
    inside = masks.bool()
    rows = inside.any(2, keepdim=True)
    beside = rows & ~inside
    shown = inside.flatten(1).any(1)
    levels = images[:, 0].double()
    dark = (levels * inside).sum((1, 2)) / inside.sum((1, 2))
    light = (levels * beside).sum((1, 2)) / beside.sum((1, 2))
    gap = 50 / 255 * (light - dark)[shown]  # decibels
    assert 8 < gap.mean() < 16
    assert gap.min() > 4


def test_speckle_is_rayleigh():
    """In decibels a Rayleigh variable has deviation 10 / ln 10 * pi / sqrt 6 = 5.57, whatever its scale."""
    field = torch.randn(40, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    blurred = smeared(field, 0.8, 1.4)
    assert blurred.var().item() == pytest.approx(1, rel=0.06)  # the mirrored border weighs a little more
    decibels = 10 * torch.log10(blurred.square().sum(1))
    assert decibels.std().item() == pytest.approx(10 / math.log(10) * math.pi / math.sqrt(6), rel=0.03)
    across = (blurred[..., 1:] * blurred[..., :-1]).mean() / blurred.square().mean()
    assert across.item() == pytest.approx(math.exp(-1 / (4 * 1.4**2)), abs=0.02)  # of a Gaussian kernel with itself


def test_the_module_is_a_stand_in_that_needs_no_files(tmp_path):
    data = PhantomDataModule(root=str(tmp_path / "nothing"), images=60, image_size=32)
    data.setup()
    assert data.stand_in
    assert data.files is None
    assert data.sizes() == {"train": 43, "val": 5, "test": 12}
    assert data.source == "generated, seed 0; test: part 0 of 5"
    images = data.normalized(data.train_set.images)
    assert abs(images.mean().item()) < 0.15
    assert images.std().item() == pytest.approx(1, abs=0.15)
    other = PhantomDataModule(images=60, image_size=32, phantom_seed=1)
    other.setup()
    assert data.fingerprint() != other.fingerprint()
    with pytest.raises(ValueError, match="images must be at least 10, not 3"):
        PhantomDataModule(images=3)
