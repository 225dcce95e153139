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
from torchvision.datasets import CIFAR10, MNIST

from datamodules import CIFAR10DataModule, DatasetCorruptError, DatasetNotFoundError, DigitsDataModule, MNISTDataModule
from datamodules.files.integrity import Checksum, md5_of, parse_record, write_atomically
from fakes import fake_images, write_fake_cifar10, write_fake_mnist

FAKE = {"checksums": "recorded", "augment": "none"}


def packed(folder, archive, mode):
    """Pack a data folder as the published archives are, with a stranger among the members."""
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, arcname=folder.name)
        stranger = tarfile.TarInfo("../../escaped")
        stranger.size = 3
        tar.addfile(stranger, io.BytesIO(b"bad"))
    return archive


def loaded(module, root, **options):
    data = module(root=str(root), **{**FAKE, **options})
    data.setup()
    return data


def test_cifar10_batches_give_the_written_pixels(tmp_path):
    write_fake_cifar10(tmp_path, n_train=53, n_test=20)
    data = loaded(CIFAR10DataModule, tmp_path, val_fraction=0.0)
    images, labels = fake_images(73, 3, 32)
    assert np.array_equal(data.train_set.images.numpy(), images[:53])
    assert np.array_equal(data.test_set.images.numpy(), images[53:])
    assert np.array_equal(data.train_set.labels.numpy(), labels[:53])
    assert np.array_equal(data.test_set.labels.numpy(), labels[53:])
    assert data.source == "batches (unofficial)"
    assert data.class_names[9] == "truck"


def test_fake_data_never_passes_as_official(tmp_path):
    write_fake_cifar10(tmp_path)
    write_fake_mnist(tmp_path)
    for module, file in ((CIFAR10DataModule, "data_batch_1"), (MNISTDataModule, "train-images-idx3-ubyte")):
        with pytest.raises(DatasetCorruptError, match=f"{file} is truncated: .* bytes instead of"):
            module(root=str(tmp_path)).setup()


@pytest.mark.parametrize("name", CIFAR10DataModule.files.archives)
def test_archive_under_the_root_is_unpacked(tmp_path, name):
    folder = write_fake_cifar10(tmp_path / "a", n_train=50, n_test=20)
    expected = loaded(CIFAR10DataModule, tmp_path / "a").fingerprint()
    root = tmp_path / "b" / "c"
    root.mkdir(parents=True)
    packed(folder, root / name, "w:" + name.rpartition(".tar")[2].removeprefix("."))
    data = CIFAR10DataModule(root=str(root), **FAKE)
    data.prepare_data()
    assert sorted(path.name for path in (root / folder.name).iterdir()) == sorted(os.listdir(folder))
    data.setup()
    assert data.fingerprint() == expected
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("*.tmp"))


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


def test_missing_data_says_every_remedy(tmp_path):
    for module in (CIFAR10DataModule, MNISTDataModule):
        for step in ("prepare_data", "setup"):
            with pytest.raises(DatasetNotFoundError) as caught:
                getattr(module(root=str(tmp_path)), step)()
            command = f"scaledrop data get {module.name} --root {tmp_path}"
            for part in (f"not found under {tmp_path}", command, f"{command} --from PATH", "DATA=DIR"):
                assert part in str(caught.value)


def test_one_missing_file_is_named(tmp_path):
    (write_fake_cifar10(tmp_path) / "data_batch_3").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"'cifar10' is incomplete: no .*/data_batch_3\.\nTo get it"):
        loaded(CIFAR10DataModule, tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_damaged_batch_is_named_with_md5_and_bytes(tmp_path, damage):
    path = write_fake_cifar10(tmp_path) / "data_batch_4"
    content = bytearray(path.read_bytes())
    before = md5_of(content)
    if damage == "truncated":
        del content[-7:]
    else:
        content[4000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetCorruptError) as caught:
        loaded(CIFAR10DataModule, tmp_path)
    for part in (str(path), before, md5_of(content), f"{len(content):,} bytes", "scaledrop data get cifar10"):
        assert part in str(caught.value)


def test_damaged_archives_and_gzip_files(tmp_path):
    archive = packed(write_fake_cifar10(tmp_path / "a"), tmp_path / "mine.tar.xz", "w:xz")
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(DatasetCorruptError, match=r"mine.tar.xz is truncated or no tar archive"):
        loaded(CIFAR10DataModule, archive)
    archive.write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(DatasetCorruptError, match=r"mine.tar.xz is truncated or no tar archive"):
        loaded(CIFAR10DataModule, archive)
    idx = write_fake_mnist(tmp_path) / "t10k-images-idx3-ubyte.gz"
    idx.write_bytes(idx.read_bytes()[:-100])
    with pytest.raises(DatasetCorruptError, match=r"t10k-images-idx3-ubyte.gz is truncated or altered"):
        loaded(MNISTDataModule, tmp_path)


def test_archive_without_the_files(tmp_path):
    archive = packed(write_fake_mnist(tmp_path), tmp_path / "other.tar", "w")
    with pytest.raises(DatasetNotFoundError, match=r"other.tar holds no batches.meta"):
        loaded(CIFAR10DataModule, archive)


class Attack:
    def __reduce__(self):
        return os.system, ("touch /tmp/scaledrop-test-was-here",)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (Attack(), r"has no use for (posix|nt)\.system"),
        ({b"data": np.zeros((2, 3072), np.uint8)}, "labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "do not belong together"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, "do not belong together"),
        ({b"data": np.zeros((1, 3071), np.uint8), b"labels": [1]}, "reshape"),
        ({b"data": np.zeros((1, 3072), np.float32), b"labels": [1]}, "do not belong together"),
    ],
)
def test_batch_with_a_right_md5_but_wrong_content_is_refused(tmp_path, batch, message):
    folder = write_fake_cifar10(tmp_path)
    content = pickle.dumps(batch, protocol=4)
    (folder / "test_batch").write_bytes(content)
    record = (folder / "checksums.md5").read_text().splitlines()
    record = [line for line in record if not line.endswith("test_batch")] + [f"{md5_of(content)}  test_batch"]
    (folder / "checksums.md5").write_text("\n".join(record) + "\n")
    with pytest.raises(DatasetCorruptError, match=f"test_batch is no CIFAR-10 batch: .*{message}"):
        loaded(CIFAR10DataModule, tmp_path)
    assert not Path("/tmp/scaledrop-test-was-here").exists()


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
    bad = next((tmp_path / "test" / "ship").glob("*.png"))
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DatasetCorruptError, match=rf"{bad.name} is no readable PNG"):
        CIFAR10DataModule(root=str(tmp_path)).setup()
    Image.new("RGB", (16, 16)).save(bad)
    with pytest.raises(DatasetCorruptError, match=r"is \(16, 16\) pixels instead of \(32, 32\)"):
        CIFAR10DataModule(root=str(tmp_path)).setup()
    shutil.rmtree(tmp_path / "test" / "ship")
    with pytest.raises(DatasetCorruptError, match="missing or unknown: ship"):
        CIFAR10DataModule(root=str(tmp_path)).setup()


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
    theirs = MNIST(str(tmp_path), train=False)
    data = loaded(MNISTDataModule, tmp_path)
    assert torch.equal(theirs.data, data.test_set.images[:, 0, 2:-2, 2:-2])
    assert torch.equal(theirs.targets, data.test_set.labels)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01\0\0\0\x01a", b"\0\0\x08\x00"])
