"""Each segmentation set in its published layouts: what is read, how it is split, and what is refused."""

import csv
import gzip
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import (
    BreastUltrasoundDataModule,
    CovidCTDataModule,
    CTVolumesDataModule,
    DatasetCorruptError,
    DatasetNotFoundError,
    PH2DataModule,
    SkinLesionDataModule,
    phantom_images,
)
from datamodules.segmentation.paired_files import resize_mask
from fakes import (
    write_fake_breast_ultrasound,
    write_fake_covid_ct,
    write_fake_ct_volumes,
    write_fake_ph2,
    write_fake_skin_lesion,
)
from fakes.segmentation import check_sides

SETS = {
    "busi": (BreastUltrasoundDataModule, write_fake_breast_ultrasound, {}),
    "busi pack": (BreastUltrasoundDataModule, write_fake_breast_ultrasound, {"pack": True}),
    "isic": (SkinLesionDataModule, write_fake_skin_lesion, {}),
    "isic pack": (SkinLesionDataModule, write_fake_skin_lesion, {"pack": True}),
    "ph2": (PH2DataModule, write_fake_ph2, {}),
    "covid": (CovidCTDataModule, write_fake_covid_ct, {}),
    "volumes": (CTVolumesDataModule, write_fake_ct_volumes, {}),
    "volume folders": (CTVolumesDataModule, write_fake_ct_volumes, {"folders": True}),
}


def loaded(module, root, **options):
    data = module(**{"root": str(root), "image_size": 32, **options})
    data.setup()
    return data


def refused(error, message, module, root, **options):
    with pytest.raises(error, match=message):
        loaded(module, root, **options)


corrupt, absent = partial(refused, DatasetCorruptError), partial(refused, DatasetNotFoundError)


@pytest.mark.parametrize("name", SETS)
def test_every_layout_is_read_and_split_without_crossing_groups(name, tmp_path):
    module, write, options = SETS[name]
    write(tmp_path, **options)
    data = loaded(module, tmp_path, batch_size=2)
    check_sides(data)
    images, masks = next(iter(data.train_dataloader()))
    assert images.shape == (2, data.in_channels, 32, 32)
    assert masks.shape == (2, 32, 32)
    assert set(data.train_set.masks.unique().tolist()) == {0, 1}
    assert loaded(module, tmp_path).fingerprint() == data.fingerprint()
    assert 0.3 < data.normalized(data.train_set.images).std() < 3


@pytest.mark.parametrize("name", SETS)
def test_absent_and_empty_sets_say_where_to_get_them(name, tmp_path):
    module = SETS[name][0]
    absent(rf"data set '{module.name}' not found under .*\nTo get it: http", module, tmp_path)
    folder = tmp_path / module.files.folders[0]
    (tmp_path / f"{folder.name}.tar.xz").touch()
    absent(rf"archive that is there: tar -xf .*{folder.name}\.tar\.xz -C", module, tmp_path)
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True)
    absent("holds no", module, tmp_path)


def test_busi_unites_masks_and_keeps_conflicting_duplicates_together(tmp_path):
    write_fake_breast_ultrasound(tmp_path / "original")
    write_fake_breast_ultrasound(tmp_path / "pack", pack=True)
    original, pack = (loaded(BreastUltrasoundDataModule, tmp_path / form) for form in ("original", "pack"))
    assert original.fingerprint() == pack.fingerprint()  # the two masks of benign (1) are one again
    assert original.source.startswith("Dataset_BUSI_with_GT;")
    for data in (original, pack):
        groups = {
            name: group
            for part in (data.train_set, data.val_set, data.test_set)
            for name, group in zip(part.names, part.groups.tolist(), strict=True)
        }
        assert groups["benign (2)"] == groups["malignant (2)"]
        assert len(set(groups.values())) == 17
        assert list(groups).count("normal (6)") == 1
    everything = original.load()
    assert everything.names[:3] == ("benign (1)", "benign (2)", "benign (3)")
    assert not everything.masks[12:].any()
    lesions = loaded(BreastUltrasoundDataModule, tmp_path / "pack", include_normal=False)
    assert sum(lesions.sizes().values()) == 12
    assert "without normal" in lesions.source


