"""The 15 corruptions: what holds for all of them, and each against an independent implementation."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from datamodules import CIFAR10DataModule
from datamodules.corruptions.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from fakes.real import real

ROUGH = {"glass_blur", "motion_blur", "frost", "elastic_transform"}
"""Corruptions whose public constants do not make the pixels' distance grow with every severity; see below."""


def natural(number=24, channels=3, size=32, seed=0):
    """Images with the spectrum of natural ones, 1 / f, and some contrast."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)) + 1 / size
    spectrum = np.fft.fft2(
        random.normal(size=(number, 1, size, size)) + 0.3 * random.normal(size=(number, channels, size, size))
    )
    images = np.fft.ifft2(spectrum / frequency).real
    images = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
    return torch.from_numpy((120 + 60 * images).clip(0, 255).astype(np.uint8))


IMAGES = natural()


def distances(name, images=IMAGES):
    return [(corrupt(images, name, severity).float() - images.float()).abs().mean().item() for severity in SEVERITIES]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_batch_equals_its_images_one_by_one(name):
    for severity in SEVERITIES:
        whole = corrupt(IMAGES[:6], name, severity, seed=3, first_index=100)
        single = [corrupt(IMAGES[i : i + 1], name, severity, seed=3, first_index=100 + i) for i in range(6)]
        assert torch.equal(whole, torch.cat(single))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_result_is_seeded_and_severities_differ(name):
    kept = IMAGES.clone()
    results = [corrupt(IMAGES, name, severity) for severity in SEVERITIES]
    assert torch.equal(IMAGES, kept)
    for result in results:
        assert result.dtype == torch.uint8
        assert result.shape == IMAGES.shape
        assert sum(torch.equal(result, other) for other in results) == 1
        assert not torch.equal(result, IMAGES)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(results[2], corrupt(IMAGES, name, 3))
    assert torch.equal(before, torch.get_rng_state())
    random = not torch.equal(results[2], corrupt(IMAGES, name, 3, seed=1))
    assert random == (
        name not in {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    )


def test_chunks_leave_no_trace(monkeypatch):
    whole = corrupt(IMAGES, "snow", 4)
    monkeypatch.setattr("datamodules.corruptions.corruptions.CHUNK", 5)
    assert torch.equal(whole, corrupt(IMAGES, "snow", 4))


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_black_and_white_images_stay_in_bounds(name, value):
    images = torch.full((4, 3, 32, 32), value, dtype=torch.uint8)
    result = corrupt(images, name, 5).float()
    away = (result - value).abs().mean()  # an overflow of the bytes would be far away
    assert away < (150 if name in {"snow", "frost", "fog", "brightness"} else 40)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in ROUGH])
def test_severity_increases_the_distance_to_the_clean_image(name):
    found = distances(name)
    assert found == sorted(found)


def test_where_the_public_constants_do_not_grow_with_every_severity():
    # motion blur 3 and 4 have the same Gaussian; only its cut-off, where it is 0 anyway, differs
    motion = distances("motion_blur")
    assert motion[0] < motion[1] < motion[2] < motion[4]
    assert motion[3] == pytest.approx(motion[2], rel=0.05)
    # glass blur moves pixels once in 1 to 3, and twice in 4 and 5; a little more blur then lessens the distance
    glass = distances("glass_blur")
    assert max(glass[:3]) < min(glass[3:])
    # frost dims the image in 3 to 5 as it adds ice: the images' correlation with the clean ones is what falls
    many = natural(200, seed=1)
    centred = (many.float() - many.float().mean((1, 2, 3), keepdim=True)).flatten(1)
    likeness = []
    for severity in SEVERITIES:
        frozen = corrupt(many, "frost", severity).float().flatten(1)
        frozen -= frozen.mean(1, keepdim=True)
        likeness.append(torch.cosine_similarity(centred, frozen).mean().item())
    assert likeness == sorted(likeness, reverse=True)
    # elastic moves the whole image less and less, and its parts against each other more and more: straight lines bend
    across = torch.arange(32).mul(6).to(torch.uint8).expand(8, 3, 32, 32)
    bent = []
    for severity in SEVERITIES:
        lines = corrupt(across, "elastic_transform", severity)[:, 0, 8:24, 8:24].double()
        bent.append(lines.diff(n=2, dim=1).abs().mean().item())
    assert bent[1] < bent[2] < bent[3] < bent[4]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_grey_images_and_other_sizes(name):
    grey = natural(3, channels=1, size=28)
    assert corrupt(grey, name, 3).shape == grey.shape
    assert not torch.equal(corrupt(grey, name, 3), grey)
    wide = natural(2, size=48)[:, :, :40]
    assert corrupt(wide, name, 2).shape == (2, 3, 40, 48)
    assert corrupt(wide[:0], name, 2).shape == (0, 3, 40, 48)


def test_bad_requests():
    with pytest.raises(ValueError, match="unknown corruption 'fogg'; did you mean 'fog'"):
        corrupt(IMAGES, "fogg", 1)
    with pytest.raises(ValueError, match="severity must be from 1 to 5, not 6"):
        corrupt(IMAGES, "fog", 6)
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        corrupt(IMAGES[:, :2], "fog", 1)


def test_constants_are_the_public_ones():
    assert len(CORRUPTIONS) == 15
    assert all(len(corruption.constants) == 5 for corruption in CORRUPTIONS.values())
    for count, last in zip(CORRUPTIONS["zoom_blur"].constants, (1.06, 1.11, 1.16, 1.21, 1.26), strict=True):
        assert count == (len(np.arange(1, last, 0.01)),)


PUBLIC = {
    "zoom_blur": (8.85, 12.42, 16.51),
    "snow": (10.67, 25.33, 50.40),
    "frost": (31.1, 50.3, 42.7),
    "fog": (10.91, 27.52, 39.56),
    "jpeg_compression": (5.30, 7.03, 8.09),
}
"""Mean distance of the public generator's images to the clean ones at severities 1, 3 and 5, in grey levels."""


@pytest.mark.data
def test_real_images_grow_more_distant_and_as_distant_as_the_public_ones():
    data = real(CIFAR10DataModule, "cifar-10-batches-py")
    for name in set(CORRUPTIONS) - ROUGH:
        found = distances(name, data.test_set.images[:100])
        assert found == sorted(found), name
    for name, public in PUBLIC.items():
        assert distances(name, data.test_set.images[:1000])[::2] == pytest.approx(public, rel=0.035), name


def test_contrast_pulls_towards_the_mean_of_each_channel():
    clean = IMAGES.double().numpy()
    mean = clean.mean((2, 3), keepdims=True)
    expected = np.floor((clean - mean) * 0.3 + mean + 1e-4)
    assert np.abs(corrupt(IMAGES, "contrast", 4).numpy() - expected).max() <= 1
    assert (corrupt(IMAGES, "contrast", 4).numpy() == expected).mean() > 0.999


def test_ndimage_is_the_reference_for_defocus():
    disk = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    one = np.exp(-(np.array([-1, 0, 1]) ** 2) / (2 * 0.2**2))  # severity 4: radius 1, alias 0.2
    kernel = ndimage.correlate(np.pad(disk / disk.sum(), 1), np.outer(one, one) / one.sum() ** 2, mode="constant")
    expected = np.stack([[ndimage.correlate(c, kernel, mode="mirror") for c in i] for i in IMAGES.double().numpy()])
    result = corrupt(IMAGES, "defocus_blur", 4).numpy()
    assert np.abs(result + 0.5 - expected).max() <= 0.5 + 1e-3
