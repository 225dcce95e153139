"""From the rows of a description to images and labels, or masks, in memory."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.files.integrity import DatasetCorruptError
from datamodules.loading import ImageArrays
from datamodules.own.description import OwnData
from datamodules.own.folders import PARTS
from datamodules.own.medical import Window, is_dicom, is_medical, is_nifti, planes
from datamodules.own.pairs import Row, stem
from datamodules.pictures import read_picture, squared
from datamodules.segmentation.ct_volumes import read_volume
from datamodules.segmentation.masked_images import MaskedImages
from datamodules.segmentation.paired_files import PairFiles, check_mask_size, read_mask, read_pair, squared_mask
from datamodules.shapes import Int, Pixels, Shaped

MODES = {1: "L", 3: "RGB"}
"""Pillow's name for so many channels."""
Plane = tuple[np.ndarray, np.ndarray]
"""Image (channels, size, size) and mask (size, size), or label ()."""


class Contents(NamedTuple):
    """All images of a description, in the order of its rows; a volume gives several."""

    images: Pixels
    targets: Shaped[Tensor, "images ..."]
    """labels, int64, or masks, uint8"""
    names: tuple[str, ...]
    row: Int[Tensor, " images"]
    """place of its file among the rows"""


def read_own(own: OwnData, folder: Path) -> Contents:
    """Decode all files of a description, several at a time.

    Args:
        own: The description.
        folder: Where it lies.

    Raises:
        DatasetCorruptError: A file cannot be read, or a mask does not belong to its picture; it says what to do.
    """
    images, masks = folder / own.images, folder / own.masks if own.masks else None

    def read(row: Row) -> list[Plane]:
        try:
            path = images / row.image
            if masks is not None:
                return _with_masks(own, path, [masks / name for name in row.masks])
            one = not is_medical(path)
            pictures = [read_picture(path, own.channels, own.size)[0]] if one else planes(path, own.window)
            label = np.array(own.class_names.index(row.label), np.int64)
            return [(_square(own, picture), label) for picture in pictures]
        except DatasetCorruptError as error:
            remedy = f"Mend it, or move it out of {own.images}{', with its mask' if masks else ''}"
            raise DatasetCorruptError(f"{str(error).rstrip('.')}.\n{remedy}") from error

    with ThreadPoolExecutor() as pool:  # Pillow and NumPy work without holding the interpreter's lock
        found = list(pool.map(read, own.rows))
    every = [plane for planes_of in found for plane in planes_of]
    names = [
        row.image if len(planes_of) == 1 else f"{stem(row.image)}/{number}"
        for row, planes_of in zip(own.rows, found, strict=True)
        for number in range(len(planes_of))
    ]
    pixels, targets = (torch.from_numpy(np.stack([plane[part] for plane in every])) for part in (0, 1))
    row = torch.arange(len(found)).repeat_interleave(torch.tensor([len(planes_of) for planes_of in found]))
    return Contents(pixels, targets, tuple(names), row)


def arrays(own: OwnData, read: Contents) -> ImageArrays | MaskedImages:
    """What a data module holds of the images: training and validation part behind one another."""
    source = f"own images, description {own.digest}" if own.fingerprint else ""
    ends = ends_of(own, read)
    if own.masks is None:
        kept = ends[1]
        return ImageArrays(read.images[:kept], read.targets[:kept], read.images[kept:], read.targets[kept:], source)
    known = {group: number for number, group in enumerate(dict.fromkeys(row.group for row in own.rows))}
    groups = torch.tensor([known[row.group] for row in own.rows])[read.row]
    test = torch.arange(len(read.row)) >= ends[1]
    return MaskedImages(read.images, read.targets, read.names, groups, torch.zeros_like(groups), test, source)


def ends_of(own: OwnData, read: Contents) -> tuple[int, int]:
    """Number of training images, and of training and validation images."""
    train, val = (len(own.parts[part]) for part in PARTS[:2])
    return int((read.row < train).sum()), int((read.row < train + val).sum())


def open_picture(path: Path, channels: int, size: int, window: Window | None) -> tuple[Image.Image, tuple[int, int]]:
    """A picture, or the one plane of a medical file, and its width and height in the file.

    Raises:
        DatasetCorruptError: It is unreadable, or has several planes; it names the file.
    """
    if not is_medical(path):
        return read_picture(path, channels, size)
    found = planes(path, window)
    if len(found) > 1:
        raise DatasetCorruptError(f"{path} has {len(found)} planes: save those that are meant as single files")
    return found[0].convert(MODES[channels]), found[0].size


def _with_masks(own: OwnData, path: Path, masks: list[Path]) -> list[Plane]:
    classes = len(own.class_names)
    if not is_medical(path):
        example = read_pair(PairFiles(path.name, path, tuple(masks)), own.size, own.channels, classes, own.square)
        return [(example.image, example.mask)]
    pictures = planes(path, own.window)
    each = [read_volume(path, mask, classes)[1] if is_nifti(path) else _flat_mask(mask, classes) for mask in masks]
    joined = np.maximum.reduce(each)
    check_mask_size(path, (*pictures[0].size, len(pictures)), masks[0], (*joined.shape[:0:-1], len(joined)))
    return [
        (_square(own, picture), squared_mask(mask, own.size, own.square))
        for picture, mask in zip(pictures, joined, strict=True)
    ]


def _square(own: OwnData, picture: Image.Image) -> np.ndarray:
    return squared(picture.convert(MODES[own.channels]), own.size, own.square)


def _flat_mask(path: Path, classes: int) -> np.ndarray:
    """Mask (frames, height, width) of a DICOM file: a picture, or DICOM itself, in which all above 0 is foreground."""
    if not is_dicom(path):
        return read_mask(path, classes)[None]
    return np.stack([np.asarray(plane) > 0 for plane in planes(path, (0.0, 1.0))]).astype(np.uint8)
