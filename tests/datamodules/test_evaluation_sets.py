"""CIFAR-10-C and OpenOOD's sets: layouts, integrity, archives, and folders of pictures."""

import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import (
    CIFAR10C,
    CIFAR100,
    CORRUPTIONS,
    DATAMODULES,
    EVALUATION_SETS,
    DatasetCorruptError,
    DatasetNotFoundError,
    Places365,
    Textures,
    TinyImageNet,
)
from datamodules.files.integrity import md5_of_file
from datamodules.pictures import picture_paths, read_pictures, resized, with_channels
from datamodules.suites.evaluation_sets import OVERLAP
from fakes import fake_images, write_fake_cifar10_c, write_fake_cifar100, write_fake_pictures
from fakes.classification import record
from fakes.real import REAL, needs


def test_cifar10_c_gives_the_severity_that_is_asked_for(tmp_path):
    write_fake_cifar10_c(tmp_path, n_train=30, n_test=20)
    images, labels = (part[30:] for part in fake_images(50, 3, 32))
    for number, name in enumerate(CORRUPTIONS):
        for severity in (1, 2, 3, 4, 5):
            theirs, their_labels = CIFAR10C().load(tmp_path, name, severity, "recorded")
            expected = images.astype(int) - 3 * severity + np.array([number, 0, 0])[:, None, None]
            assert np.array_equal(theirs.numpy(), expected.clip(0, 255))
            assert np.array_equal(their_labels.numpy(), labels)
    assert CIFAR10C().describe(tmp_path, "recorded") == (20, "npy, x 15 corruptions x 5 severities")


def test_cifar10_c_damaged(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="'cifar10_c' not found"):
        CIFAR10C().describe(tmp_path)
    folder = write_fake_cifar10_c(tmp_path, n_train=30, n_test=20)
    with pytest.raises(DatasetCorruptError, match=r"labels.npy is altered"):
        CIFAR10C().load(tmp_path, "fog", 1)
    np.save(folder / "fog.npy", np.zeros((7, 32, 32, 3), np.uint8))
    with pytest.raises(DatasetCorruptError, match=r"fog.npy is altered"):
        CIFAR10C().describe(tmp_path, "recorded")
    record(folder, {"fog.npy": (folder / "fog.npy").read_bytes()})
    with pytest.raises(DatasetCorruptError, match=r"fog.npy and labels.npy are no CIFAR-10-C: shapes \(7,"):
        CIFAR10C().load(tmp_path, "fog", 1, "recorded")
    (folder / "fog.npy").write_bytes(b"nothing")
    record(folder, {"fog.npy": (folder / "fog.npy").read_bytes()})
    with pytest.raises(DatasetCorruptError, match=r"fog.npy is no .npy file"):
        CIFAR10C().load(tmp_path, "fog", 1, "recorded")


def test_cifar100_from_the_official_file_or_from_pictures(tmp_path):
    write_fake_cifar100(tmp_path / "a", n_test=30)
    whole = CIFAR100().load(tmp_path / "a", checksums="recorded")
    assert np.array_equal(whole.images.numpy(), fake_images(30, 3, 32)[0])
    assert (whole.title, whole.source) == ("CIFAR-100", "batches (unofficial)")
    some = [CIFAR100().load(tmp_path / "a", 7, seed, "recorded").images for seed in (0, 0, 1)]
    assert len(some[0]) == 7
    assert torch.equal(some[0], some[1])
    assert not torch.equal(some[0], some[2])
    with pytest.raises(DatasetCorruptError, match="test is altered"):
        CIFAR100().load(tmp_path / "a")
    write_fake_pictures(tmp_path / "b" / "cifar100-test-2000", ("apple", "bus"), size=(32, 32))
    assert CIFAR100().describe(tmp_path / "b") == (4, "cifar100-test-2000 (PNG tree)")
    assert CIFAR100().load(tmp_path / "b", 3).images.shape == (3, 3, 32, 32)