def test_wrong_idx_file_is_refused(tmp_path, content):
    folder = write_fake_mnist(tmp_path, packed=False)
    record = parse_record((folder / "checksums.md5").read_bytes())
    record["t10k-labels-idx1-ubyte"] = Checksum(md5_of(content))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(content)
    (folder / "checksums.md5").write_text("".join(f"{sum_.md5}  {name}\n" for name, sum_ in record.items()))
    with pytest.raises(DatasetCorruptError, match="t10k-labels-idx1-ubyte is no idx file"):
        loaded(MNISTDataModule, tmp_path)


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


def test_bad_options_of_published_sets(tmp_path):
    with pytest.raises((ValueError, TypeError), match="channels"):
        MNISTDataModule(channels=2)
    with pytest.raises((ValueError, TypeError), match="checksums"):
        CIFAR10DataModule(checksums="none")


def test_install_takes_folders_and_archives_but_only_official_content(tmp_path):
    folder = write_fake_mnist(tmp_path / "a", n_train=20, n_test=10)
    files = dataclasses.replace(
        MNISTDataModule.files,
        files={
            name.removesuffix(".gz"): Checksum(md5_of(gzip.decompress((folder / name).read_bytes())))
            for name in os.listdir(folder)
            if name.endswith(".gz")
        },
    )
    archive = packed(folder, tmp_path / "any.tar.gz", "w:gz")
    for number, origin in enumerate((folder, tmp_path / "a", folder.parent, archive)):
        root = tmp_path / str(number)
        assert files.install(origin, root) == root / "MNIST" / "raw"
        assert files.missing(root / "MNIST" / "raw") == []
        assert loaded_names(root) == sorted(files.files)
    with pytest.raises(DatasetCorruptError, match="is truncated"):
        MNISTDataModule.files.install(folder, tmp_path / "x")
    with pytest.raises(DatasetNotFoundError, match="holds no complete mnist"):
        files.install(tmp_path, tmp_path / "x")
    with pytest.raises(DatasetNotFoundError, match="there is no"):
        files.install(tmp_path / "nowhere", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def loaded_names(root):
    return sorted(path.name for path in (root / "MNIST" / "raw").iterdir())


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
    with pytest.raises(DatasetCorruptError, match=r"checksums.md5 has a line that is not .*'nonsense'"):
        loaded(MNISTDataModule, tmp_path)


REAL = Path(os.environ.get("DATA", "data"))


@pytest.mark.data
def test_real_cifar10_equals_torchvisions():
    if not (REAL / "cifar-10-batches-py").is_dir():
        pytest.skip("no CIFAR-10 under DATA")
    data = CIFAR10DataModule()
    data.setup()
    assert data.fingerprint() == "cb85cdd084bdd771"
    assert data.source == "batches"
    assert data.sizes() == {"train": 45_000, "val": 5_000, "test": 10_000}
    assert data.val_set.labels.bincount().tolist() == [500] * 10
    theirs = CIFAR10(str(REAL), train=False)
    assert np.array_equal(theirs.data, data.test_set.images.permute(0, 2, 3, 1).numpy())
    assert theirs.targets == data.test_set.labels.tolist()
    assert tuple(theirs.classes) == data.class_names


@pytest.mark.data
def test_real_mnist():
    if not (REAL / "MNIST").is_dir():
        pytest.skip("no MNIST under DATA")
    data = MNISTDataModule()
    data.setup()
    assert data.fingerprint() == "54f82eb698eaca48"
    assert data.sizes() == {"train": 54_000, "val": 6_000, "test": 10_000}
    assert data.test_set.labels[:5].tolist() == [7, 2, 1, 0, 4]
