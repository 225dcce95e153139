"""Suites by name: what is evaluated, on which images, and what is said about their origin."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from datamodules import (
    GROUPS,
    CIFAR10DataModule,
    DatasetCorruptError,
    DatasetNotFoundError,
    DigitsDataModule,
    MNISTDataModule,
    corrupt,
    load_suite,
    renormalized,
    uniform_noise,
)
from datamodules.corruptions.corruptions import VERSION
from datamodules.suites.suites import rotated
from fakes import (
    write_fake_cifar10,
    write_fake_cifar10_c,
    write_fake_cifar100,
    write_fake_mnist,
    write_fake_pictures,
    write_fake_stl10,
    write_fake_svhn,
)
from fakes.real import real

N_TEST = 60
NAMES = sorted({*GROUPS["table6"], *GROUPS["near"], *GROUPS["far"], "corrupted/fog/3", "rotation/30"})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Every set in miniature."""
    root = tmp_path_factory.mktemp("suites")
    write_fake_cifar10(root, n_train=100, n_test=N_TEST)
    write_fake_mnist(root, n_train=20, n_test=30)
    write_fake_svhn(root, n_train=20, n_test=40)
    write_fake_stl10(root, n_train=10, n_test=20)
    write_fake_cifar100(root, n_test=50)
    write_fake_pictures(root / "tinyimagenet-val-32", ("n03444034", "n04067472"), each=5, size=(32, 32))
    write_fake_pictures(root / "dtd10-32", ("banded", "braided"), each=5, size=(32, 32))
    write_fake_pictures(root / "places365" / "val_256", ("",), each=10, size=(64, 48), suffix="jpg")
    return root


@pytest.fixture(scope="module")
def cifar10(root):
    return ready(CIFAR10DataModule, root)


def ready(module, root):
    data = module(root=str(root), **({} if module is DigitsDataModule else {"checksums": "recorded"}))
    data.setup()
    return data


def test_the_groups_are_the_papers_and_openoods():
    assert GROUPS["table6"] == ("gaussian", "uniform", "test_gaussian", "test_uniform", "svhn", "stl10")
    assert GROUPS["near"] == ("cifar100", "tiny_imagenet")
    assert GROUPS["far"] == ("mnist", "svhn", "textures", "places365")
    assert len(set(GROUPS["corruptions"])) == 75
    assert "corrupted/jpeg_compression/5" in GROUPS["corruptions"]
    assert GROUPS["rotation"][0] == "rotation/0"
    assert GROUPS["rotation"][-1] == "rotation/180"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("module", [CIFAR10DataModule, MNISTDataModule])
def test_every_suite_is_shaped_like_the_data_and_seeded(root, name, module):
    if name == module.name:
        pytest.skip("the data itself")
    data = ready(module, root)
    suite = load_suite(name, data, limit=8, seed=3)
    assert suite.name == name
    assert suite.title
    assert suite.source
    assert suite.images.shape == (8, *data.test_set.images.shape[1:])
    assert suite.images.dtype in (torch.uint8, torch.float32)
    same, other = load_suite(name, data, limit=8, seed=3), load_suite(name, data, limit=8, seed=4)
    assert torch.equal(suite.images, same.images)
    assert suite.fingerprint == same.fingerprint
    assert len(suite.fingerprint) == 16
    seeded = not name.startswith("rotation")
    assert (suite.fingerprint != other.fingerprint) == seeded
    shift = suite.kind == "shift"
    assert (suite.labels is not None) == shift
    if shift:
        assert torch.equal(suite.labels, data.test_set.labels[:8])