def test_tiny_imagenet_leaves_out_cifar10s_classes(tmp_path):
    assert sum(map(len, OVERLAP.values())) == 28
    kept, out = "n03444034", OVERLAP["bird"][0]
    write_fake_pictures(tmp_path / "a" / "tinyimagenet-val-32", (kept, out), each=3, size=(32, 32))
    source = "tinyimagenet-val-32 without classes of CIFAR-10"
    assert TinyImageNet().describe(tmp_path / "a") == (3, source)
    # the published layout: one folder, classes in a table
    folder = tmp_path / "b" / "tiny-imagenet-200" / "val"
    paths = write_fake_pictures(folder / "images", ("",), each=4, suffix="jpg")
    rows = [f"{path.name}\t{wnid}\t0\t0\t1\t1" for path, wnid in zip(paths, (kept, out, out, kept), strict=True)]
    (folder / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    pictures = TinyImageNet().load(tmp_path / "b")
    assert torch.equal(pictures.images, read_pictures([paths[0], paths[3]]))
    assert pictures.source == "val without classes of CIFAR-10"


def test_textures_say_when_they_are_a_subset(tmp_path):
    write_fake_pictures(tmp_path / "dtd10-32", ("banded", "blotchy", "cracked"), size=(32, 32))
    assert Textures().load(tmp_path).title == "DTD subset (3 categories)"
    write_fake_pictures(tmp_path / "dtd" / "images", tuple(f"kind{i}" for i in range(47)), each=1, size=(40, 36))
    whole = Textures().load(tmp_path, 5)
    assert (whole.title, whole.source, len(whole.images)) == ("Textures (DTD)", "images", 5)


def test_folder_sets_that_are_absent_or_empty(tmp_path):
    for kind in (TinyImageNet, Textures, Places365):
        with pytest.raises(DatasetNotFoundError) as caught:
            kind().load(tmp_path)
        for part in (
            f"{kind.name!r} not found under {tmp_path}",
            f"data get {kind.name} --root",
            kind.files.folders[0],
        ):
            assert part in str(caught.value)
    (tmp_path / "places365" / "val_256").mkdir(parents=True)
    with pytest.raises(DatasetNotFoundError, match=r"val_256 holds no picture\.\nTo get it"):
        Places365().describe(tmp_path)


def test_unreadable_picture_is_named_and_only_chosen_ones_are_decoded(tmp_path):
    paths = write_fake_pictures(tmp_path / "places365" / "val_256", ("",), each=9, size=(256, 256), suffix="jpg")
    assert Places365().load(tmp_path, 4).images.shape == (4, 3, 32, 32)
    for content in (paths[5].read_bytes()[:200], b"text"):
        paths[5].write_bytes(content)
        with pytest.raises(DatasetCorruptError, match=rf"{paths[5].name} is no readable picture"):
            Places365().load(tmp_path)


def test_pictures_are_cut_square_reduced_and_coloured(tmp_path):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = np.arange(0, 240, 6, dtype=np.uint8)[:, None, None]
    Image.fromarray(wide).save(tmp_path / "wide.PNG")
    Image.fromarray(wide[:, 20:60, 0]).save(tmp_path / "grey.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert [path.name for path in picture_paths(tmp_path)] == ["grey.png", "wide.PNG"]
    grey, middle = read_pictures(picture_paths(tmp_path))
    assert torch.equal(grey, middle)
    expected = resized(torch.from_numpy(wide[:, 20:60].transpose(2, 0, 1)[None].copy()), 32)[0]
    assert (middle.int() - expected.int()).abs().max() <= 1


def test_channels():
    colour = torch.tensor([255, 0, 0, 0, 255, 0, 0, 0, 255], dtype=torch.uint8).view(3, 3, 1, 1)
    assert with_channels(colour, 1).flatten().tolist() == [76, 150, 29]
    assert with_channels(colour, 3) is colour
    assert with_channels(colour[:, :1], 3).shape == (3, 3, 1, 1)


def pack(folder, prefix, archive):
    """The archive of a folder, as zip or tar, with a stranger and an intruder among the members."""
    files = [(path, f"{prefix}/{path.relative_to(folder)}") for path in sorted(folder.rglob("*")) if path.is_file()]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path, name in files:
                packed.write(path, name)
            packed.writestr("other/readme.txt", "x")
    else:
        with tarfile.open(archive, "w") as tar:
            for path, name in files:
                tar.add(path, name)
            stranger = tarfile.TarInfo("other/readme.txt")
            stranger.size = 1
            tar.addfile(stranger, io.BytesIO(b"x"))
    return archive


@pytest.mark.parametrize("kind", [TinyImageNet, Textures, Places365])
def test_archives_are_verified_and_unpacked_whole_or_not_at_all(tmp_path, kind):
    origin, root = tmp_path / "origin", tmp_path / "root"
    write_fake_pictures(origin, ("n03444034", "n04067472"))
    suffix = Path(kind.files.download.path).suffix
    archive = pack(origin, kind.files.member, tmp_path / f"a{suffix if suffix == '.zip' else '.tar'}")
    with pytest.raises(DatasetCorruptError, match=rf"is altered: md5 .* instead of {kind.files.download.md5}"):
        kind.files.install(archive, root)
    assert not root.exists()
    files = replace(kind.files, download=kind.files.download._replace(md5=md5_of_file(archive)))
    assert files.install(archive, root) == root / kind.files.folders[0]
    assert kind().describe(root)[0] == 4
    assert not list(root.rglob("readme.txt"))
    assert not [path for path in root.iterdir() if path.name.startswith(".")]
    refusals = {
        archive: "is there already",
        origin: "is a folder, whose pictures cannot be verified; link it to",
        tmp_path / "nowhere.tar": "there is no",
    }
    for path, message in refusals.items():
        with pytest.raises(DatasetNotFoundError, match=message):
            files.install(path, root)


def test_every_published_file_has_an_address_and_an_md5():
    for kind in (*DATAMODULES.values(), *EVALUATION_SETS.values()):
        if kind.files is not None:
            assert kind.files.megabytes > 0
            for item in kind.files.downloads:
                assert len(item.md5) == 32
                assert all(url.startswith(("https://", "http://")) for url in item.urls)


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "folder", "count", "title"),
    [
        (CIFAR100, "cifar100-test-2000", 2000, "CIFAR-100"),
        (TinyImageNet, "tinyimagenet-val-32", 1720, "Tiny-ImageNet"),
        (Textures, "dtd10-32", 1200, "DTD subset (10 categories)"),
    ],
)
def test_real_packs(kind, folder, count, title):
    needs(folder)
    pictures = kind().load(REAL)
    assert pictures.images.shape == (count, 3, 32, 32)
    assert pictures.title == title
    assert 90 < pictures.images.float().mean() < 140