def test_busi_numbers_are_ordered_as_numbers(tmp_path):
    folder = write_fake_breast_ultrasound(tmp_path, each=2)
    for suffix in ("", "_mask"):
        (folder / "benign" / f"benign (2){suffix}.png").rename(folder / "benign" / f"benign (10){suffix}.png")
    assert loaded(BreastUltrasoundDataModule, tmp_path).load().names[:2] == ("benign (1)", "benign (10)")


def test_busi_refuses_what_does_not_belong_together(tmp_path):
    folder = write_fake_breast_ultrasound(tmp_path, pack=True)
    mask = folder / "benign" / "benign (3)_mask.png"
    kept = mask.read_bytes()
    mask.unlink()
    corrupt(r"benign \(3\).png has no mask; expected benign \(3\)_mask.png", BreastUltrasoundDataModule, tmp_path)
    Image.new("L", (64, 56)).save(mask)
    with pytest.raises(
        DatasetCorruptError, match=r"\(3\)_mask.png is altered: 0.00000 of its pixels .* instead of 0.0"
    ):
        loaded(BreastUltrasoundDataModule, tmp_path)
    mask.write_bytes(kept)
    shutil.copy(mask, folder / "benign" / "benign (9)_mask.png")
    corrupt(r"benign \(9\)_mask.png belongs to no image", BreastUltrasoundDataModule, tmp_path)
    shutil.copy(mask, folder / "benign" / "benign (9).png")
    corrupt(r"index.csv does not list .*benign \(9\).png", BreastUltrasoundDataModule, tmp_path)
    for suffix in ("", "_mask"):
        (folder / "benign" / f"benign (9){suffix}.png").unlink()
        (folder / "benign" / f"benign (4){suffix}.png").unlink()
    corrupt(r"index.csv lists 'benign \(4\)', which is not there", BreastUltrasoundDataModule, tmp_path)
    (folder / "index.csv").write_text("name,mask_fraction\nbenign (1),0.1\n")
    corrupt(r"index.csv, line 2, has no 'dup_group'", BreastUltrasoundDataModule, tmp_path)
    (folder / "benign" / "scan.png").write_bytes(kept)
    corrupt(r"scan.png is named neither", BreastUltrasoundDataModule, tmp_path)


def test_isic_tests_on_the_validation_set_and_leaves_out_what_leaks(tmp_path):
    write_fake_skin_lesion(tmp_path / "challenge")
    write_fake_skin_lesion(tmp_path / "pack", pack=True)
    data = loaded(SkinLesionDataModule, tmp_path / "challenge")
    assert sorted(data.left_out) == ["ISIC_0000171", "ISIC_0012970"]
    assert data.sizes() == {"train": 7, "val": 1, "test": 4}
    assert {"ISIC_0012127", "ISIC_0015124"} < set(data.test_set.names)
    assert data.source == "ISIC-2017"
    assert loaded(SkinLesionDataModule, tmp_path / "pack").fingerprint() == data.fingerprint()
    crossed = loaded(SkinLesionDataModule, tmp_path / "challenge", fold=1)
    assert crossed.left_out == []
    sides = [
        {name for name in ("ISIC_0000171", "ISIC_0015124") if name in part.names}
        for part in (crossed.train_set, crossed.val_set, crossed.test_set)
    ]
    assert sorted(map(len, sides)) == [0, 0, 2]
    (tmp_path / "challenge" / "ISIC-2017_Training_Part1_GroundTruth" / "ISIC_0000005_segmentation.png").unlink()
    with pytest.raises(
        DatasetCorruptError, match=r"ISIC_0000005.jpg has no mask; expected .*_0000005_segmentation.png"
    ):
        loaded(SkinLesionDataModule, tmp_path / "challenge")
    write_fake_skin_lesion(tmp_path / "challenge")
    shutil.rmtree(tmp_path / "challenge" / "ISIC-2017_Validation_Data")
    absent(r"there is no .*ISIC-2017_Validation_Data", SkinLesionDataModule, tmp_path / "challenge")


