"""Published files: layouts, archives, and what happens when they are missing, truncated or altered."""

import dataclasses
import gzip
import io
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST, STL10, SVHN

from datamodules import (
    CIFAR10DataModule,
    DatasetCorruptError,
    DatasetNotFoundError,
    DigitsDataModule,
    MNISTDataModule,
    STL10DataModule,
    SVHNDataModule,
)
from datamodules.files.integrity import Checksum, md5_of, write_atomically
from datamodules.pictures import resized
from fakes import fake_images, write_fake_cifar10, write_fake_mnist, write_fake_stl10, write_fake_svhn
from fakes.classification import record
from fakes.real import REAL, real

SETS = {
    "cifar10": (CIFAR10DataModule, write_fake_cifar10, "test_batch", r"test_batch is no CIFAR-10 batch"),
    "mnist": (MNISTDataModule, write_fake_mnist, "t10k-labels-idx1-ubyte", r"t10k-labels-idx1-ubyte is no idx file"),
    "svhn": (SVHNDataModule, write_fake_svhn, "test_32x32.mat", r"test_32x32.mat is no MATLAB file of SVHN"),
    "stl10": (STL10DataModule, write_fake_stl10, "test_y.bin", r"STL-10 test: .* bytes of images for"),
}
"""Module, writer, one of its files, and what is said when that is no longer what it should be."""


@pytest.fixture(params=SETS)
def published(request):
    return SETS[request.param]


def loaded(module, root, **options):
    data = module(root=str(root), **{"checksums": "recorded", "augment": "none", **options})
    data.setup()
    return data


def refused(error, message, module, root, **options):
    with pytest.raises(error, match=message):
        loaded(module, root, **options)


def packed(folder, archive, mode):
    """Pack a data folder as the published archives are, with a stranger among the members."""
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, arcname=folder.name)
        stranger = tarfile.TarInfo("../../escaped")
        stranger.size = 3
        tar.addfile(stranger, io.BytesIO(b"bad"))
    return archive


@pytest.mark.parametrize(
    ("module", "write", "source"),
    [(CIFAR10DataModule, write_fake_cifar10, "batches"), (SVHNDataModule, write_fake_svhn, "mat")],
)
def test_the_written_pixels_come_back(tmp_path, module, write, source):
    write(tmp_path, n_train=53, n_test=20)
    data = loaded(module, tmp_path, val_fraction=0.0)
    images, labels = fake_images(73, 3, 32)
    for part, where in ((data.train_set, slice(53)), (data.test_set, slice(53, None))):
        assert np.array_equal(part.images.numpy(), images[where])
        assert np.array_equal(part.labels.numpy(), labels[where])
    assert data.source == f"{source} (unofficial)"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("packed_files", [True, False])
def test_mnist_pads_to_32(tmp_path, channels, packed_files):
    write_fake_mnist(tmp_path, n_train=30, n_test=20, packed=packed_files)
    data = loaded(MNISTDataModule, tmp_path, channels=channels)
    images, labels = fake_images(50, 1, 28)
    assert data.in_channels == len(data.mean) == len(data.std) == channels
    assert data.test_set.images.shape == (20, channels, 32, 32)
    assert np.array_equal(data.test_set.images[:, -1, 2:-2, 2:-2].numpy(), images[30:, 0])
    assert int(data.test_set.images.long().sum()) == channels * int(images[30:].astype(int).sum())
    assert np.array_equal(data.test_set.labels.numpy(), labels[30:])
    assert data.source == "idx (unofficial)"


def test_torchvision_reads_the_fakes_as_we_do(tmp_path, monkeypatch):
    write_fake_mnist(tmp_path, n_train=30, n_test=20, packed=False)
    write_fake_svhn(tmp_path, n_train=30, n_test=20)
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    theirs, ours = MNIST(str(tmp_path), train=False), loaded(MNISTDataModule, tmp_path).test_set
    assert torch.equal(theirs.data, ours.images[:, 0, 2:-2, 2:-2])
    assert torch.equal(theirs.targets, ours.labels)
    theirs, ours = SVHN(str(tmp_path), split="test"), loaded(SVHNDataModule, tmp_path).test_set
    assert np.array_equal(theirs.data, ours.images.numpy())
    assert np.array_equal(theirs.labels, ours.labels.numpy())


