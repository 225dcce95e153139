"""Planes of DICOM files and NIfTI volumes as grey images, through an intensity window."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.files.integrity import DatasetCorruptError
from datamodules.files.limits import too_large
from datamodules.pictures import FORMATS
from datamodules.segmentation.ct_volumes import LUNG_WINDOW, is_grey, read_nifti

WINDOWS = {"lung": LUNG_WINDOW, "soft": (-125.0, 225.0), "brain": (0.0, 80.0), "bone": (-500.0, 1500.0)}
"""Hounsfield units that become black and white, by the usual names; levels and widths differ a little among scanners:
-600 and 1500, 50 and 350, 40 and 80, 500 and 2000 here."""
WITH_MEDICAL = f"{FORMATS}, DICOM, NIfTI"
"""What is read, in words."""
STORED = "stored"
"""Stands for the window that a DICOM file itself names."""
Window = tuple[float, float] | str
DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax of files that pydicom unpacks whole before it reads anything of them."""
_MOST = 1032.0  # times its size is the most that deflate unpacks to, https://zlib.net/zlib_tech.html


def window_of(text: str) -> Window:
    """A window by its name, or by its two ends.

    Raises:
        ValueError: It is neither.

    >>> window_of("brain"), window_of("-100,300")
    ((0.0, 80.0), (-100.0, 300.0))
    """
    if text == STORED or text in WINDOWS:
        return WINDOWS.get(text, text)
    try:
        low, high = map(float, text.split(","))
        if math.isfinite(high - low) and low < high:
            return low, high
    except ValueError:
        pass
    raise ValueError(f"a window is {', '.join(WINDOWS)}, {STORED} (that of a DICOM file) or LOW,HIGH, not {text!r}")


def is_nifti(path: Path) -> bool:
    """Whether a file is called as NIfTI volumes are."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def is_dicom(path: Path) -> bool:
    """Whether a file is called, or begins, as DICOM files do; those of a series often have no ending."""
    if path.suffix.lower() in (".dcm", ".dicom"):
        return True
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def is_medical(path: Path) -> bool:
    """Whether a file is read through a window."""
    return is_nifti(path) or is_dicom(path)


def planes(path: Path, window: Window | None) -> list[Image.Image]:
    """The planes of a file in grey: of a DICOM file its frames, of a NIfTI volume its axial slices.

    Raises:
        DatasetCorruptError: It is unreadable, or there is no window for it; it names the file.
        ModuleNotFoundError: A package that reads it is not installed.
    """
    if window is None:
        raise DatasetCorruptError(
            f"{path} holds measured values, not grey levels: choose an intensity window with --window "
            f"{'|'.join(WINDOWS)}|{STORED}|LOW,HIGH"
        )
    if is_nifti(path):
        values, bright = read_nifti(path)[0], True
        if is_grey(values) and window in WINDOWS.values():
            raise DatasetCorruptError(
                f"{path} is not in Hounsfield units, its voxels are {values.min():g} to {values.max():g}: choose an "
                f"intensity window, e.g. --window 0,255"
            )
    else:
        values, bright, own = _dicom(path)
        window = own if window == STORED else window
    if window is None or isinstance(window, str):
        raise DatasetCorruptError(f"{path} contains no window: choose one with --window LOW,HIGH")
    low, high = window
    levels = np.rint(((values - low) / (high - low)).clip(0, 1) * 255).astype(np.uint8)
    return [Image.fromarray(np.ascontiguousarray(plane if bright else 255 - plane)) for plane in levels]


def series_of(path: Path) -> str:
    """Whose a DICOM file is: its patient, else its series; empty where it does not say."""
    header = _read(path, stop_before_pixels=True)
    return str(header.get("PatientID") or header.get("SeriesInstanceUID") or "")


def _dicom(path: Path) -> tuple[np.ndarray, bool, tuple[float, float] | None]:
    """Values (frames, height, width), whether larger ones are brighter, and the file's own window."""
    header = _read(path)
    try:
        return _decoded(path, header)
    except DatasetCorruptError:
        raise
    except Exception as error:  # pydicom and its decoders raise whatever odd fields lead to
        raise _unreadable(path, error or type(error).__name__) from error


def _decoded(path: Path, header: Any) -> tuple[np.ndarray, bool, tuple[float, float] | None]:
    kind = header.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise DatasetCorruptError(f"{path} has colours ({kind}): export it as PNG")
    if header.get("Modality") == "CT" and header.get("RescaleIntercept") is None:
        raise DatasetCorruptError(f"{path} is of a CT and does not say how its values become Hounsfield units")
    said = 8.0 * header.Rows * header.Columns * int(header.get("NumberOfFrames") or 1)
    if problem := too_large("it", max(said, 4.0 * len(header.get("PixelData") or b""))):
        raise _unreadable(path, problem)
    stored = header.pixel_array.astype(np.float32)
    slope, intercept = _number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)
    if not max(abs(slope), abs(intercept)) < 1e30:
        raise _unreadable(path, f"its values times {slope:g} plus {intercept:g} are no measured ones")
    values = stored * slope + intercept
    level, width = (_number(header, name, np.nan) for name in ("WindowCenter", "WindowWidth"))
    own = (level - width / 2, level + width / 2) if width > 0 else None
    return values.reshape(-1, *values.shape[-2:]), kind == "MONOCHROME2", own


def _number(header: Any, name: str, otherwise: float) -> float:
    """A field, the first of its values, or what stands for one that is absent or empty."""
    value = header.get(name)
    return otherwise if value is None else float(np.atleast_1d(value)[0])


def _read(path: Path, **how: Any) -> Any:
    try:
        import pydicom  # only DICOM files need it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} is DICOM, and there is no pydicom here", name="pydicom") from error
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == DEFLATED and (problem := too_large("what is deflated in it", _MOST * path.stat().st_size)):
            raise ValueError(problem)
        header = pydicom.dcmread(path, **how)
        if {"Rows", "Columns"} <= set(header.dir()):
            return header
    except Exception as error:  # pydicom raises whatever a broken file leads to
        raise _unreadable(path, error or type(error).__name__) from error
    raise _unreadable(path, "it has no picture")


def _unreadable(path: Path, why: object) -> DatasetCorruptError:
    return DatasetCorruptError(f"{path} is no readable DICOM file: {' '.join(str(why).split())[:300]}")
