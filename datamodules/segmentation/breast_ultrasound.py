"""Breast ultrasound images with lesion masks (BUSI)."""

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

KINDS = ("benign", "malignant", "normal")
"""The folders, in the order of the strata."""
CORRELATION = 0.90
"""Above it two pictures are taken for duplicates."""
_NAME = re.compile(rf"({'|'.join(KINDS)}) \((\d+)\)(_mask(?:_\d+)?)?\.png")


class BreastUltrasoundDataModule(SegmentationDataModule):
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

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "breast_ultrasound"
    mean = (0.3282,)
    std = (0.2167,)
    files: ClassVar[SourceFolders | None] = SourceFolders(
        name="breast_ultrasound",
        folders=("busi-256", "Dataset_BUSI_with_GT"),
        page="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    )

    def __init__(self, include_normal: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.include_normal = include_normal

    def load(self) -> MaskedImages:
        """Read the folder, check it against its index, and group near-duplicates."""
        assert self.files is not None
        folder = self.files.find(self.root)
        files = find_examples(folder)
        if not files:
            raise DatasetNotFoundError(f"{folder} holds no image.\n{self.files.remedy(self.root)}")
        rows = read_index(folder, ("name", "mask_fraction", "dup_group"))
        pairs = read_pairs(files, self.image_size, self.in_channels)
        if rows is None:
            groups = similar_groups(thumbnails(pairs), CORRELATION)
        else:
            check_index(folder, {row["name"]: float(row["mask_fraction"]) for row in rows}, files, pairs)
            index = {row["name"]: int(row["dup_group"]) for row in rows}
            groups = torch.tensor([index[example.name] for example in files])
        strata = torch.tensor([KINDS.index(example.name.split()[0]) for example in files])
        kept = torch.ones_like(strata, dtype=torch.bool) if self.include_normal else strata != KINDS.index("normal")
        images, masks = stacked(pairs)
        names = tuple(example.name for example, keep in zip(files, kept.tolist(), strict=True) if keep)
        source = folder.name if self.include_normal else f"{folder.name} without normal"
        return MaskedImages(images[kept], masks[kept], names, groups[kept], strata[kept], None, source)


def find_examples(folder: Path) -> list[PairFiles]:
    """Images and their masks, by class and number.

    Raises:
        DatasetCorruptError: If an image has no mask, or a mask no image.
    """
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
    if bare := sorted(images.keys() - masks.keys()):
        raise DatasetCorruptError(f"{images[bare[0]]} has no mask; expected {images[bare[0]].stem}_mask.png beside it")
    if orphans := sorted(masks.keys() - images.keys()):
        raise DatasetCorruptError(f"{masks[orphans[0]][0]} belongs to no image")
    return [PairFiles(images[key].stem, images[key], tuple(masks[key])) for key in sorted(images)]