def test_ph2_needs_both_files_of_a_lesion(tmp_path):
    folder = write_fake_ph2(tmp_path)
    assert sum(loaded(PH2DataModule, tmp_path).sizes().values()) == 10
    (folder / "PH2 Dataset images" / "IMD005" / "IMD005_lesion" / "IMD005_lesion.bmp").unlink()
    corrupt(r"IMD005_lesion.bmp is missing", PH2DataModule, tmp_path)


def test_covid_slices_keep_the_published_split_less_what_leaks(tmp_path):
    folder = write_fake_covid_ct(tmp_path)
    data = loaded(CovidCTDataModule, tmp_path)
    assert data.left_out == ["train/0"]
    assert data.sizes() == {"train": 7, "val": 2, "test": 8}
    parts = [loaded(CovidCTDataModule, tmp_path, fold=fold, folds=3).test_set.names for fold in range(3)]
    assert len({name for part in parts for name in part}) == sum(map(len, parts)) == 18
    assert sum({"train/0", "test/17"} <= set(part) for part in parts) == 1
    several = loaded(CovidCTDataModule, tmp_path, two_classes=True)
    assert several.class_names == ("background", "ground_glass", "consolidation")
    assert several.num_classes == 3
    assert torch.equal(several.test_set.masks > 0, data.test_set.masks > 0)
    assert several.test_set.masks.unique().tolist() == [0, 1, 2]
    (folder / "train" / "3_multi.png").unlink()
    loaded(CovidCTDataModule, tmp_path)
    corrupt(r"3.png has no mask; expected 3_multi.png beside it", CovidCTDataModule, tmp_path, two_classes=True)


def test_volumes_are_windowed_upright_and_split_by_volume(tmp_path):
    write_fake_ct_volumes(tmp_path)
    data = loaded(CTVolumesDataModule, tmp_path, image_size=64)
    pictures, masks = phantom_images(20, 64)
    everything = data.load()
    assert everything.names[:5] == ("case0/0", "case0/1", "case0/2", "case0/3", "case1/0")
    # the pictures that were written, 56 rows of them, squeezed to 64
    expected = np.stack([resize_mask(mask, 64) for mask in masks[:, 4:-4].numpy()])
    expected[::4] = 0
    assert np.array_equal(everything.masks.numpy(), expected)
    squeezed = torch.nn.functional.interpolate(pictures[:, :, 4:-4].float(), (64, 64), mode="bilinear", antialias=True)
    assert (everything.images - squeezed).abs().max() <= 1.5  # whole Hounsfield units, whole grey levels
    assert everything.groups.tolist() == np.repeat(range(5), 4).tolist()
    assert loaded(CTVolumesDataModule, tmp_path, slices="foreground").load().names[0] == "case0/1"
    assert loaded(CTVolumesDataModule, tmp_path, two_classes=True).load().masks.unique().tolist() == [0, 1, 2]
    narrow = loaded(CTVolumesDataModule, tmp_path, window=(-1350.0, -600.0)).load().images
    assert narrow.double().mean() > 1.5 * everything.images.double().mean()
    assert "window -1350 to 150 HU" in data.source
    for window in ((0.0, 0.0), (0.0, float("nan"))):
        with pytest.raises(ValueError, match="window must be two ascending numbers"):
            CTVolumesDataModule(window=window)


