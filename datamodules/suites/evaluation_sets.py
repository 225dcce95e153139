"""Images that a trained network is asked about and never trained on: OpenOOD's sets for CIFAR-10 beyond SVHN and MNIST.

J. Zhang et al., "OpenOOD v1.5: enhanced benchmark for out-of-distribution detection", arXiv:2306.09301: near are
CIFAR-100 and Tiny-ImageNet, far are MNIST, SVHN, Textures and Places365.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from datamodules.classification.cifar10 import decode_batch
from datamodules.files.fileset import Checksums, Download, FileSet
from datamodules.files.integrity import Checksum, DatasetNotFoundError
from datamodules.files.tree import Tree
from datamodules.pictures import picture_paths, read_pictures

OVERLAP = {
    "bird": ("n01855672", "n02002724", "n02056570", "n02058221"),
    "cat": ("n02123045", "n02123394", "n02124075"),
    "dog": ("n02085620", "n02094433", "n02099601", "n02099712", "n02106662", "n02113799"),
    "frog": ("n01641577", "n01644900"),
    "automobile": ("n02814533", "n03100240", "n03670208", "n04285008"),
    "truck": ("n03796401", "n03977966"),
    "ship": ("n03447447", "n03662601"),
    "borderline": ("n02125311", "n02129165", "n02423022", "n04146614", "n04487081"),
}
"""Tiny-ImageNet's classes that show one of CIFAR-10's, in our reading of the class names; the last are big cats, a
gazelle and buses. They are left out. OpenOOD removes single images instead (1,207 of the 10,000)."""


class Pictures(NamedTuple):
    """Images of a set, and what to call them."""

    images: Tensor
    """uint8 (pictures, 3, 32, 32)."""
    title: str
    """For tables."""
    source: str
    """What they were read from."""


Found = tuple[Tensor | Sequence[Path], str, str]
"""All images of a set, or the files that hold them, their title and source."""


class EvaluationSet(ABC):
    """A set of images without a training part."""

    name: ClassVar[str]
    """As in the commands and the suites."""
    files: ClassVar[FileSet | Tree]
    """What is published."""

    @abstractmethod
    def describe(self, root: Path, checksums: Checksums = "official") -> tuple[int, str]:
        """Number of images and what they are read from; md5s are verified where there are any.

        Raises:
            DatasetNotFoundError: If it is not there.
            DatasetCorruptError: If a file is truncated or altered.
        """


class ImageSet(EvaluationSet):
    """Images as a suite."""

    title: ClassVar[str]
    """For tables."""

    @abstractmethod
    def find(self, root: Path, checksums: Checksums) -> Found:
        """What is under the root."""

    def describe(self, root: Path, checksums: Checksums = "official") -> tuple[int, str]:
        """Number of images and what they are read from."""
        images, _, source = self.find(root, checksums)
        return len(images), source

    def load(self, root: Path, limit: int | None = None, seed: int = 0, checksums: Checksums = "official") -> Pictures:
        """Read the first ``limit`` images after a seeded shuffle; no others are decoded.

        Raises:
            DatasetNotFoundError: If it is not there.
            DatasetCorruptError: If a file is truncated or altered.
        """
        images, title, source = self.find(root, checksums)
        chosen = order(len(images), limit, seed)
        picked = images[chosen] if isinstance(images, Tensor) else read_pictures([images[index] for index in chosen])
        return Pictures(picked, title, source)


class FolderSet(ImageSet):
    """An image set that is a tree of pictures."""

    files: ClassVar[Tree]

    def find(self, root: Path, checksums: Checksums) -> Found:
        """Paths of the pictures under the root, at least one."""
        folder = self.files.find(root)
        found = self.select(folder)
        if not found[0]:
            raise DatasetNotFoundError(f"{folder} holds no picture.\n{self.files.remedy(root)}")
        return found

    def select(self, folder: Path) -> tuple[Sequence[Path], str, str]:
        """Those of the folder's pictures that belong to the set."""
        return picture_paths(folder), self.title, folder.name


class CIFAR100(ImageSet):
    """CIFAR-100's 10,000 test images, 100 classes, none of them CIFAR-10's (though "bus" and "pickup truck" are close).

    - **Source**: ``cifar-100-python/test`` (torchvision's layout, md5 required) or the archive; else PNG files in
      ``cifar100-test-2000/<class>/``, a subset without the two pictures that are also in CIFAR-10.
    - **Format**: 32x32 RGB. **Cite** and **terms**: as CIFAR-10.
    """

    name = "cifar100"
    title = "CIFAR-100"
    files: ClassVar[FileSet] = FileSet(
        name="cifar100",
        folder="cifar-100-python",
        files={"test": Checksum("f0ef6b0ae62326f3e7ffdfab6717acfc")},
        downloads=(
            Download(
                "cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
                ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
            ),
        ),
        megabytes=169,
        archives=("cifar-100-python.tar.gz",),
    )
    tree = "cifar100-test-2000"

    def find(self, root: Path, checksums: Checksums) -> Found:
        """The images of the official file, or the PNG tree where there is none."""
        if not self.files.is_meant(root) and (paths := picture_paths(root / self.tree)):
            return paths, self.title, f"{self.tree} (PNG tree)"
        images, _ = decode_batch("test", self.files.reader(root, checksums), 100, b"fine_labels")
        return images, self.title, "batches" if checksums == "official" else "batches (unofficial)"


