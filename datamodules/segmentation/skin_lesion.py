"""Dermoscopic images with lesion masks: the ISIC challenge of 2017, and PH2."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.files.source_folders import SourceFolders
from datamodules.segmentation.base import PairedDataModule
from datamodules.segmentation.paired_files import Example, PairFiles, check_paired
from datamodules.shapes import Bool, Int

TWINS = {"ISIC_0012970": "ISIC_0012127", "ISIC_0000171": "ISIC_0015124"}
"""Training images that show what a validation image shows; whatever their thumbnails say, they are of one group."""
_PACK = "isic2017-256"
_PARTS = {
    "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
    "val": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
}


class SkinLesionDataModule(PairedDataModule):
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
    correlation = 0.985  # skin with a spot in the middle looks much alike below it
    index = ("id", "mask_fraction_256")
    files = SourceFolders(
        name="skin_lesion",
        folders=(_PACK, _PARTS["train"][0]),
        page="https://challenge.isic-archive.com/data/#2017",
    )

    def find_examples(self, folder: Path) -> list[PairFiles]:
        """Images ``ISIC_<id>.jpg`` and their masks ``ISIC_<id>_segmentation.png`` of both parts, by id."""
        return [example for part in _PARTS for example in self._find_part(folder, part)]

    def _find_part(self, found: Path, part: str) -> list[PairFiles]:
        folders = (found / part,) * 2 if found.name == _PACK else tuple(found.parent / name for name in _PARTS[part])
        for folder in folders:
            if not folder.is_dir():
                raise DatasetNotFoundError(f"there is no {folder}.\n{self.files.remedy(self.root)}")
        images = {path.stem: path for path in sorted(folders[0].glob("ISIC_*.jpg"))}
        masks = {path.stem.removesuffix("_segmentation"): path for path in folders[1].glob("ISIC_*_segmentation.png")}
        check_paired(images, masks, f"{folders[1]}/{{}}_segmentation.png")
        if not images:
            raise DatasetNotFoundError(f"{folders[0]} holds no image.\n{self.files.remedy(self.root)}")
        return [PairFiles(name, path, (masks[name],), part) for name, path in images.items()]

    def _groups(
        self, files: Sequence[PairFiles], examples: Sequence[Example], rows: Mapping[str, dict[str, str]] | None
    ) -> Int[Tensor, " items"]:
        groups = super()._groups(files, examples, rows)
        place = {example.name: number for number, example in enumerate(files)}
        for name, twin in TWINS.items():
            if name in place and twin in place:
                groups[groups == groups[place[name]]] = groups[place[twin]]
        return groups

    def _official_test(self, files: Sequence[PairFiles]) -> Bool[Tensor, " items"]:
        return torch.tensor([example.part == "val" for example in files])

    def _source(self, folder: Path) -> str:
        return folder.name if folder.name == _PACK else "ISIC-2017"


class PH2DataModule(PairedDataModule):
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
    correlation = SkinLesionDataModule.correlation
    files = SourceFolders(name="ph2", folders=("PH2Dataset",), page="https://www.fc.up.pt/addi/ph2%20database.html")

    def find_examples(self, folder: Path) -> list[PairFiles]:
        """Image and mask of each lesion's folder."""
        files = []
        for place in sorted(path for path in (folder / "PH2 Dataset images").glob("IMD*") if path.is_dir()):
            image = place / f"{place.name}_Dermoscopic_Image" / f"{place.name}.bmp"
            mask = place / f"{place.name}_lesion" / f"{place.name}_lesion.bmp"
            for path in (image, mask):
                if not path.is_file():
                    raise DatasetCorruptError(f"{path} is missing; unpack the data again")
            files.append(PairFiles(place.name, image, (mask,)))
        return files