def test_volumes_are_turned_by_their_header(tmp_path):
    import nibabel

    folder = write_fake_ct_volumes(tmp_path)
    before = loaded(CTVolumesDataModule, tmp_path).fingerprint()
    for path in folder.glob("*.nii.gz"):
        stored = nibabel.load(path)
        turned = stored.as_reoriented(nibabel.orientations.axcodes2ornt(("P", "I", "R")))
        nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
    assert nibabel.aff2axcodes(nibabel.load(path).affine) != ("R", "A", "S")
    assert loaded(CTVolumesDataModule, tmp_path).fingerprint() == before


def test_volumes_that_are_refused(tmp_path):
    import nibabel

    folder = write_fake_ct_volumes(tmp_path, number=3)
    volume, mask = folder / "case1_ct.nii.gz", folder / "case1_mask.nii.gz"
    kept = {path: path.read_bytes() for path in (volume, mask)}
    affine = np.diag([0.7, 0.7, 5.0, 1.0])
    voxels, labels = (np.asarray(nibabel.load(path).dataobj) for path in (volume, mask))

    def refused(message, path, array, matrix=affine, **options):
        nibabel.save(nibabel.Nifti1Image(array, matrix), path)
        corrupt(message, CTVolumesDataModule, tmp_path, **options)
        path.write_bytes(kept[path])

    holes = voxels.astype(np.float32)
    holes[:2, 0, 0] = np.nan
    refused("case1_ct.nii.gz has 2 voxels that are no number; replace them", volume, holes)
    refused(r"case1_mask.nii.gz is 64x56x3, but its image .*case1_ct.nii.gz is 64x56x4", mask, labels[..., :3])
    mirrored = np.diag([-1, 1, 1, 1.0])
    refused("case1_mask.nii.gz is oriented LAS, but its volume .*case1_ct.nii.gz RAS; save", mask, labels, mirrored)
    refused("case1_mask.nii.gz holds numbers that are no labels", mask, labels + np.float32(0.5))
    refused("case1_mask.nii.gz has the label 3; labels are 0 to 2", mask, labels * 0 + np.uint8(3), two_classes=True)
    refused("case1_ct.nii.gz has 2 axes instead of 3", volume, voxels[..., 0])
    volume.write_bytes(kept[volume][:200])
    corrupt(r"case1_ct.nii.gz is no readable NIfTI file", CTVolumesDataModule, tmp_path)
    volume.unlink()
    corrupt(r"case1_mask.nii.gz belongs to no image", CTVolumesDataModule, tmp_path)
    mask.rename(volume)
    corrupt(r"case1_ct.nii.gz has no mask", CTVolumesDataModule, tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("module", "sizes", "left_out", "fingerprint"),
    [
        (BreastUltrasoundDataModule, (563, 62, 155), [], "efd2e5aea6ffe3cb"),
        (SkinLesionDataModule, (1798, 200, 150), ["ISIC_0000171", "ISIC_0012970"], "7bc01e67b62b777a"),
        (CovidCTDataModule, (38, 9, 48), ["train/5", "train/17", "train/46"], "358e5fe8b4e1f269"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_real_packs(module, sizes, left_out, fingerprint):
    data = module()
    if not any((data.root / folder / "index.csv").is_file() for folder in data.files.folders):
        pytest.skip(f"no {data.files.folders[0]} under DATA")
    data.setup()
    assert tuple(data.sizes().values()) == sizes
    assert sorted(data.left_out) == sorted(left_out)
    assert data.fingerprint() == fingerprint
    check_sides(data)
    with (data.files.find(data.root) / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    column = "mask_fraction_256" if "mask_fraction_256" in rows[0] else "mask_fraction"
    everything = data.load()
    areas = (everything.masks == 1).double().mean((1, 2))
    assert areas.mean().item() == pytest.approx(
        np.mean([float(row[column]) for row in rows]), abs=3e-3
    )  # thin parts are lost
    images = data.normalized(everything.images[::5])
    assert images.mean().abs() < 0.05
    assert images.std().item() == pytest.approx(1, abs=0.05)


def volumes(folder):
    """Three volumes: one in Hounsfield units, and two of one patient that are grey levels."""
    nibabel = pytest.importorskip("nibabel")
    units = np.full((32, 32, 4), 40, np.int16)
    units[6:26, 6:26] = -800
    units[10:14, 10:14] = -200
    levels = ((units + 1250) / 1500 * 255).round().astype(np.uint8)
    mask = (units == -200).astype(np.uint8)
    for part in ("images", "masks"):
        (folder / "covid19-ct-volumes" / part).mkdir(parents=True)

    def save(part, name, voxels, affine=None):
        affine = np.diag([-1, -1, 5, 1]) if affine is None else affine
        path = folder / "covid19-ct-volumes" / part / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
        return path

    for name, volume in {
        "coronacases_001": units, "radiopaedia_10_85902_1": levels, "radiopaedia_10_85902_3": levels
    }.items():  # fmt: skip
        save("images", name, volume)
        save("masks", name, mask)
    return save, units, mask


def test_volumes_of_grey_levels_are_refused_or_converted_aloud(tmp_path):
    volumes(tmp_path)
    with pytest.raises(DatasetCorruptError, match=r"85902_1.nii.gz is not in Hounsfield units: .* 76 to 219"):
        CTVolumesDataModule(root=str(tmp_path), image_size=32).load()
    data = CTVolumesDataModule(root=str(tmp_path), image_size=32, grey_window=(-1250.0, 250.0)).load()
    assert (data.images[0].int() - data.images[4].int()).abs().max() <= 1  # one body, whatever it is stored as
    assert data.groups.tolist() == [0] * 4 + [1] * 8  # the public set's two volumes of one patient
    assert "3 volumes (2 of grey levels, (-1250.0, 250.0) HU)" in data.source
    with pytest.raises(ValueError, match="grey_window must be two ascending numbers"):
        CTVolumesDataModule(root=str(tmp_path), grey_window=(5.0, 5.0))


def test_masks_of_black_and_white_are_not_ignored(tmp_path):
    save, _, mask = volumes(tmp_path)
    save("masks", "coronacases_001", mask * 255)
    data = CTVolumesDataModule(root=str(tmp_path), image_size=32, grey_window=(-1250.0, 250.0)).load()
    assert torch.equal(data.masks[0], data.masks[4])
    assert data.masks[0].unique().tolist() == [0, 1]
    mask[0] = 2  # with a label beside it, 255 is "ignored"
    save("masks", "coronacases_001", np.where(mask == 1, 255, mask).astype(np.uint8))
    data = CTVolumesDataModule(root=str(tmp_path), image_size=32, grey_window=(-1250.0, 250.0)).load()
    assert data.masks[0].unique().tolist() == [0, 1, 255]


def test_headers_that_say_nothing_name_the_file(tmp_path):
    save, units, _ = volumes(tmp_path)

    def refused(message):
        with pytest.raises(DatasetCorruptError, match=rf"coronacases_001.nii.gz {message}"):
            CTVolumesDataModule(root=str(tmp_path), image_size=32, grey_window=(-1250.0, 250.0)).load()

    colours = np.zeros(units.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    path = save("images", "coronacases_001", colours)
    refused("holds .* voxels, for instance colours")
    header = bytearray(gzip.decompress(save("images", "coronacases_001", units).read_bytes()))
    for start, bytes_of_it, message in (
        (280, bytes(48), "does not say how it lies"),  # the matrix
        (312, bytes(16), "does not say how it lies"),  # its last row
        (70, (9999).to_bytes(2, "little"), "is no readable NIfTI"),  # the type
        (42, 3 * (32767).to_bytes(2, "little"), "is no readable NIfTI file: it needs 281,"),
    ):
        broken = bytearray(header)
        broken[start : start + len(bytes_of_it)] = bytes_of_it
        path.write_bytes(gzip.compress(bytes(broken)))
        refused(message)
