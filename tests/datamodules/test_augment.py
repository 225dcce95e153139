"""Batch augmentation against torchvision's functions, image by image."""

import pytest
import torch
from torchvision.transforms import functional as reference
from torchvision.transforms.v2 import RandomResizedCrop

from datamodules.classification import augment


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (12, 3, 20, 32), generator=generator, dtype=torch.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_flip_equals_torchvision(images):
    chosen = torch.arange(12) % 3 == 0
    expected = [reference.hflip(x) if c else x for x, c in zip(images, chosen, strict=True)]
    assert torch.equal(augment.flip(images, chosen), torch.stack(expected))


def test_about_half_of_the_images_are_mirrored():
    assert 1880 <= int(augment.draw_flips(4000, generator()).sum()) <= 2120  # 3.8 standard deviations
    assert not augment.draw_flips(100, generator(), p=0.0).any()
    assert augment.draw_flips(100, generator(), p=1.0).all()


def test_crop_equals_torchvision(images):
    top, left = torch.randint(0, 9, (2, 12), generator=generator(3))
    expected = [
        reference.crop(reference.pad(x, [4, 4, 4, 4]), int(i), int(j), 20, 32)
        for x, i, j in zip(images, top, left, strict=True)
    ]
    result = augment.crop(images, top, left, padding=4)
    assert result.dtype == torch.uint8
    assert torch.equal(result, torch.stack(expected))


def test_random_crop_reaches_every_shift_and_no_other():
    point = torch.zeros(2000, 1, 9, 9)
    point[:, :, 4, 4] = 1
    where = augment.crop(point, *augment.draw_corners(2000, generator(), padding=2), padding=2).flatten(1).argmax(1)
    shifts = torch.stack([where // 9 - 4, where % 9 - 4])
    assert {tuple(pair) for pair in shifts.T.tolist()} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert torch.equal(augment.crop(point, *augment.draw_corners(2000, generator(), padding=0), padding=0), point)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0), (0.01, 0.05)])
def test_resized_crop_equals_torchvision(images, scale):
    boxes = augment.draw_boxes(12, (20, 32), generator(5), scale=scale)
    expected = [
        reference.resized_crop(x.float(), *box.tolist(), [20, 32], antialias=True)
        for x, box in zip(images, boxes.T, strict=True)
    ]
    result = augment.resized_crop(images, boxes)
    torch.testing.assert_close(result, torch.stack(expected), atol=1e-3, rtol=0)


def test_resized_crop_of_the_whole_image_is_the_identity(images):
    boxes = torch.tensor([[0], [0], [20], [32]]).expand(4, 12)
    torch.testing.assert_close(augment.resized_crop(images, boxes), images.float())


def test_boxes_lie_inside_and_follow_torchvisions_distribution():
    size, scale, ratio = (32, 32), (0.3, 1.0), (0.75, 4 / 3)
    ours = augment.draw_boxes(6000, size, generator(), scale, ratio).double()
    top, left, height, width = ours
    assert bool((ours[:2] >= 0).all() and (top + height <= 32).all() and (left + width <= 32).all())
    transform = RandomResizedCrop(size, scale=scale, ratio=ratio)
    blank = torch.empty(1, 32, 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [transform.make_params([blank]) for _ in range(6000)]
    theirs = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in drawn]).T.double()
    # 6,000 draws each, deviations of at most 6 pixels: three standard errors of a difference are 0.33
    torch.testing.assert_close(ours.mean(1), theirs.mean(1), atol=0.33, rtol=0)
    torch.testing.assert_close(ours.std(1), theirs.std(1), atol=0.33, rtol=0)


def test_a_box_that_never_fits_becomes_the_whole_image():
    boxes = augment.draw_boxes(5, (32, 32), generator(), scale=(1.0, 1.0), ratio=(2.0, 3.0))
    assert boxes.T.tolist() == [[0, 0, 32, 32]] * 5


def test_same_generator_same_draws_and_global_stream_untouched():
    before = torch.get_rng_state()
    boxes = lambda images, generator: augment.draw_boxes(images, (32, 32), generator)  # noqa: E731
    for draw in (augment.draw_flips, augment.draw_corners, boxes):
        first, again, other = (draw(50, generator(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_part_of_an_epochs_draws_is_that_of_its_images():
    whole = augment.Augmentation(augment.draw_flips(20, generator()), augment.draw_corners(20, generator()), None)
    part = whole.part(5, 3)
    assert torch.equal(part.flipped, whole.flipped[5:8])
    assert torch.equal(part.corners, whole.corners[:, 5:8])
    assert part.boxes is None
