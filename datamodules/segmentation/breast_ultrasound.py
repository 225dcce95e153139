"""Breast ultrasound images with lesion masks (BUSI)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.files.integrity import DatasetCorruptError
from datamodules.files.source_folders import SourceFolders
from datamodules.segmentation.base import PairedDataModule
from datamodules.segmentation.masked_images import MaskedImages
from datamodules.segmentation.paired_files import Example, PairFiles, check_paired
from datamodules.shapes import Int

KINDS = ("benign", "malignant", "normal")
"""The folders, in the order of the strata."""
_NAME = re.compile(rf"({'|'.join(KINDS)}) \((\d+)\)(_mask(?:_\d+)?)?\.png")


class BreastUltrasoundDataModule(PairedDataModule):
    """BUSI: 780 breast ultrasound images of 600 women; 437 benign, 210 malignant, 133 normal.

    - **Source**: under the root, ``busi-256/`` (a reduced pack with ``index.csv``, whose names and mask fractions are
      checked) or ``Dataset_BUSI_with_GT/``, the layout as published: ``<class>/<class> (n).png`` with
      ``<class> (n)_mask.png``, ``_mask_1.png`` and so on, which are united. No md5s are published.
    - **Format**: about 500x500, here grey and squeezed to ``image_size``. Some show calliper marks, text or coloured
      overlays. Masks of normal images are empty.
    - **Splits**: ours; none is published. The set has many near-duplicates (323 of the 780 images look like another
      one), and nothing says which images are of one patient, so a random split tests on training images. Groups are the
      index's ``dup_group``, else images whose thumbnails correlate above 0.90. At least eleven pictures occur under two
      classes, with different masks; each such pair is one group, and both stay.
    - **Normalization**: mean and deviation of all images at 128x128.
    - **Cite**: W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy, "Dataset of breast ultrasound images", Data in Brief 28
      (2020) 104863.
    - **Terms**: not established for the data; the article is understood to be under CC BY 4.0. Use it for research.

    Args:
        include_normal: Keep the images without a lesion. Without them a network never learns that there may be none,
            and the published numbers do not say what they did.
        **kwargs: As in ``SegmentationDataModule``.
    """

    name = "breast_ultrasound"
    mean = (0.3282,)
    std = (0.2167,)
    correlation = 0.90
    index = ("name", "mask_fraction", "dup_group")
    files = SourceFolders(
        name="breast_ultrasound",
        folders=("busi-256", "Dataset_BUSI_with_GT"),
        page="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    )

    def __init__(self, include_normal: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.include_normal = include_normal

    def load(self) -> MaskedImages:
        """Read all images, and leave out the normal ones if they are not wanted."""
        every = super().load()
        if self.include_normal:
            return every
        kept = every.strata != KINDS.index("normal")
        parts = {part: getattr(every, part)[kept] for part in ("images", "masks", "groups", "strata")}
        names = tuple(every.called(kept.nonzero()[:, 0]))
        return replace(every, **parts, names=names, source=f"{every.source} without normal")

    def find_examples(self, folder: Path) -> list[PairFiles]:
        """Images and their masks, by class and number."""
        images: dict[tuple[str, int], Path] = {}
        masks: dict[tuple[str, int], list[Path]] = {}
        for path in sorted(path for kind in KINDS for path in (folder / kind).glob("*.png")):
            match = _NAME.fullmatch(path.name)
            if match is None or match[1] != path.parent.name:
                raise DatasetCorruptError(f"{path} is named neither '<class> (n).png' nor '<class> (n)_mask.png'")
            key = (match[1], int(match[2]))
            if match[3]:
                masks.setdefault(key, []).append(path)
            else:
                images[key] = path
        check_paired(images, {key: paths[0] for key, paths in masks.items()}, "{}_mask.png beside it")
        return [PairFiles(images[key].stem, images[key], tuple(masks[key]), key[0]) for key in sorted(images)]

    def _groups(
        self, files: Sequence[PairFiles], examples: Sequence[Example], rows: Mapping[str, dict[str, str]] | None
    ) -> Int[Tensor, " items"]:
        if rows is None:
            return super()._groups(files, examples, rows)
        return torch.tensor([int(rows[example.name]["dup_group"]) for example in files])

    def _strata(self, files: Sequence[PairFiles]) -> Int[Tensor, " items"]:
        return torch.tensor([KINDS.index(example.part) for example in files])
