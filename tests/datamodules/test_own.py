"""Folders of one's own: what is found, measured, split, refused, and read again."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from datamodules import (
    BreastUltrasoundDataModule,
    DatasetCorruptError,
    DatasetNotFoundError,
    OwnImagesDataModule,
    own_module,
)
from datamodules.own.describe import described
from datamodules.own.description import load_own
from datamodules.own.pairs import Asked
from fakes.pictures import save, write_fake_pictures
from fakes.segmentation import write_fake_breast_ultrasound, write_fake_ct_volumes


@pytest.fixture
def said():
    return []


@pytest.fixture
def describe(tmp_path, said):
    def of(folder="photos", file="DATA.yaml", **how):
        masks = {"masks": tmp_path / how.pop("masks")} if "masks" in how else {}
        return described(Asked(tmp_path / folder, **masks, **how), tmp_path / file, "photos", said.append)

    return of


@pytest.fixture
def photos(tmp_path):
    """Three classes of ten pictures, 40 x 20 pixels."""
    write_fake_pictures(tmp_path / "photos", ("cat", "dog", "emu"), each=10, size=(40, 20))
    return tmp_path / "photos"


def stranger(root, groups=False):
    """A miniature BUSI as somebody else would keep it: scans/P01-b01.png and outlines/P01-b01_roi.png, _roi2.png."""
    for mask in sorted(write_fake_breast_ultrasound(root / "busi").glob("*/*_mask*.png")):
        name, _, number = mask.stem.partition("_mask")
        kind, place = name[0], int(name.split("(")[1][:-1])
        new = f"P{place % 5:02}-{kind}{place:02}"
        for source, folder, end in ((mask.with_name(f"{name}.png"), "scans", ""), (mask, "outlines", f"_roi{number}")):
            (root / folder).mkdir(exist_ok=True)
            shutil.copy(source, root / folder / f"{new}{end}.png")


def test_classes_are_read_measured_and_split(describe, photos, tmp_path, said):
    (photos / "cat" / "notes.txt").write_text("hello")
    own = describe()
    assert (own.class_names, own.channels, own.size, own.square) == (("cat", "dog", "emu"), 3, 64, "pad")
    assert [len(own.parts[part]) for part in ("train", "val", "test")] == [21, 3, 6]
    for name in own.class_names:  # every class in every part
        assert [sum(row.label == name for row in own.parts[part]) for part in ("train", "val", "test")] == [7, 1, 2]
    assert "1 .txt" in said[0]
    assert "21 train, 3 val, 6 test" in said[1]
    data = own_module(tmp_path / "DATA.yaml")
    data.setup()
    assert data.sizes() == {"train": 21, "val": 3, "test": 6}
    assert [data.class_names[label] for label in data.test_set.labels] == ["cat"] * 2 + ["dog"] * 2 + ["emu"] * 2
    # by hand: the training pictures, and their moments
    pixels = data.train_set.images.double() / 255
    assert own.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=6e-5)
    assert own.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=6e-5)
    first = np.asarray(Image.open(photos / own.parts["train"][0].image).resize((64, 32), Image.Resampling.BILINEAR))
    image = data.train_set.images[0]
    assert not image[:, :15].any()
    assert not image[:, 49:].any()
    assert (image[:, 17:47].int() - torch.tensor(first).movedim(-1, 0)[:, 1:31]).abs().max() <= 1
    assert data.fingerprint() == own.fingerprint
    assert data.image_facts["size"] == 64
    assert [len(labels) for _, labels in data.train_dataloader()] == [16]  # 21 do not fill a batch of 64
    # a second time nothing is read anew, and what was written stays as it is
    before = (tmp_path / "DATA.yaml").read_bytes()
    assert describe() == own == load_own(tmp_path / "DATA.yaml")
    assert (tmp_path / "DATA.yaml").read_bytes() == before
    assert not list(photos.glob("*.yaml"))


def test_grey_pictures_have_one_channel_and_crops_their_middle(describe, tmp_path):
    for label in range(2):
        for number in range(3):
            save(tmp_path / "photos" / str(label) / f"{number}.png", np.full((30, 50), 40 * number, np.uint8))
    own = describe(square="crop", size=16)
    assert (own.channels, own.class_names) == (1, ("0", "1"))
    data = own_module(tmp_path / "DATA.yaml")
    data.setup()
    assert data.train_set.images.shape == (2, 1, 16, 16)
    assert sorted(data.test_set.images.flatten(1).unique(dim=1).flatten().tolist())[0] in (0, 40, 80)
    assert data.test_set.images.flatten(1).float().std(1).max() == 0  # no bars


def test_parts_may_be_folders(describe, photos, tmp_path):
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        part = ("Training", "Training", "test")[number % 3]
        target = tmp_path / "given" / part / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    own = describe("given")
    assert own.class_names == ("cat", "dog", "emu")
    assert all(row.image.startswith("test/") for row in own.parts["test"])
    assert all(row.image.startswith("Training/") for part in ("train", "val") for row in own.parts[part])
    (tmp_path / "given" / "test").rename(tmp_path / "given" / "valid")  # the only part held out is the test set
    again = describe("given", "other.yaml")
    assert {row.image.partition("/")[0] for row in again.parts["test"]} == {"valid"}


def test_patients_are_not_parted(describe, tmp_path):
    stranger(tmp_path)
    own = describe("scans", masks="outlines", groups=r"(P\d+)", square="squeeze")
    sides = [{row.group for row in own.parts[part]} for part in ("train", "val", "test")]
    assert sides[0] | sides[1] | sides[2] == {f"P{n:02}" for n in range(5)}
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    text = (tmp_path / "DATA.yaml").read_text()
    mixed = load_own(tmp_path / "DATA.yaml")
    of_train, of_test = mixed.parts["train"][0].group, mixed.parts["test"][0].group
    (tmp_path / "DATA.yaml").write_text(text.replace(f"group: {of_test}", f"group: {of_train}"))
    with pytest.raises(
        DatasetCorruptError, match=rf"'{of_train}' is in two splits: .* for train, .* for .*Move all of it"
    ):
        load_own(tmp_path / "DATA.yaml")


def test_masks_are_those_of_the_built_in_set(describe, tmp_path):
    stranger(tmp_path)
    own = describe("scans", masks="outlines", square="squeeze", size=64)
    assert sum(len(row.masks) == 2 for row in own.rows) == 1
    data = own_module(tmp_path / "DATA.yaml")
    data.setup()
    theirs = BreastUltrasoundDataModule(root=str(tmp_path / "busi"), image_size=64)
    everything = theirs.load()
    place = {f"{name[0]}{int(name.split('(')[1][:-1]):02}": number for number, name in enumerate(everything.names)}
    for part in (data.train_set, data.val_set, data.test_set):
        order = [place[name.partition("-")[2].removesuffix(".png")] for name in part.names]
        assert torch.equal(part.images, everything.images[order])
        assert torch.equal(part.masks, everything.masks[order].long())


def test_masks_beside_their_pictures_need_a_pattern(describe, tmp_path):
    write_fake_breast_ultrasound(tmp_path)
    folder = "Dataset_BUSI_with_GT"
    with pytest.raises(ValueError, match=r"holds images and masks: give the pattern of the masks' names"):
        describe(folder, masks=folder)
    own = describe(folder, masks=folder, mask_names=r"(.+)_mask(_\d+)?")
    assert sorted(len(row.masks) for row in own.rows) == [1] * 17 + [2]
    assert all(row.masks[0].startswith(row.image.removesuffix(".png")) for row in own.rows)


def test_masks_are_no_pictures_of_a_class(describe, tmp_path):
    write_fake_breast_ultrasound(tmp_path)
    folder = "Dataset_BUSI_with_GT"
    with pytest.raises(
        DatasetCorruptError, match=r"_mask.*\.png seems to be the mask of .*, and 18 others.*--mask-names"
    ):
        describe(folder)
    own = describe(folder, mask_names=r"(.+)_mask(_\d+)?")
    assert len(own.rows) == 18
    assert not [row.image for row in own.rows if "mask" in row.image]


def test_what_is_added_around_a_picture_counts_nowhere(describe, tmp_path):
    for number in range(6):
        save(tmp_path / "scans" / f"{number}.png", np.full((20, 40), 9, np.uint8))
        save(tmp_path / "outlines" / f"{number}.png", np.full((20, 40), 255, np.uint8))
    describe("scans", masks="outlines", size=32)
    data = own_module(tmp_path / "DATA.yaml")
    data.setup()
    expected = F.pad(torch.ones(16, 32), (0, 0, 8, 8), value=255).long()
    assert all(torch.equal(mask, expected) for mask in data.train_set.masks)


def test_bad_folders_are_refused_with_file_and_remedy(describe, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"there is no folder .*nowhere"):
        describe("nowhere")
    with pytest.raises(DatasetNotFoundError, match=r"there are no images in .*empty \(PNG"):
        describe("empty")
    save(tmp_path / "lone" / "a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(
        DatasetCorruptError, match=r"lone/a.png is not in the folder of a class: .* or give the masks' folder"
    ):
        describe("lone")
    save(photos / "fox" / "one.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(
        DatasetCorruptError, match=r"class 'fox' has 1 file \(fox/one.png.*Add some, or move the folder"
    ):
        describe()
    shutil.rmtree(photos / "fox")
    broken = sorted(photos.rglob("*.png"))[4]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-30])
    with pytest.raises(
        DatasetCorruptError, match=rf"{broken.name} is no readable picture(.|\n)*Mend it, or move it out"
    ):
        describe()
    broken.write_bytes(whole)
    with pytest.raises(DatasetCorruptError, match=r"--groups .* matches nothing in"):
        describe(groups="(patient)")
    with pytest.raises(ValueError, match=r"has no group"):
        describe(groups="P")
    for name in ("dog", "emu"):
        shutil.rmtree(photos / name)
    with pytest.raises(DatasetCorruptError, match=r"has one class, 'cat'"):
        describe()
    assert not (tmp_path / "DATA.yaml").exists()


def test_bad_pairs_are_refused_with_file_and_remedy(describe, tmp_path):
    stranger(tmp_path)
    how = {"folder": "scans", "masks": "outlines"}
    alone = tmp_path / "outlines" / "P02-b02_roi.png"
    moved = alone.rename(tmp_path / "kept.png")
    with pytest.raises(
        DatasetCorruptError, match=r"scans/P02-b02.png has no mask in .*outlines; expected P02-b02.png or"
    ):
        describe(**how)
    moved.rename(alone)
    shutil.copy(alone, odd := alone.with_name("roi_of_P01.png"))
    with pytest.raises(
        DatasetCorruptError, match=r"outlines/roi_of_P01.png is a mask without an image in .*--mask-names"
    ):
        describe(**how)
    odd.unlink()
    whole = alone.read_bytes()
    save(alone, np.zeros((10, 12), np.uint8))
    with pytest.raises(DatasetCorruptError, match=r"P02-b02_roi.png is 12x10, but its image .*P02-b02.png is 64x56"):
        describe(**how)
    alone.write_bytes(whole)
    assert describe(**how)


def test_a_description_is_never_overwritten_and_says_when_pictures_changed(describe, photos, tmp_path):
    (tmp_path / "mine.yaml").write_text("kept: true\n")
    with pytest.raises(DatasetCorruptError, match=r"mine.yaml is not a description of images"):
        describe(file="mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "kept: true\n"
    own = describe()
    with pytest.raises(ValueError, match=r"DATA.yaml exists already, with other settings: --square, --size"):
        describe(square="crop", size=32)
    save(photos / "cat" / "new.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(
        ValueError, match=r"the files or their parts.*delete .*DATA.yaml, or write another: --data-file"
    ):
        describe()
    (photos / "cat" / "new.png").unlink()
    changed = photos / own.parts["train"][0].image
    save(changed, np.zeros((20, 40, 3), np.uint8))
    with pytest.raises(DatasetCorruptError, match=r"are not those of .*DATA.yaml was written of"):
        own_module(tmp_path / "DATA.yaml").setup()
    changed.unlink()
    with pytest.raises(DatasetCorruptError, match=rf"{changed.name} is no readable picture"):
        own_module(tmp_path / "DATA.yaml").setup()
    with pytest.raises(DatasetCorruptError, match=r"has changed: its digest is"):
        OwnImagesDataModule(str(tmp_path / "DATA.yaml"), digest="0" * 16)
    for text in ("a: &x [1]\nb: *x", "[", "name: 3"):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(DatasetCorruptError, match=r"odd.yaml is not a description"):
            load_own(tmp_path / "odd.yaml")


def test_the_digest_is_of_what_counts(describe, photos, tmp_path):
    own = describe()
    photos.rename(tmp_path / "pictures")
    assert describe("pictures", "moved.yaml").digest == own.digest
    assert describe("pictures", "small.yaml", size=32).digest != own.digest


def test_volumes_are_slices_through_a_window(describe, tmp_path):
    folder = write_fake_ct_volumes(tmp_path, number=5, depth=4, folders=True)
    images, masks = (f"{folder.name}/{part}" for part in ("images", "masks"))
    with pytest.raises(DatasetCorruptError, match=r"holds measured values, not grey levels: choose .* --window lung"):
        describe(images, masks=masks)
    own = describe(images, masks=masks, window="lung", size=64, square="squeeze")
    assert (own.window, own.channels) == ((-1350.0, 150.0), 1)
    data = own_module(tmp_path / "DATA.yaml")
    data.setup()
    assert data.sizes() == {"train": 12, "val": 4, "test": 4}
    from datamodules import CTVolumesDataModule

    theirs = CTVolumesDataModule(root=str(tmp_path), image_size=64).load()
    place = {name: number for number, name in enumerate(theirs.names)}
    order = [place[name] for name in data.train_set.names]
    assert torch.equal(data.train_set.masks, theirs.masks[order].long())
    # whole levels before and behind the resizing, in place of behind it alone
    assert (data.train_set.images.int() - theirs.images[order].int()).abs().max() <= 1
    assert len(set(data.train_set.groups.tolist())) == 3


def test_dicom_series_are_slices_through_a_window(describe, tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="the extra `medical` is not installed")
    values = {}
    for case in range(4):
        for number in range(2):
            hu = np.random.default_rng(10 * case + number).integers(-1500, 400, (16, 16)).astype(np.int16)
            values[f"s{case}/IM{number}"] = hu
            write_dicom(pydicom, tmp_path / "series" / f"s{case}" / f"IM{number}", hu, f"patient {case}")
            save(tmp_path / "roi" / f"s{case}" / f"IM{number}.png", 255 * (hu > 0).astype(np.uint8))
    own = describe("series", masks="roi", window="-1000,200", size=16, square="squeeze")
    assert {row.group for row in own.rows} == {f"patient {case}" for case in range(4)}
    data = own_module(tmp_path / "DATA.yaml")
    data.setup()
    for part in (data.train_set, data.val_set, data.test_set):
        for name, image, mask in zip(part.names, part.images, part.masks, strict=True):
            hu = values[name].astype(np.float64)
            levels = np.rint(np.clip((hu + 1000) / 1200, 0, 1) * 255)
            assert np.abs(image[0].numpy() - levels).max() <= 1  # in float32 halves may fall to the other side
            assert np.array_equal(mask.numpy(), hu > 0)
    with pytest.raises(DatasetCorruptError, match=r"contains no window"):
        describe("series", "stored.yaml", masks="roi", window="stored")
    (tmp_path / "series" / "s0" / "IM0").write_bytes((tmp_path / "series" / "s0" / "IM0").read_bytes()[:400])
    with pytest.raises(DatasetCorruptError, match=r"IM0 is no readable DICOM file"):
        describe("series", "broken.yaml", masks="roi", window="lung")


def write_dicom(pydicom, path, hu, patient):
    """A CT slice whose stored numbers are 1024 above its Hounsfield units."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = (
        pydicom.uid.CTImageStorage,
        pydicom.uid.ExplicitVRLittleEndian,
    )
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    file = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.Modality, file.PatientID, file.PhotometricInterpretation = "CT", patient, "MONOCHROME2"
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = hu.shape
    file.SamplesPerPixel, file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 1, 16, 16, 15, 1
    file.RescaleSlope, file.RescaleIntercept = 1, -1024
    file.PixelData = (hu + 1024).astype("<i2").tobytes()
    file.save_as(path)
