"""Slices of lung CT with masks of COVID-19 infection."""

import re
from pathlib import Path
from typing import Any, ClassVar

import torch

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.files.source_folders import SourceFolders, check_index, read_index
from datamodules.grouping import similar_groups
from datamodules.segmentation.base import SegmentationDataModule
from datamodules.segmentation.masked_images import MaskedImages
from datamodules.segmentation.paired_files import PairFiles, read_pairs, stacked, thumbnails

BINARY = ("background", "infection")
TWO_CLASSES = ("background", "ground_glass", "consolidation")
CORRELATION = 0.95
"""Above it two slices are taken for near-duplicates."""


class CovidCTDataModule(SegmentationDataModule):
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

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "covid_ct"
    flips = (True, True)
    mean = (0.5464,)
    std = (0.3024,)
    files: ClassVar[SourceFolders | None] = SourceFolders(
        name="covid_ct", folders=("covid19-ct-256",), page="https://github.com/DengPingFan/Inf-Net"
    )

    def __init__(self, two_classes: bool = False, val_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(val_fraction=val_fraction, **kwargs)
        self.two_classes = two_classes
        self.class_names = TWO_CLASSES if two_classes else BINARY

    def load(self) -> MaskedImages:
        """Read both parts, check them against the index, and group near-duplicates."""
        assert self.files is not None
        folder = self.files.find(self.root)
        kind = "multi" if self.two_classes else "mask"
        files = [example for part in ("train", "test") for example in find_examples(folder, part, kind)]
        if not files:
            raise DatasetNotFoundError(f"{folder} holds no slice.\n{self.files.remedy(self.root)}")
        pairs = read_pairs(files, self.image_size, self.in_channels, self.num_classes)
        rows = read_index(folder, ("split", "id", "mask_fraction"))
        if rows is not None:
            listed = {f"{row['split']}/{row['id']}": float(row["mask_fraction"]) for row in rows}
            check_index(folder, listed, files, None if self.two_classes else pairs)
        images, masks = stacked(pairs)
        groups = similar_groups(thumbnails(pairs), CORRELATION)
        names = tuple(example.name for example in files)
        test = torch.tensor([name.startswith("test/") for name in names])
        source = f"{folder.name}, two classes" if self.two_classes else folder.name
        return MaskedImages(images, masks, names, groups, torch.zeros_like(groups), test, source)


def find_examples(folder: Path, part: str, kind: str) -> list[PairFiles]:
    """Slices ``<part>/<n>.png`` with ``<n>_<kind>.png``, by number; named ``<part>/<n>``.

    Raises:
        DatasetCorruptError: If a slice has no such mask, or a mask no slice.
    """
    paths = {path.stem: path for path in (folder / part).glob("*.png")}
    slices = sorted((stem for stem in paths if re.fullmatch(r"\d+", stem)), key=int)
    for stem, path in paths.items():
        if stem.partition("_")[0] not in paths:
            raise DatasetCorruptError(f"{path} belongs to no slice")
    examples = []
    for stem in slices:
        if f"{stem}_{kind}" not in paths:
            raise DatasetCorruptError(f"{paths[stem]} has no mask; expected {stem}_{kind}.png beside it")
        examples.append(PairFiles(f"{part}/{stem}", paths[stem], (paths[f"{stem}_{kind}"],)))
    return examples