def test_stl10_is_upright_reduced_and_labelled_as_cifar10(tmp_path, monkeypatch):
    write_fake_stl10(tmp_path, n_train=10, n_test=20)
    data = loaded(STL10DataModule, tmp_path)
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    theirs = STL10(str(tmp_path), split="test")
    assert torch.equal(data.test_set.images, resized(torch.from_numpy(theirs.data), 32))
    for ours, image in zip(data.test_set.images, theirs.data, strict=True):
        pillow = Image.fromarray(image.transpose(1, 2, 0)).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(pillow).transpose(2, 0, 1).astype(int) - ours.numpy()).max() <= 1
    names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    for ours, label in zip(data.test_set.labels.tolist(), theirs.labels.tolist(), strict=True):
        assert data.class_names[ours] == {"car": "automobile"}.get(names[label], names[label])
    pairs = zip(data.class_names, CIFAR10DataModule.class_names, strict=True)
    assert [ours for ours, cifar10 in pairs if ours != cifar10] == ["monkey"]


def test_missing_and_damaged_files_are_named(tmp_path, published):
    module, write, file, message = published
    for step in ("prepare_data", "setup"):
        with pytest.raises(DatasetNotFoundError) as caught:
            getattr(module(root=str(tmp_path)), step)()
        command = f"scaledrop data get {module.name} --root {tmp_path}"
        for part in (f"not found under {tmp_path}", command, f"{command} --from PATH", "DATA=DIR"):
            assert part in str(caught.value)
    folder = write(tmp_path, n_train=20, n_test=10)
    with pytest.raises(DatasetCorruptError, match=r"is (truncated|altered): .* instead of"):
        module(root=str(tmp_path)).setup()  # never passes as official
    path = folder / (file if (folder / file).exists() else f"{file}.gz")
    content = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
    path.unlink()
    (folder / file).write_bytes(content[:-1])
    with pytest.raises(DatasetCorruptError) as caught:
        loaded(module, tmp_path)
    for part in (str(folder / file), md5_of(content), md5_of(content[:-1]), f"{len(content) - 1:,} bytes", command):
        assert part in str(caught.value)
    record(folder, {file: content[:-1]})
    refused(DatasetCorruptError, message, module, tmp_path)
    (folder / file).unlink()
    refused(DatasetNotFoundError, rf"'{module.name}' is incomplete: no .*{file}\.\nTo get it", module, tmp_path)


def test_svhn_remedy_names_the_files_that_lie_under_the_root_itself(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"a folder that holds train_32x32.mat and test_32x32.mat\."):
        SVHNDataModule(root=str(tmp_path)).setup()


class Attack:
    def __reduce__(self):
        return os.system, ("touch /tmp/scaledrop-test-was-here",)


def batch(count, size=3072, kind=np.uint8, **labels):
    return {b"data": np.zeros((count, size), kind)} | {name.encode(): value for name, value in labels.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Attack(), r"has no use for (posix|nt)\.system"),
        (batch(2), "labels"),
        (batch(2, labels=[0]), "do not belong together"),
        (batch(1, labels=[10]), "do not belong together"),
        (batch(1, 3071, labels=[1]), "reshape"),
        (batch(1, kind=np.float32, labels=[1]), "no bytes"),
    ],
)
def test_batch_with_a_right_md5_but_wrong_content_is_refused(tmp_path, content, message):
    folder = write_fake_cifar10(tmp_path)
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=4))
    record(folder, {"test_batch": (folder / "test_batch").read_bytes()})
    refused(DatasetCorruptError, f"test_batch is no CIFAR-10 batch: .*{message}", CIFAR10DataModule, tmp_path)
    assert not Path("/tmp/scaledrop-test-was-here").exists()


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01\0\0\0\x01a", b"\0\0\x08\x00"])
def test_wrong_idx_file_is_refused(tmp_path, content):
    folder = write_fake_mnist(tmp_path, packed=False)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(content)
    record(folder, {"t10k-labels-idx1-ubyte": content})
    refused(DatasetCorruptError, "t10k-labels-idx1-ubyte is no idx file", MNISTDataModule, tmp_path)


