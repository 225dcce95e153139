"""Miniature segmentation sets; the pictures are phantoms, which ``seed`` decides."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from datamodules import SegmentationDataModule
from datamodules.segmentation.breast_ultrasound import KINDS
from datamodules.segmentation.phantom import phantom_images
from datamodules.segmentation.skin_lesion import TWINS
from fakes.pictures import save

_SIDE = 64


def write_fake_breast_ultrasound(root: str | Path, each: int = 6, pack: bool = False, seed: int = 0) -> Path:
    """Write a miniature BUSI: ``each`` images a class, the first benign one with two masks.

    As in the original, one picture occurs under two classes: malignant (2) is benign (2).

    With ``pack`` it is ``busi-256/`` with its index, instead of ``Dataset_BUSI_with_GT/``, and masks are united.
    """
    folder = Path(root) / ("busi-256" if pack else "Dataset_BUSI_with_GT")
    rows = []
    for number, (image, mask) in enumerate(_examples(3 * each, seed)):
        kind, place = KINDS[number // each], number % each + 1
        if kind == "malignant" and place == 2:
            image = list(_examples(3 * each, seed))[1][0]
        mask = np.zeros_like(mask) if kind == "normal" else mask
        masks = [mask]
        if number == 0 and not pack:
            left = np.arange(_SIDE) < _SIDE // 2
            masks = [mask * left, mask * ~left]
        name = f"{kind} ({place})"
        save(folder / kind / f"{name}.png", image)
        for part, content in enumerate(masks):
            save(folder / kind / f"{name}_mask{f'_{part}' if part else ''}.png", 255 * content.astype(np.uint8))
        group = 1 if (kind, place) == ("malignant", 2) else number
        rows.append({"class": kind, "name": name, "mask_fraction": f"{mask.mean():.5f}", "dup_group": group})
    if pack:
        _write_index(folder, rows)
    return folder


def write_fake_skin_lesion(
    root: str | Path, n_train: int = 10, n_val: int = 4, pack: bool = False, seed: int = 0
) -> Path:
    """Write a miniature ISIC 2017, with the two training images that leak, as copies of validation images.

    With ``pack`` it is ``isic2017-256/`` with its index, instead of the challenge's four folders.
    """
    root, rows = Path(root), []
    examples = list(_examples(n_train + n_val, seed, coloured=True))
    for number, (image, mask) in enumerate(examples):
        part, name = ("train" if number < n_train else "val"), f"ISIC_{number:07}"
        if number < 2:
            name, image = list(TWINS)[number], examples[n_train + number][0]
        elif n_train <= number < n_train + 2:
            name = list(TWINS.values())[number - n_train]
        long = "Training" if part == "train" else "Validation"
        images = root / "isic2017-256" / part if pack else root / f"ISIC-2017_{long}_Data"
        masks = images if pack else root / f"ISIC-2017_{long}_Part1_GroundTruth"
        save(images / f"{name}.jpg", image)
        save(masks / f"{name}_segmentation.png", 255 * mask)
        rows.append({"split": part, "id": name, "mask_fraction_256": f"{mask.mean():.6f}"})
    if pack:
        _write_index(root / "isic2017-256", rows)
        return root / "isic2017-256"
    return root


def write_fake_ph2(root: str | Path, number: int = 10, seed: int = 0) -> Path:
    """Write a miniature PH2 to ``root/PH2Dataset/``."""
    folder = Path(root) / "PH2Dataset"
    for index, (image, mask) in enumerate(_examples(number, seed, coloured=True)):
        name = f"IMD{index + 2:03}"
        place = folder / "PH2 Dataset images" / name
        save(place / f"{name}_Dermoscopic_Image" / f"{name}.bmp", image)
        save(place / f"{name}_lesion" / f"{name}_lesion.bmp", 255 * mask)
    return folder


def write_fake_covid_ct(root: str | Path, n_train: int = 10, n_test: int = 8, seed: int = 0) -> Path:
    """Write a pack of CT slices to ``root/covid19-ct-256/``; the last test slice is the first training slice."""
    folder, rows = Path(root) / "covid19-ct-256", []
    examples = list(_examples(n_train + n_test, seed))
    for number, (image, mask) in enumerate(examples):
        part = "train" if number < n_train else "test"
        image = examples[0][0] if number == len(examples) - 1 else image
        save(folder / part / f"{number}.png", image)
        save(folder / part / f"{number}_mask.png", 255 * mask)
        labels = np.where(np.arange(mask.shape[0])[:, None] < mask.shape[0] // 2, mask, 2 * mask)
        picture = Image.fromarray(labels.astype(np.uint8), mode="P")
        picture.putpalette([0, 0, 0, 0, 0, 200, 200, 0, 0])
        picture.save(folder / part / f"{number}_multi.png")
        rows.append({"split": part, "id": str(number), "mask_fraction": f"{mask.mean():.6f}"})
    _write_index(folder, rows)
    return folder


def write_fake_ct_volumes(
    root: str | Path, number: int = 5, depth: int = 4, folders: bool = False, seed: int = 0
) -> Path:
    """Write miniature CT volumes in Hounsfield units, with masks of 0, 1 and 2, to ``root/covid19-ct-volumes/``.

    The lowest slice of a volume has an empty mask. With ``folders`` files lie in ``images/`` and ``masks/``, instead of
    being named ``_ct`` and ``_mask``.
    """
    folder = Path(root) / "covid19-ct-volumes"
    examples = list(_examples(number * depth, seed))
    for case in range(number):
        images, masks = (np.stack(part) for part in zip(*examples[case * depth : (case + 1) * depth], strict=True))
        masks[0] = 0
        masks[-1] *= 2
        hounsfield = -1350 + 1500 * images.astype(float) / 255
        for kind, stack in (("ct", hounsfield.astype(np.int16)), ("mask", masks.astype(np.uint8))):
            # rows of a picture run to the back, columns to the left; axes of the file to the right, front and head
            voxels = stack[:, ::-1, ::-1].transpose(2, 1, 0)
            name = f"case{case}.nii.gz" if folders else f"case{case}_{kind}.nii.gz"
            path = folder / {"ct": "images", "mask": "masks"}[kind] / name if folders else folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.7, 0.7, 5.0, 1.0])), path)
    return folder


def check_sides(data: SegmentationDataModule) -> None:
    """No part is empty, and no group is in two parts."""
    train, val, test = (set(part.groups.tolist()) for part in (data.train_set, data.val_set, data.test_set))
    assert all((train, val, test))
    assert not train & val | train & test | val & test


def _examples(number: int, seed: int, coloured: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures of 64x56 pixels and their masks of 0 and 1."""
    images, masks = (part.numpy() for part in phantom_images(number, _SIDE, seed))
    for image, mask in zip(images[:, 0, 4:-4], masks[:, 4:-4], strict=True):
        yield (np.stack([image, image // 2 + 90, image // 2 + 70], -1) if coloured else image), mask


def _write_index(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
