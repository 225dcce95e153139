"""Dermoscopic images with lesion masks: the ISIC challenge of 2017, and PH2."""

from pathlib import Path
from typing import ClassVar

import torch

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.files.source_folders import SourceFolders, check_index, read_index
from datamodules.grouping import similar_groups
from datamodules.segmentation.base import SegmentationDataModule
from datamodules.segmentation.masked_images import MaskedImages
from datamodules.segmentation.paired_files import PairFiles, read_pairs, stacked, thumbnails

TWINS = {"ISIC_0012970": "ISIC_0012127", "ISIC_0000171": "ISIC_0015124"}
"""Training images that show what a validation image shows; whatever their thumbnails say, they are of one group."""
CORRELATION = 0.985
"""Above it two pictures are taken for duplicates; skin with a spot in the middle looks much alike below it."""
_PACK = "isic2017-256"
_PARTS = {
    "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
    "val": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
}


class SkinLesionDataModule(SegmentationDataModule):
    """ISIC 2017, task 1: 2,000 training and 150 validation images of skin lesions.

    - **Source**: under the root, ``isic2017-256/`` with ``train/`` and ``val/`` (a reduced pack with ``index.csv``,
      whose names and mask fractions are checked), or the challenge's own four folders, such as
      ``ISIC-2017_Training_Data/ISIC_<id>.jpg`` and
      ``ISIC-2017_Training_Part1_GroundTruth/ISIC_<id>_segmentation.png``. No md5s are required.
    - **Format**: RGB of many sizes, mostly 4:3, here squeezed to ``image_size``; one lesion each.
    - **Splits**: the challenge's validation set is the test set here (its test set of 600 is not used: the masks
      are not in the pack). Validation images come out of its training set. Two training images, ISIC_0012970 and
      ISIC_0000171, show what a validation image shows, and are left out of training; so would be any other whose
      thumbnail correlates above 0.985 with a test image (there is none). Four more such pairs stay on one side.
      Different pictures of one lesion are not marked in the data.
    - **Normalization**: mean and deviation of the training images at 128x128.
    - **Cite**: N. C. F. Codella et al., "Skin lesion analysis toward melanoma detection: a challenge at the 2017
      International Symposium on Biomedical Imaging (ISBI)", arXiv:1710.05006, ISBI 2018.
    - **Terms**: understood to be CC-0; not verified here.
    """

    name = "skin_lesion"
    in_channels = 3
    flips = (True, True)
    mean = (0.7073, 0.5900, 0.5449)
    std = (0.1515, 0.1594, 0.1742)
    files: ClassVar[SourceFolders | None] = SourceFolders(
        name="skin_lesion",
        folders=(_PACK, _PARTS["train"][0]),
        page="https://challenge.isic-archive.com/data/#2017",
    )

    def load(self) -> MaskedImages:
        """Read both parts, check them against the index, and group what shows the same."""
        assert self.files is not None
        found = self.files.find(self.root)
        packed = found.name == _PACK
        files, official = [], []
        for part, (image_folder, mask_folder) in _PARTS.items():
            folders = (found / part,) * 2 if packed else (found.parent / image_folder, found.parent / mask_folder)
            for folder in folders:
                if not folder.is_dir():
                    raise DatasetNotFoundError(f"there is no {folder}.\n{self.files.remedy(self.root)}")
            examples = find_examples(*folders)
            if not examples:
                raise DatasetNotFoundError(f"{folders[0]} holds no image.\n{self.files.remedy(self.root)}")
            files += examples
            official += [part == "val"] * len(examples)
        pairs = read_pairs(files, self.image_size, self.in_channels)
        rows = read_index(found, ("id", "mask_fraction_256")) if packed else None
        if rows is not None:
            check_index(found, {row["id"]: float(row["mask_fraction_256"]) for row in rows}, files, pairs)
        images, masks = stacked(pairs)
        groups = similar_groups(thumbnails(pairs), CORRELATION)
        place = {example.name: number for number, example in enumerate(files)}
        for name, twin in TWINS.items():
            if name in place and twin in place:
                groups[groups == groups[place[name]]] = groups[place[twin]]
        source = found.name if packed else "ISIC-2017"
        return MaskedImages(
            images, masks, tuple(place), groups, torch.zeros_like(groups), torch.tensor(official), source
        )


class PH2DataModule(SegmentationDataModule):
    """PH2: 200 dermoscopic images of melanocytic lesions, taken at Hospital Pedro Hispano, Matosinhos.

    - **Source**: ``PH2Dataset/`` under the root, as published:
      ``PH2 Dataset images/IMDxxx/IMDxxx_Dermoscopic_Image/IMDxxx.bmp`` and ``IMDxxx_lesion/IMDxxx_lesion.bmp``. No md5s
      are published.
    - **Format**: about 768x560 RGB, here squeezed to ``image_size``; one lesion each.
    - **Splits**: ours; none is published. Pictures whose thumbnails correlate above 0.985 stay on one side.
    - **Normalization**: that of ``skin_lesion``, so that networks can be exchanged between the two.
    - **Cite**: T. Mendonça, P. M. Ferreira, J. S. Marques, A. R. S. Marçal, J. Rozeira, "PH2: a dermoscopic image
      database for research and benchmarking", EMBC 2013.
    - **Terms**: for research and education, on request from its authors.
    """

    name = "ph2"
    in_channels = 3
    flips = (True, True)
    mean = SkinLesionDataModule.mean
    std = SkinLesionDataModule.std
    files: ClassVar[SourceFolders | None] = SourceFolders(
        name="ph2",
        folders=("PH2Dataset",),
        page="https://www.fc.up.pt/addi/ph2%20database.html",
    )

    def load(self) -> MaskedImages:
        """Read all images and group near-duplicates."""
        assert self.files is not None
        folder = self.files.find(self.root)
        files = []
        for place in sorted(path for path in (folder / "PH2 Dataset images").glob("IMD*") if path.is_dir()):
            image = place / f"{place.name}_Dermoscopic_Image" / f"{place.name}.bmp"
            mask = place / f"{place.name}_lesion" / f"{place.name}_lesion.bmp"
            for path in (image, mask):
                if not path.is_file():
                    raise DatasetCorruptError(f"{path} is missing; unpack the data again")
            files.append(PairFiles(place.name, image, (mask,)))
        if not files:
            raise DatasetNotFoundError(f"{folder} holds no image.\n{self.files.remedy(self.root)}")
        pairs = read_pairs(files, self.image_size, self.in_channels)
        images, masks = stacked(pairs)
        groups = similar_groups(thumbnails(pairs), CORRELATION)
        names = tuple(example.name for example in files)
        return MaskedImages(images, masks, names, groups, torch.zeros_like(groups), None, folder.name)


def find_examples(images: Path, masks: Path) -> list[PairFiles]:
    """Images ``ISIC_<id>.jpg`` and their masks ``ISIC_<id>_segmentation.png``, by id.

    Raises:
        DatasetCorruptError: If an image has no mask, or a mask no image.
    """
    found = {path.stem: path for path in sorted(images.glob("ISIC_*.jpg"))}
    segmented = {path.stem.removesuffix("_segmentation"): path for path in masks.glob("ISIC_*_segmentation.png")}
    if bare := sorted(found.keys() - segmented.keys()):
        raise DatasetCorruptError(f"{found[bare[0]]} has no mask; expected {masks / bare[0]}_segmentation.png")
    if orphans := sorted(segmented.keys() - found.keys()):
        raise DatasetCorruptError(f"{segmented[orphans[0]]} belongs to no image in {images}")
    return [PairFiles(name, path, (segmented[name],)) for name, path in found.items()]