@pytest.mark.parametrize("name", CIFAR10DataModule.files.archives)
def test_archive_under_the_root_is_unpacked(tmp_path, name):
    folder = write_fake_cifar10(tmp_path / "a", n_train=50, n_test=20)
    expected = loaded(CIFAR10DataModule, tmp_path / "a").fingerprint()
    root = tmp_path / "b" / "c"
    root.mkdir(parents=True)
    packed(folder, root / name, "w:" + name.rpartition(".tar")[2].removeprefix("."))
    data = CIFAR10DataModule(root=str(root), checksums="recorded")
    data.prepare_data()
    assert sorted(path.name for path in (root / folder.name).iterdir()) == sorted(os.listdir(folder))
    data.setup()
    assert data.fingerprint() == expected
    assert not [*tmp_path.rglob("escaped"), *tmp_path.rglob("*.tmp")]


def test_root_may_be_an_archive_and_its_folder_read_only(tmp_path):
    folder = write_fake_cifar10(tmp_path / "a", n_train=50, n_test=20)
    expected = loaded(CIFAR10DataModule, tmp_path / "a").fingerprint()
    archive = packed(folder, tmp_path / "mine.tar.xz", "w:xz")
    tmp_path.chmod(0o555)
    try:
        assert loaded(CIFAR10DataModule, archive).fingerprint() == expected
        assert not (tmp_path / folder.name).exists()
    finally:
        tmp_path.chmod(0o755)
    assert loaded(CIFAR10DataModule, archive).fingerprint() == expected
    assert (tmp_path / folder.name / "test_batch").is_file()


def test_damaged_archives_and_gzip_files(tmp_path):
    archive = packed(write_fake_cifar10(tmp_path / "a"), tmp_path / "mine.tar.xz", "w:xz")
    for content in (archive.read_bytes()[:-5000], b"<html>quota exceeded</html>"):
        archive.write_bytes(content)
        refused(DatasetCorruptError, r"mine.tar.xz is truncated or no tar archive", CIFAR10DataModule, archive)
    idx = write_fake_mnist(tmp_path) / "t10k-images-idx3-ubyte.gz"
    idx.write_bytes(idx.read_bytes()[:-100])
    refused(DatasetCorruptError, r"t10k-images-idx3-ubyte.gz is truncated or altered", MNISTDataModule, tmp_path)
    other = packed(idx.parent, tmp_path / "other.tar", "w")
    refused(DatasetNotFoundError, r"other.tar holds no batches.meta", CIFAR10DataModule, other)


def test_png_tree_equals_the_pixels_and_says_so(tmp_path):
    images, labels = fake_images(60, 3, 32)
    names = CIFAR10DataModule.class_names
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / ("train" if number < 40 else "test") / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:04}.png")
    data = CIFAR10DataModule(root=str(tmp_path), val_fraction=0.0)
    data.prepare_data()
    data.setup()
    order = np.lexsort((np.arange(40), labels[:40]))
    assert data.source == "png tree"
    assert np.array_equal(data.train_set.images.numpy(), images[:40][order])
    assert np.array_equal(data.train_set.labels.numpy(), labels[:40][order])
    assert data.sizes() == {"train": 40, "val": 0, "test": 20}

    def refused(message):
        with pytest.raises(DatasetCorruptError, match=message):
            CIFAR10DataModule(root=str(tmp_path)).setup()

    bad = next((tmp_path / "test" / "ship").glob("*.png"))
    bad.write_bytes(bad.read_bytes()[:40])
    refused(rf"{bad.name} is no readable PNG")
    Image.new("RGB", (16, 16)).save(bad)
    refused(r"is \(16, 16\) pixels instead of \(32, 32\)")
    shutil.rmtree(tmp_path / "test" / "ship")
    refused("missing or unknown: ship")
    write_fake_cifar10(tmp_path)  # batches come first, whatever else is there
    refused(r"data_batch_1 is truncated")


