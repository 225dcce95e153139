"""Slices of lung CT with masks of COVID-19 infection."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.files.integrity import DatasetCorruptError
from datamodules.files.source_folders import SourceFolders
from datamodules.segmentation.base import PairedDataModule
from datamodules.segmentation.paired_files import PairFiles, check_paired
from datamodules.shapes import Bool

BINARY = ("background", "infection")
TWO_CLASSES = ("background", "ground_glass", "consolidation")


class CovidCTDataModule(PairedDataModule):
    """98 lung CT slices of COVID-19 patients, as split by COVID-SemiSeg: 50 for training, 48 for testing.

    - **Source**: ``covid19-ct-256/`` under the root, with ``{train,test}/<n>.png``, ``<n>_mask.png`` (any infection),
      ``<n>_multi.png`` (palette indices: 0 background, 1 ground-glass opacity, 2 consolidation). The names, and the
      fractions of the binary masks, are checked against its ``index.csv``.
    - **Format**: grey, cropped to the lungs and lying on their side, 153 to 256 pixels a side, here squeezed to
      ``image_size``. Grey levels come from published pictures with various windows, not from Hounsfield units.
    - **Splits**: by default that of COVID-SemiSeg, less the training slices that look like a test slice (5 and 46 like
      93, 17 like 91). The slices are of some 40 patients whom nothing identifies, so the rest is not
      independent either. 98 slices are few: use ``fold`` and ``folds``, which keep near-duplicates together, and
      report the spread.
    - **Normalization**: mean and deviation of all slices at 128x128.
    - **Cite**: "COVID-19 CT segmentation dataset", MedSeg (H. B. Jenssen, T. Sakinis), 2020; D.-P. Fan et al.,
      "Inf-Net: automatic COVID-19 lung infection segmentation from CT images", IEEE Trans. Medical Imaging 39(8), 2020.
    - **Terms**: COVID-SemiSeg is for non-commercial purposes only, as is what is derived from it.

    Args:
        two_classes: Tell ground-glass opacity and consolidation apart, instead of infection or not.
        val_fraction: Part of the training images held out for validation, between 0 (none) and 1.
        **kwargs: As in ``SegmentationDataModule``.
    """

    name = "covid_ct"
    flips = (True, True)
    mean = (0.5464,)
    std = (0.3024,)
    correlation = 0.95
    index = ("split", "id", "mask_fraction")
    files = SourceFolders(name="covid_ct", folders=("covid19-ct-256",), page="https://github.com/DengPingFan/Inf-Net")

    def __init__(self, two_classes: bool = False, val_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(val_fraction=val_fraction, **kwargs)
        self.two_classes = two_classes
        self.class_names = TWO_CLASSES if two_classes else BINARY

    def find_examples(self, folder: Path) -> list[PairFiles]:
        """Slices ``<part>/<n>.png`` with ``<n>_mask.png``, or ``<n>_multi.png``, by number; named ``<part>/<n>``."""
        return [example for part in ("train", "test") for example in self._find_part(folder, part)]

    def _find_part(self, folder: Path, part: str) -> list[PairFiles]:
        kind = "_multi" if self.two_classes else "_mask"
        paths = {path.stem: path for path in (folder / part).glob("*.png")}
        for stem, path in paths.items():
            if stem.partition("_")[0] not in paths:
                raise DatasetCorruptError(f"{path} belongs to no image")
        slices = {stem: paths[stem] for stem in sorted(filter(re.compile(r"\d+").fullmatch, paths), key=int)}
        masks = {stem.removesuffix(kind): path for stem, path in paths.items() if stem.endswith(kind)}
        check_paired(slices, masks, f"{{}}{kind}.png beside it")
        return [PairFiles(f"{part}/{stem}", path, (masks[stem],), part) for stem, path in slices.items()]

    def _official_test(self, files: Sequence[PairFiles]) -> Bool[Tensor, " items"]:
        return torch.tensor([example.part == "test" for example in files])

    def _source(self, folder: Path) -> str:
        return f"{folder.name}, two classes" if self.two_classes else folder.name
