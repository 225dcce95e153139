"""CIFAR-10-C as released: CIFAR-10's test images under 15 corruptions in five severities."""

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from datamodules.corruptions.corruptions import CORRUPTIONS, SEVERITIES
from datamodules.files.fileset import Checksums, Download, FileSet, Read
from datamodules.files.integrity import Checksum, DatasetCorruptError
from datamodules.suites.evaluation_sets import EvaluationSet

_HEADER = 128  # bytes before the values of a .npy file
_IMAGES = 10_000
_MD5 = {
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
}


class CIFAR10C(EvaluationSet):
    """CIFAR-10-C: 750,000 colour images, the 10,000 test images of CIFAR-10 under 15 corruptions x 5 severities.

    - **Source**: ``CIFAR-10-C/<corruption>.npy`` and ``labels.npy``, or the archive of them, which takes 2.3 GB of
      memory to unpack; md5s required, each file's when it is read. The four extra corruptions of the release are not
      used.
    - **Format**: 32x32 RGB, 0..255; in each file 10,000 images a severity, severities 1 to 5 in order, images in the
      order of the test set.
    - **Cite**: D. Hendrycks, T. Dietterich, "Benchmarking neural network robustness to common corruptions and
      perturbations", ICLR 2019.
    - **Terms**: CC BY 4.0 as stated by its Zenodo record, 2535967.
    """

    name = "cifar10_c"
    files: ClassVar[FileSet] = FileSet(
        name="cifar10_c",
        folder="CIFAR-10-C",
        files={
            "labels.npy": Checksum("c439b113295ed5254878798ffe28fd54"),
            **{
                f"{name}.npy": Checksum(md5, _HEADER + len(SEVERITIES) * _IMAGES * 3 * 32**2)
                for name, md5 in _MD5.items()
            },
        },
        downloads=(
            Download(
                "CIFAR-10-C.tar",
                "56bf5dcef84df0e2308c6dcbcbbd8499",
                ("https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",),
            ),
        ),
        megabytes=2918,
        archives=("CIFAR-10-C.tar", "CIFAR-10-C.tar.gz"),
    )

    def describe(self, root: Path, checksums: Checksums = "official") -> tuple[int, str]:
        """Number of images of each corruption and severity; every file is verified."""
        read = self.files.reader(root, checksums)
        labels = _array("labels.npy", read)
        for name in CORRUPTIONS:
            read(f"{name}.npy")
        return len(labels) // len(SEVERITIES), f"npy, x {len(CORRUPTIONS)} corruptions x {len(SEVERITIES)} severities"

    def load(
        self, root: Path, corruption: str, severity: int, checksums: Checksums = "official"
    ) -> tuple[Tensor, Tensor]:
        """Images and labels of one corruption and severity, in the order of the test set.

        Args:
            root: Where the data is.
            corruption: One of ``CORRUPTIONS``.
            severity: From 1 to 5.
            checksums: Whose md5s decide.

        Returns:
            uint8 images (images, 3, 32, 32), and their labels.

        Raises:
            DatasetNotFoundError: If a file is not there.
            DatasetCorruptError: If a file is truncated or altered.
        """
        read = self.files.reader(root, checksums)
        labels, images = _array("labels.npy", read), _array(f"{corruption}.npy", read)
        each, rest = divmod(len(labels), len(SEVERITIES))
        if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3) or rest:
            raise DatasetCorruptError(
                f"{corruption}.npy and labels.npy are no CIFAR-10-C: shapes {images.shape} and {labels.shape}"
            )
        part = slice((severity - 1) * each, severity * each)
        chosen = np.ascontiguousarray(images[part].transpose(0, 3, 1, 2))
        return torch.from_numpy(chosen), torch.from_numpy(labels[part].astype(np.int64))


def _array(name: str, read: Read) -> np.ndarray:
    content = read(name)
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy reads the header as Python, and raises whatever that leads to
        raise DatasetCorruptError(f"{name} is no .npy file: {error}") from error