def test_digits_are_a_balanced_stand_in():
    data = DigitsDataModule()
    data.setup()
    assert data.stand_in
    assert not CIFAR10DataModule.stand_in
    assert data.sizes() == {"train": 1294, "val": 144, "test": 359}
    assert data.test_set.labels.bincount().tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    values = data.normalized(torch.cat([data.train_set.images, data.val_set.images]))
    assert abs(float(values.mean())) < 1e-3
    assert abs(float(values.std()) - 1) < 1e-3
    assert data.source == "scikit-learn"
    assert data.fingerprint() == "c711234a9c8f1db0"


def test_bad_options_of_published_sets():
    with pytest.raises((ValueError, TypeError), match="channels"):
        MNISTDataModule(channels=2)
    with pytest.raises((ValueError, TypeError), match="checksums"):
        CIFAR10DataModule(checksums="none")


def test_install_takes_folders_and_archives_but_only_official_content(tmp_path):
    folder = write_fake_mnist(tmp_path / "a", n_train=20, n_test=10)
    sums = {path.stem: Checksum(md5_of(gzip.decompress(path.read_bytes()))) for path in folder.glob("*.gz")}
    files = dataclasses.replace(MNISTDataModule.files, files=sums)
    archive = packed(folder, tmp_path / "any.tar.gz", "w:gz")
    for number, origin in enumerate((folder, tmp_path / "a", folder.parent, archive)):
        installed = tmp_path / str(number) / "MNIST" / "raw"
        assert files.install(origin, tmp_path / str(number)) == installed
        assert files.missing(installed) == []
        assert sorted(os.listdir(installed)) == sorted(files.files)
    for which, origin, message in (
        (MNISTDataModule.files, folder, "is truncated"),
        (files, tmp_path, "holds no complete mnist"),
        (files, tmp_path / "nowhere", "there is no"),
    ):
        with pytest.raises((DatasetCorruptError, DatasetNotFoundError), match=message):
            which.install(origin, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_atomic_write_leaves_the_old_file_and_no_rubbish_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_malformed_record(tmp_path):
    (write_fake_mnist(tmp_path) / "checksums.md5").write_text("nonsense\n")
    refused(DatasetCorruptError, r"checksums.md5 has a line that is not .*'nonsense'", MNISTDataModule, tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("module", "there", "fingerprint", "sizes"),
    [
        (CIFAR10DataModule, "cifar-10-batches-py", "cb85cdd084bdd771", (45_000, 5_000, 10_000)),
        (MNISTDataModule, "MNIST", "54f82eb698eaca48", (54_000, 6_000, 10_000)),
    ],
)
def test_real_sets_equal_torchvisions(module, there, fingerprint, sizes):
    data = real(module, there)
    assert data.fingerprint() == fingerprint
    assert tuple(data.sizes().values()) == sizes
    if module is MNISTDataModule:
        assert data.test_set.labels[:5].tolist() == [7, 2, 1, 0, 4]
        return
    assert data.source == "batches"
    assert data.val_set.labels.bincount().tolist() == [500] * 10
    theirs = CIFAR10(str(REAL), train=False)
    assert np.array_equal(theirs.data, data.test_set.images.permute(0, 2, 3, 1).numpy())
    assert theirs.targets == data.test_set.labels.tolist()
    assert tuple(theirs.classes) == data.class_names