class TinyImageNet(FolderSet):
    """Tiny-ImageNet's validation images of 172 of its 200 classes: those that overlap with CIFAR-10's are left out.

    - **Source**: ``tiny-imagenet-200/val/`` with ``val_annotations.txt``; else PNG files in
      ``tinyimagenet-val-32/<wnid>/``, 10 a class. ``OVERLAP`` lists what is left out. **Format**: 64x64 RGB, some
      grey, here reduced to 32x32.
    - **Cite**: Y. Le, X. Yang, "Tiny ImageNet visual recognition challenge", Stanford CS 231N, 2015; J. Deng et al.,
      "ImageNet: a large-scale hierarchical image database", CVPR 2009.
    - **Terms**: not established; ImageNet's images are for non-commercial research and education.
    """

    name = "tiny_imagenet"
    title = "Tiny-ImageNet"
    files: ClassVar[Tree] = Tree(
        name="tiny_imagenet",
        folders=("tiny-imagenet-200/val", "tinyimagenet-val-32"),
        member="tiny-imagenet-200/val",
        download=Download(
            "tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
            ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
        ),
        megabytes=248,
    )

    def select(self, folder: Path) -> tuple[Sequence[Path], str, str]:
        """Paths of the pictures whose class is none of CIFAR-10's: that in the table, or the folder's name."""
        left_out = {wnid for wnids in OVERLAP.values() for wnid in wnids}
        table, wnids = folder / "val_annotations.txt", {}
        if table.is_file():
            rows = (line.split("\t") for line in table.read_text(errors="replace").splitlines())
            wnids = {row[0]: row[1] for row in rows if len(row) > 1}
        paths = picture_paths(folder)
        kept = [path for path in paths if wnids.get(path.name, path.parent.name) not in left_out]
        return kept, self.title, f"{folder.name} without classes of CIFAR-10"


class Textures(FolderSet):
    """Describable Textures: 5,640 pictures of 47 kinds of texture.

    - **Source**: ``dtd/images/<category>/``; else PNG files of the first 10 categories in ``dtd10-32/<category>/``,
      whose title says that they are a subset. **Format**: RGB of various sizes, here the square in the middle reduced
      to 32x32.
    - **Cite**: M. Cimpoi, S. Maji, I. Kokkinos, S. Mohamed, A. Vedaldi, "Describing textures in the wild", CVPR 2014.
    - **Terms**: the authors make it available for research purposes.
    """

    name = "textures"
    title = "Textures (DTD)"
    files: ClassVar[Tree] = Tree(
        name="textures",
        folders=("dtd/images", "dtd10-32"),
        member="dtd/images",
        download=Download(
            "dtd-r1.0.1.tar.gz",
            "fff73e5086ae6bdbea199a49dfb8a4c1",
            ("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
        ),
        megabytes=625,
    )

    def select(self, folder: Path) -> tuple[Sequence[Path], str, str]:
        """Paths of the pictures; the title counts the categories where not all are there."""
        paths, title, source = super().select(folder)
        categories = len({path.parent for path in paths})
        return paths, title if categories == 47 else f"DTD subset ({categories} categories)", source


class Places365(FolderSet):
    """Places365's 36,500 validation pictures of scenes.

    - **Source**: any pictures in ``places365/val_256/``. OpenOOD uses a selection of them; we take all, or those that a
      limit chooses. **Format**: 256x256 RGB, here reduced to 32x32.
    - **Cite**: B. Zhou, A. Lapedriza, A. Khosla, A. Oliva, A. Torralba, "Places: a 10 million image database for scene
      recognition", IEEE TPAMI 40(6), 2018.
    - **Terms**: not established; the images belong to their authors, for non-commercial research and education.
    """

    name = "places365"
    title = "Places365"
    files: ClassVar[Tree] = Tree(
        name="places365",
        folders=("places365/val_256",),
        member="val_256",
        download=Download(
            "val_256.tar",
            "e27b17d8d44f4af9a78502beb927f808",
            ("http://data.csail.mit.edu/places/places365/val_256.tar",),
        ),
        megabytes=525,
    )


def order(count: int, limit: int | None, seed: int) -> list[int]:
    """Indices of the first ``limit`` of ``count`` things after a seeded shuffle; without a limit, of all in order.

    >>> sorted(order(5, None, 0)), len(order(5, 3, 0)), order(5, 3, 0) == order(5, 3, 1)
    ([0, 1, 2, 3, 4], 3, False)
    """
    if limit is None:
        return list(range(count))
    return np.random.RandomState(seed).permutation(count)[:limit].tolist()  # whose stream never changes