def test_pure_noise_is_what_it_says(cifar10):
    gaussian, uniform = load_suite("gaussian", cifar10), load_suite("uniform", cifar10)
    assert gaussian.normalized
    assert not uniform.normalized
    assert len(gaussian.images) == len(uniform.images) == N_TEST
    assert gaussian.source == "generated, seed 0"
    assert stats.kstest(gaussian.images.flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(uniform.images.flatten().numpy() / 255, "uniform").pvalue > 0.01
    # a shorter suite is the beginning of a longer one
    assert torch.equal(load_suite("gaussian", cifar10, limit=5).images, gaussian.images[:5])


def test_noise_on_test_images_is_independent_of_the_image(cifar10):
    clean = cifar10.test_set.images
    suite = load_suite("test_gaussian", cifar10)
    assert suite.normalized
    noise = (suite.images - cifar10.normalized(clean)).flatten().numpy()
    assert stats.kstest(noise, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise, clean.flatten().numpy())[0, 1]) < 0.02
    suite = load_suite("test_uniform", cifar10)
    assert not suite.normalized
    noise = (suite.images - clean.float()).flatten().numpy() / 255
    assert stats.kstest(noise, "uniform").pvalue > 0.01
    assert suite.images.max() > 255  # not clipped


def test_growing_noise_is_one_pattern():
    image = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    base = uniform_noise(image, 1.0, seed=2) - 100
    for strength in (0.0, 0.25, 0.5):
        torch.testing.assert_close(uniform_noise(image, strength, seed=2), 100 + strength * base)
    assert not torch.equal(uniform_noise(image, 1.0, seed=3) - 100, base)


def test_limit_takes_images_after_a_seeded_shuffle(cifar10):
    whole = load_suite("svhn", cifar10)
    assert len(whole.images) == 40
    some = load_suite("svhn", cifar10, limit=10, seed=1)
    rows = {tuple(image.flatten().tolist()) for image in whole.images}
    assert {tuple(image.flatten().tolist()) for image in some.images} <= rows
    assert not torch.equal(some.images, whole.images[:10])
    assert len(load_suite("svhn", cifar10, limit=1000).images) == 40
    with pytest.raises(ValueError, match="limit must be at least 1, or None, not 0"):
        load_suite("svhn", cifar10, limit=0)


def test_titles_and_sources(cifar10):
    expected = {
        "svhn": ("SVHN", "mat (unofficial)"),
        "stl10": ("STL-10", "binary, 32x32 (unofficial)"),
        "mnist": ("MNIST", "idx (unofficial)"),
        "textures": ("DTD subset (2 categories)", "dtd10-32"),
        "corrupted/glass_blur/2": ("glass blur, severity 2", f"generated (version {VERSION}), seed 0"),
    }
    for name, (title, source) in expected.items():
        suite = load_suite(name, cifar10, limit=4)
        assert (suite.title, suite.source) == (title, source)


def test_generated_corruptions_are_those_of_the_first_test_images(cifar10):
    clean = cifar10.test_set.images
    for severity in (1, 5):
        suite = load_suite(f"corrupted/shot_noise/{severity}", cifar10, limit=7, seed=2)
        assert torch.equal(suite.images, corrupt(clean[:7], "shot_noise", severity, seed=2))


def test_released_corruptions_are_used_where_they_are_and_the_severity_is_the_one_asked_for(tmp_path):
    write_fake_cifar10(tmp_path, n_train=100, n_test=20)
    data = ready(CIFAR10DataModule, tmp_path)
    write_fake_cifar10_c(tmp_path, n_train=100, n_test=20)
    clean, prints = data.test_set.images.int(), set()
    some = [name for name in GROUPS["corruptions"] if name.split("/")[1] in ("gaussian_noise", "fog", "pixelate")]
    for name in some:
        suite = load_suite(name, data, limit=6)
        assert suite.source == "released (unofficial)"
        assert torch.equal(suite.labels, data.test_set.labels[:6])
        severity = int(name[-1])
        expected = (clean[:6, 1] - 3 * severity).clamp(min=0)  # the second channel carries the severity
        assert torch.equal(suite.images[:, 1].int(), expected)
        prints.add(suite.fingerprint)
    assert len(prints) == len(some) == 15
    assert load_suite("corrupted/fog/1", ready(DigitsDataModule, tmp_path), limit=2).source.startswith(
        "generated (version"
    )
    # of another test set, or incomplete: an error, and no silent replacement
    write_fake_cifar10_c(tmp_path, n_train=100, n_test=20, seed=1)
    with pytest.raises(DatasetCorruptError, match="are not the labels of CIFAR-10's test set"):
        load_suite("corrupted/fog/1", data)
    (tmp_path / "CIFAR-10-C" / "fog.npy").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"'cifar10_c' is incomplete: no .*fog\.npy"):
        load_suite("corrupted/fog/1", data)


