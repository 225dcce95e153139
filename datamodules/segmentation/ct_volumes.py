"""Lung CT volumes with masks, in NIfTI files, as sets of axial slices."""

import math
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch.nn import functional

from datamodules.base import require
from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.files.limits import too_large
from datamodules.files.source_folders import SourceFolders
from datamodules.segmentation.base import SegmentationDataModule
from datamodules.segmentation.covid_ct import BINARY, TWO_CLASSES
from datamodules.segmentation.masked_images import MaskedImages
from datamodules.segmentation.paired_files import (
    IGNORE,
    check_labels,
    check_mask_size,
    check_paired,
    resize_mask,
)
from datamodules.shapes import Float, UInt8

LUNG_WINDOW = (-1350.0, 150.0)
"""Hounsfield units shown as black and white: the usual lung window, level -600 and width 1500."""
Slices = Literal["all", "foreground"]
TWINS = {"radiopaedia_10_85902_3": "radiopaedia_10_85902_1"}
"""Volumes of the public set (Zenodo 3757476) that are of one patient, and stay on one side."""


class CTVolumesDataModule(SegmentationDataModule):
    """Axial slices of CT volumes in Hounsfield units; for COVID-19 sets that come as NIfTI, and your own.

    - **Source**: ``covid19-ct-volumes/`` under the root, with ``<case>_ct.nii.gz`` and ``<case>_mask.nii.gz``, or with
      folders ``images/`` and ``masks/`` of equal file names; ``.nii`` as well. Known sets of this form: the volumes of
      MedSeg, and "COVID-19 CT lung and infection segmentation dataset" (J. Ma et al., Zenodo 3757476, 20 cases). No
      md5s are required.
    - **Units**: a volume without a negative voxel and none above 255 is not in Hounsfield units (half of that Zenodo
      set is grey levels): it is refused, unless ``grey_window`` says which units 0 and 255 stand for.
    - **Format**: Hounsfield units, cut to ``window`` and stored in 256 steps; slices along the body's axis, front of
      the body up and its right side left, by the orientation in the file's header; squeezed to ``image_size``.
    - **Masks**: 0 background, anything else infection (255: ignored, but in a mask of 0 and 255 alone); with
      ``two_classes`` 1 is ground-glass opacity and 2 consolidation. Volume and mask must agree in shape and
      orientation. Voxels that are no number are refused.
    - **Splits**: ours, by volume, which stands for a patient: all slices of a volume are on one side, and so are the
      public set's two volumes of one patient.
    - **Normalization**: the middle of the window is 0 and its ends are -2 and 2, in every set alike.
    - **Cite** and **terms**: those of the set at hand. Table V is on slices, see ``covid_ct``.

    Args:
        window: Hounsfield units that become black and white.
        slices: ``all``, or only those with ``foreground``.
        two_classes: Tell ground-glass opacity and consolidation apart.
        grey_window: Hounsfield units that volumes of grey levels have at 0 and at 255.
        **kwargs: As in ``SegmentationDataModule``.
    """

    name = "ct_volumes"
    flips = (True, False)
    mean = (0.5,)
    std = (0.25,)
    files: ClassVar[SourceFolders] = SourceFolders(
        name="ct_volumes", folders=("covid19-ct-volumes",), page="https://zenodo.org/records/3757476"
    )

    def __init__(
        self,
        window: tuple[float, float] = LUNG_WINDOW,
        slices: Slices = "all",
        two_classes: bool = False,
        grey_window: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        low, high = grey_window or (0, 1)
        require(math.isfinite(high - low) and low < high, "grey_window", grey_window, "two ascending numbers")
        self.grey_window = grey_window
        low, high = window
        require(math.isfinite(high - low) and low < high, "window", window, "two ascending numbers")
        require(slices in get_args(Slices), "slices", slices, f"one of {get_args(Slices)}")
        self.window, self.slices, self.two_classes = (low, high), slices, two_classes
        self.class_names = TWO_CLASSES if two_classes else BINARY

    def load(self) -> MaskedImages:
        """Read volume by volume, so that only one is in memory at its full size."""
        folder = self.files.find(self.root)
        cases = find_volumes(folder)
        if not cases:
            raise DatasetNotFoundError(f"{folder} holds no volume.\n{self.files.remedy(self.root)}")
        images, masks, names, groups, converted = [], [], [], [], []
        patients = {case: number for number, case in enumerate(sorted(cases))}
        for case, (volume_path, mask_path) in sorted(cases.items()):
            volume, labels = read_volume(volume_path, mask_path, self.num_classes)
            if is_grey(volume):
                volume = self._in_hounsfield_units(volume, volume_path)
                converted.append(case)
            depths = list(range(len(volume)))
            if self.slices == "foreground":
                depths = [depth for depth in depths if ((labels[depth] > 0) & (labels[depth] != IGNORE)).any()]
            for depth in depths:
                images.append(windowed(volume[depth], self.window, self.image_size))
                masks.append(resize_mask(labels[depth], self.image_size))
                names.append(f"{case}/{depth}")
            groups += [patients.get(TWINS.get(case, case), patients[case])] * len(depths)
        if not images:
            raise DatasetCorruptError(f"no slice in {folder} has any foreground; use slices=all")
        low, high = self.window
        grey = f" ({len(converted)} of grey levels, {self.grey_window} HU)" if converted else ""
        source = f"{folder.name}, {len(cases)} volumes{grey}, window {low:g} to {high:g} HU, {self.slices} slices"
        return MaskedImages(
            torch.from_numpy(np.stack(images))[:, None],
            torch.from_numpy(np.stack(masks)),
            tuple(names),
            torch.tensor(groups),
            torch.zeros(len(groups), dtype=torch.int64),
            None,
            f"{source}, two classes" if self.two_classes else source,
        )

    def _in_hounsfield_units(self, volume: np.ndarray, path: Path) -> np.ndarray:
        if self.grey_window is None:
            raise DatasetCorruptError(
                f"{path} is not in Hounsfield units: its voxels are {volume.min():g} to {volume.max():g}, and air has "
                "-1000 there. Convert it, leave it out, or say which units 0 and 255 stand for, e.g. "
                "--data.grey_window=[-1250,250]"
            )
        low, high = self.grey_window
        return volume / 255 * (high - low) + low


def is_grey(volume: Float[np.ndarray, "depth height width"]) -> bool:
    """Whether a volume is grey levels in place of Hounsfield units: whole numbers from 0 to 255, and above 1.

    >>> is_grey(np.array([[[0.0, 255.0]]])), is_grey(np.array([[[-1000.0, 40.0]]]))
    (True, False)
    """
    return bool(volume.min() >= 0 and 1 < volume.max() <= 255)


def find_volumes(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Volume and mask of each case, in either layout.

    Raises:
        DatasetCorruptError: If a volume has no mask, or a mask no volume.
    """
    if (folder / "images").is_dir():
        volumes, masks = (_by_case(folder / part, "") for part in ("images", "masks"))
    else:
        volumes, masks = (_by_case(folder, ending) for ending in ("_ct", "_mask"))
    check_paired(volumes, masks, "one of the same case")
    return {case: (path, masks[case]) for case, path in volumes.items()}


def read_volume(
    path: Path, mask_path: Path, classes: int = 2
) -> tuple[Float[np.ndarray, "depth height width"], UInt8[np.ndarray, "depth height width"]]:
    """Read a volume and its mask as stacks of axial slices from the feet up, front up, right side of the body left.

    Args:
        path: NIfTI file of the volume.
        mask_path: NIfTI file of the mask.
        classes: 2 makes every label above 0 (but 255) a 1; with more, labels are 0 to ``classes - 1``, and 255.

    Raises:
        DatasetCorruptError: If a file is unreadable, holds what is no number or no label, or the two do not agree.
    """
    volume, turned = read_nifti(path)
    labels, mask_turned = read_nifti(mask_path)
    check_mask_size(path, volume.shape[::-1], mask_path, labels.shape[::-1])
    if turned != mask_turned:
        raise DatasetCorruptError(
            f"{mask_path} is oriented {''.join(mask_turned)}, but its volume {path} {''.join(turned)}; save the mask "
            "with the affine matrix of the volume"
        )
    whole = np.rint(labels)
    if np.abs(whole - labels).max() > 1e-3 or whole.min() < 0 or whole.max() > IGNORE:
        raise DatasetCorruptError(f"{mask_path} holds numbers that are no labels, such as {labels.flat[0]:g}")
    whole = whole.astype(np.uint8)
    if classes == 2 and not ((whole > 0) & (whole < IGNORE)).any():
        whole = np.minimum(whole, 1)  # black and white
    elif classes == 2:
        whole = np.where(whole == IGNORE, IGNORE, whole > 0).astype(np.uint8)
    else:
        check_labels(mask_path, whole, classes)
    return volume, whole


def windowed(
    plane: Float[np.ndarray, "height width"], window: tuple[float, float], size: int
) -> UInt8[np.ndarray, "size size"]:
    """Map Hounsfield units within a window to 0 to 255, then squeeze to a square (bilinear, antialiased).

    >>> windowed(np.array([[-2000.0, -600.0], [150.0, 150.0]]), LUNG_WINDOW, 2).tolist()
    [[0, 128], [255, 255]]
    """
    low, high = window
    levels = torch.from_numpy(((plane - low) / (high - low)).clip(0, 1).astype(np.float32) * 255)[None, None]
    resized = functional.interpolate(levels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()


def _by_case(folder: Path, ending: str) -> dict[str, Path]:
    cases = {}
    for path in sorted(folder.glob("*.nii*")):
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        if stem.endswith(ending):
            cases[stem.removesuffix(ending)] = path
    return cases


def read_nifti(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The voxels as float32 (depth, height, width), and the letters of the orientation in the file."""
    import nibabel  # only volumes need it

    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DatasetCorruptError(f"{path} is no readable NIfTI file: it is no file")
    try:
        stored: Any = nibabel.load(path)
        _require_plain(path, stored)
        turned = nibabel.aff2axcodes(stored.affine)
        voxels = np.asarray(nibabel.as_closest_canonical(stored).dataobj, np.float32)
    except DatasetCorruptError:
        raise
    except Exception as error:  # nibabel, NumPy and zlib raise whatever a broken header leads to
        raise DatasetCorruptError(f"{path} is no readable NIfTI file: {error or type(error).__name__}") from error
    voxels = voxels.squeeze(tuple(range(3, voxels.ndim))) if voxels.shape[3:] == (1,) * (voxels.ndim - 3) else voxels
    if voxels.ndim != 3:
        raise DatasetCorruptError(f"{path} has {voxels.ndim} axes instead of 3")
    if count := int((~np.isfinite(voxels)).sum()):
        raise DatasetCorruptError(
            f"{path} has {count:,} voxels that are no number; replace them first, for instance by -1000 (air)"
        )
    # canonical axes grow to the right, the front and the head; pictures show the front up and the right side left
    return voxels.transpose(2, 1, 0)[:, ::-1, ::-1], turned


def _require_plain(path: Path, stored: Any) -> None:
    """Refuse a volume whose header says that it cannot be read as numbers in a known place, before it is read."""
    if stored.get_data_dtype().fields or stored.get_data_dtype().kind not in "biuf":
        raise DatasetCorruptError(f"{path} holds {stored.get_data_dtype()} voxels, for instance colours, not numbers")
    if min(stored.shape, default=0) < 1:
        raise DatasetCorruptError(f"{path} says that it has {' x '.join(map(str, stored.shape))} voxels")
    if problem := too_large("it", 8.0 * math.prod(map(int, stored.shape))):  # float32, and what it is made from
        raise DatasetCorruptError(f"{path} is no readable NIfTI file: {problem}")
    matrix = np.asarray(stored.affine)[:3, :3]
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise DatasetCorruptError(
            f"{path} does not say how it lies in the body: its affine matrix has no inverse. Save it with the matrix "
            "of its DICOM series"
        )
