"""CIFAR-10 from the official batches, an archive of them, or a tree of PNG files."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from datamodules.classification.base import Augment, PublishedDataModule
from datamodules.files.fileset import Download, FileSet, Read
from datamodules.files.integrity import Checksum, DatasetCorruptError, DatasetNotFoundError
from datamodules.loading import ImageArrays
from datamodules.pictures import opened

_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"


class CIFAR10DataModule(PublishedDataModule):
    """CIFAR-10: 60,000 colour images, 10 classes.

    - **Source**: under the root, the first found of ``cifar-10-batches-py/`` (torchvision's layout), an
      archive of it (``cifar-10-python.tar.gz``, ``cifar-10-batches-py.tar.xz``, ``.tar``), or
      ``train/<class>/*.png`` with ``test/<class>/*.png``. The root may be the path of an archive. md5s are
      required of the batches; none are published for PNG files, so ``source`` says ``png tree`` and the
      fingerprint, which follows their order, differs.
    - **Format**: 32x32 RGB, 0..255. **Classes**: 6,000 images each.
    - **Splits**: official 50,000 for training, out of which comes the validation split, and 10,000 for
      testing.
    - **Cite**: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report,
      University of Toronto, 2009.
    - **Terms**: no explicit licence established; the author asks that the report be cited.

    Args:
        augment: Geometry of the training images: ``none``, ``crop`` (a shift) or ``resized_crop``.
        flip: Mirror training images left to right with probability 1/2.
        **kwargs: As in ``PublishedDataModule``.
    """

    name = "cifar10"
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    files: ClassVar[FileSet] = FileSet(
        name="cifar10",
        folder="cifar-10-batches-py",
        files={
            "data_batch_1": Checksum("c99cafc152244af753f735de768cd75f", 31_035_704),
            "data_batch_2": Checksum("d4bba439e000b95fd0a9bffe97cbabec", 31_035_320),
            "data_batch_3": Checksum("54ebc095f3ab1f0389bbae665268c751", 31_035_999),
            "data_batch_4": Checksum("634d18415352ddfa80567beed471001a", 31_035_696),
            "data_batch_5": Checksum("482c414d41f54cd18b22e5b47cb7c3cb", 31_035_623),
            "test_batch": Checksum("40351d587109b95175f43aff81a1287e", 31_035_526),
            "batches.meta": Checksum("5ff9c542aee3614f3951f8cda6e48888", 158),
        },
        downloads=(
            Download(
                "cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            ),
        ),
        megabytes=170,
        archives=(
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py.tar.xz",
            "cifar-10-batches-py.tar.gz",
            "cifar-10-batches-py.tar",
        ),
    )

    def __init__(self, augment: Augment = "crop", flip: bool = True, **kwargs: Any) -> None:
        super().__init__(augment=augment, flip=flip, **kwargs)

    def prepare_data(self) -> None:
        """Unpack an archive under the root; Lightning calls this in one process only."""
        if not self._is_png_tree():
            super().prepare_data()

    def load(self) -> ImageArrays:
        """Read the batches, or the PNG files where there are no batches at all."""
        if not self._is_png_tree():
            return super().load()
        train, test = (self._png_tree(self.root / part) for part in ("train", "test"))
        return ImageArrays(*train, *test, source="png tree")

    def parse(self, read: Read) -> ImageArrays:
        """Decode the five training batches and the test batch."""
        batches = [decode_batch(name, read, self.num_classes) for name in (*_TRAIN, _TEST)]
        images, labels = zip(*batches, strict=True)
        train_images, train_labels = torch.cat(images[:-1]), torch.cat(labels[:-1])
        return ImageArrays(train_images, train_labels, images[-1], labels[-1], source=self._source("batches"))

    def _is_png_tree(self) -> bool:
        return all((self.root / part).is_dir() for part in ("train", "test")) and not self.files.is_meant(self.root)

    def _png_tree(self, folder: Path) -> tuple[Tensor, Tensor]:
        """Decode ``folder/<class>/*.png`` by class and file name."""
        found = {path.name for path in folder.iterdir() if path.is_dir()}
        if found != set(self.class_names):
            odd = ", ".join(sorted(found ^ set(self.class_names)))
            raise DatasetCorruptError(
                f"{folder} must have one folder for each CIFAR-10 class; missing or unknown: {odd}"
            )
        images, labels = [], []
        for label, name in enumerate(self.class_names):
            for path in sorted((folder / name).glob("*.png")):
                with opened(path, "PNG file") as picture:
                    image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
                if image.shape != (3, 32, 32):
                    raise DatasetCorruptError(f"{path} is {tuple(image.shape[1:])} pixels instead of (32, 32)")
                images.append(image)
                labels.append(label)
        if not images:
            raise DatasetNotFoundError(f"{folder} holds no PNG file.\n{self.files.remedy(self.root)}")
        return torch.stack(images), torch.tensor(labels)


class _Bytes:
    """What an array of bytes is unpickled to: its state as it stands in the file, of which no array is made here.

    NumPy's own classes would do what the file says, with objects in place of bytes, or with any shape and strides over
    a buffer, and end the process.
    """

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The rows of bytes.

        Raises:
            ValueError: It is no such array.
        """
        _, shape, dtype, fortran, content = self.state
        if not isinstance(dtype, _Type) or dtype.code not in ("u1", b"u1") or not isinstance(content, bytes):
            raise ValueError("its images are no bytes")
        if not all(isinstance(length, int) and length >= 0 for length in shape):
            raise ValueError(f"its images have the shape {shape}")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Type:
    """What the type of an array is unpickled to."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields, which a byte has not."""


def _rebuild(*_: Any) -> _Bytes:
    return _Bytes()


class _BatchUnpickler(pickle.Unpickler):
    """Unpickle plain containers and arrays of bytes, and nothing that could run code or reach memory."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _Bytes, ("numpy", "dtype"): _Type}
        for package in ("numpy.core", "numpy._core"):  # before and since NumPy 2
            allowed[package + ".multiarray", "_reconstruct"] = _rebuild
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"a CIFAR batch has no use for {module}.{name}")
        return allowed[module, name]


def _require_small_memo(content: bytes) -> None:
    """Refuse a pickle that remembers something under a large number, for which Python would make room.

    Raises:
        ValueError: It does, or it is no pickle.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= len(content):
            raise ValueError(f"it remembers more than its {len(content):,} bytes can hold")


def decode_batch(name: str, read: Read, classes: int, key: bytes = b"labels") -> tuple[Tensor, Tensor]:
    """Decode one batch: a pickled dictionary of rows of 3,072 bytes (red, green, blue) and labels.

    Returns:
        uint8 images (images, 3, 32, 32), and their labels.

    Raises:
        DatasetCorruptError: If it is no such batch.
    """
    kind = f"CIFAR-{classes}"
    try:
        content = read(name)
        _require_small_memo(content)
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(batch[b"data"], _Bytes):
            raise ValueError("its images are no bytes")
        labels = torch.tensor(list(batch[key]), dtype=torch.int64)
        images = torch.from_numpy(batch[b"data"].array().reshape(-1, 3, 32, 32).copy())
    except (
        *(pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError, ImportError),
        *(OverflowError, RecursionError, MemoryError, RuntimeError),
    ) as error:
        raise DatasetCorruptError(f"{name} is no {kind} batch: {error}") from error
    if (
        images.dtype != torch.uint8
        or labels.shape != images.shape[:1]
        or not bool(((labels >= 0) & (labels < classes)).all())
    ):
        raise DatasetCorruptError(f"{name} is no {kind} batch: images and labels do not belong together")
    return images, labels