def test_absent_sets_say_how_to_get_them(tmp_path):
    data = ready(DigitsDataModule, tmp_path)
    for name in (*GROUPS["near"], *GROUPS["far"], "stl10", "cifar10"):
        with pytest.raises(DatasetNotFoundError, match=f"scaledrop data get {name} --root"):
            load_suite(name, data)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "is the in-distribution data itself"),
        ("svnh", "unknown suite 'svnh'; did you mean 'svhn'?"),
        ("corrupted/fogg/3", "did you mean 'corrupted/fog/3'?"),
        ("corrupted/fog/6", "unknown suite 'corrupted/fog/6'"),
        ("corrupted", "unknown suite 'corrupted'"),
        ("rotation/x", "after rotation/ comes a number of degrees"),
        ("rotation/nan", "after rotation/ comes a number of degrees"),
        ("", "unknown suite ''"),
    ],
)
def test_wrong_names(cifar10, name, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        load_suite(name, cifar10)


def test_rotation_is_pillows_and_scipys(cifar10):
    images = cifar10.test_set.images[:3]
    assert torch.equal(load_suite("rotation/0", cifar10, limit=3).images, images)
    assert torch.equal(rotated(images, 90.0), images.rot90(1, (2, 3)))
    assert torch.equal(rotated(images, 180.0), images.flip(2, 3))
    turned = load_suite("rotation/30", cifar10, limit=3)
    assert turned.title == "rotated by 30°"
    inside = slice(8, 24)
    for ours, clean in zip(turned.images, images, strict=True):
        assert ours[:, 0, 0].tolist() == [0, 0, 0]
        pillow = Image.fromarray(clean.permute(1, 2, 0).numpy()).rotate(30, Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(pillow).transpose(2, 0, 1).astype(int) - ours.numpy())[:, inside, inside].max() <= 2
        scipys = ndimage.rotate(clean[0].double().numpy(), 30, reshape=False, order=1)
        assert np.abs(scipys - ours[0].numpy())[inside, inside].max() <= 1


def test_renormalized_images_have_mean_0_and_deviation_1_in_each_channel(cifar10):
    images = cifar10.test_set.images[:5]
    result = renormalized(images)
    np.testing.assert_allclose(result.mean((2, 3)), np.zeros((5, 3)), atol=1e-5)
    np.testing.assert_allclose(result.std((2, 3), unbiased=False), np.ones((5, 3)), rtol=1e-5)
    torch.testing.assert_close(result, renormalized(cifar10.normalized(images)), rtol=1e-4, atol=1e-4)
    assert renormalized(torch.full((1, 3, 4, 4), 7, dtype=torch.uint8)).abs().max() == 0
    # a loss of contrast is undone
    torch.testing.assert_close(renormalized(images.float() * 0.2 + 90), result, rtol=1e-3, atol=1e-3)


@pytest.mark.data
def test_real_suites_of_cifar10():
    data = real(CIFAR10DataModule, "cifar-10-batches-py")
    for name in ("gaussian", "test_uniform", "corrupted/snow/4", "rotation/45", *GROUPS["near"], "mnist", "textures"):
        try:
            suite = load_suite(name, data, limit=200)
        except DatasetNotFoundError:
            continue
        assert suite.images.shape == (200, 3, 32, 32)
        assert "unofficial" not in suite.source
