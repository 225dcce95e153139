"""Readers of files of others, each with a sound file: it is read, or refused in words that name the file.

Seeded mutations of each, and pipes and folders in their place, are in `faults/test_mutations.py`, single attacks in
`faults/test_hostile_files.py`.
"""

import hashlib
import json
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from datamodules.classification.cifar10 import decode_batch
from datamodules.classification.mnist import _idx
from datamodules.classification.svhn import _matlab
from datamodules.files.integrity import DatasetCorruptError
from datamodules.files.source_folders import INDEX, read_index
from datamodules.own.description import OwnData, load_own
from datamodules.own.medical import planes
from datamodules.own.pairs import Row
from datamodules.pictures import read_pictures
from datamodules.segmentation.ct_volumes import read_nifti
from datamodules.suites.cifar10_c import _array
from hardware.chip_file import load_chip
from hardware.constants import PresetError
from lit_scaledrop.chip.device_data import CurveError, read_curves
from lit_scaledrop.deploy.container import MAGIC, Packed, PackedError, read_packed
from lit_scaledrop.evaluation.checkpoint import CheckpointError, read_checkpoint, why_unusable
from lit_scaledrop.evaluation.probes.parts import MeasuredPart, read_part
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import ResultError
from lit_scaledrop.results.store import read_result
from lit_scaledrop.results.trials import Trial, trials_in, write_trials
from lit_scaledrop.sweep.file import SweepError, load_sweep
from stand_ins import RESULT

ID = "0" * 12
DOCS = Path(__file__).parents[1] / "docs"
BODY = bytes(6 * 4 + 1)
RESUMABLE = {
    "optimizer_states": [{"state": {}, "param_groups": [{"params": [0]}]}],
    "loops": {"fit_loop": {}},
    "callbacks": {"c": {"best_model_path": "best-epoch=3.ckpt"}},
    "pytorch-lightning_version": "2.6.0",
}


class Reader(NamedTuple):
    """How a sound file is made, read, and what an unsound one is refused with."""

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    refusal: type[Exception]


def packed(path: Path) -> None:
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([3])}
    Packed({"task": "x"}, tensors, {"s": torch.tensor([[True, False, True]])}).write(path)


def header(path: Path) -> None:
    """The JSON that stands in front of a packed file."""
    listed = {"about": {"task": "x"}, "tensors": [["w", "float32", [2, 3]]], "signs": [["s", [1, 3]]]}
    path.write_text(json.dumps({**listed, "sha256": hashlib.sha256(BODY).hexdigest()}))


def read_header(path: Path) -> None:
    front, whole = zlib.compress(path.read_bytes()), path.with_suffix(".packed")
    whole.write_bytes(MAGIC + struct.pack("<I", len(front)) + front + BODY)
    read_packed(whole)


def checkpoint(path: Path) -> None:
    state = {"network.w": torch.arange(4.0), "network.b": torch.zeros(2)}
    torch.save({"epoch": 3, "state_dict": state, "hyper_parameters": {"p": 0.1}, **RESUMABLE}, path)


def batch(path: Path) -> None:
    images = np.arange(4 * 3072, dtype=np.uint8).reshape(4, 3072)
    path.write_bytes(pickle.dumps({b"data": images, b"labels": [1, 2, 3, 9]}, protocol=3))


def sweep(path: Path) -> None:
    path.write_text(
        "method: grid\nparameters: {a: {values: &v [1, 2]}, b: {values: *v}}\ncommand: [x, fit, '${args}']\n"
    )


def nifti(path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.diag([-1.0, -1, 5, 1])), path)


def dicom(path: Path, syntax: str = "1.2.840.10008.1.2.1", **fields: Any) -> None:
    """A plane of 4 x 5 pixels in Hounsfield units; a field of None is absent."""
    from pydicom.dataset import Dataset, FileMetaDataset

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.file_meta.MediaStorageSOPClassUID, file.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1"
    plain = {
        "Rows": 4, "Columns": 5, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Modality": "CT", "RescaleSlope": "1",
        "RescaleIntercept": "-1024", "PatientID": "a", "PixelData": np.arange(20, dtype=np.int16).tobytes(),
    }  # fmt: skip
    for name, value in (plain | fields).items():
        if value is not None:
            setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)


OWN = OwnData(
    *("photos", "photos", None, ("cat", "dog"), 3, 32, "pad", None, (0.5,) * 3, (0.2,) * 3, "0" * 16),
    parts={part: [Row(f"{part}.png", (), f"{part}.png", "cat")] for part in ("train", "val", "test")},
)


def part(path: Path) -> None:
    MeasuredPart([Measurement({"cls/acc": 0.5}, {"chip": 1})], {"svhn": {"images": 3}}, 2.0).write(path)


def read_kept(path: Path) -> None:
    if read_part(path) is None:  # then it is measured again
        raise ValueError


def read_trials(path: Path) -> None:
    said: list[str] = []
    trials_in(path.parent, said.append)
    if said:
        raise ValueError(*said)


def matlab(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], [10]], np.uint8)})


def chip(path: Path) -> None:
    shutil.copy(DOCS / "junction.yaml", path.with_name("junction.yaml"))
    shutil.copy(DOCS / "chip.yaml", path)


def of_bytes(decode: Callable[..., Any], *arguments: Any) -> Callable[[Path], Any]:
    """A decoder of what a verified reader gives it, on the bytes of a file."""
    return lambda path: decode(path.name, lambda _: path.read_bytes(), *arguments)


TRIALS = [Trial(0, {"a": 1}, "x", "finished", 0.5), Trial(1, {"a": 2}, "y", "stopped", None, "val/acc 0.1")]
IDX = bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4)) + bytes(range(24))
COLUMNS = ("kind", "name", "mask_fraction")

READERS = {
    "a.packed": Reader(packed, read_packed, PackedError),
    "header.json": Reader(header, read_header, PackedError),
    "a.ckpt": Reader(checkpoint, lambda path: why_unusable(read_checkpoint(path)), CheckpointError),
    "data_batch_1": Reader(batch, of_bytes(decode_batch, 10), DatasetCorruptError),
    f"{ID}.json": Reader(lambda path: path.write_text(RESULT), read_result, ResultError),
    "s.yaml": Reader(sweep, load_sweep, SweepError),
    "v.nii": Reader(nifti, read_nifti, DatasetCorruptError),
    "v.dcm": Reader(dicom, lambda path: planes(path, (0.0, 1.0)), DatasetCorruptError),
    "p.png": Reader(
        lambda path: Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path),
        lambda path: read_pictures([path]),
        DatasetCorruptError,
    ),
    "DATA.yaml": Reader(lambda path: path.write_text(OWN.to_yaml()), load_own, DatasetCorruptError),
    "chip.yaml": Reader(chip, load_chip, PresetError),
    "curve.csv": Reader(
        lambda path: shutil.copy(DOCS / "sot_80nm.csv", path), lambda path: read_curves(path, 1.0), CurveError
    ),
    "search-0.jsonl": Reader(lambda path: write_trials(path, TRIALS), read_trials, ValueError),
    "part.json": Reader(part, read_kept, ValueError),
    INDEX: Reader(
        lambda path: path.write_text("kind,name,mask_fraction\na,1,0.25\na,2,5e-05\nb,3,0\n"),
        lambda path: read_index(path.parent, COLUMNS),
        DatasetCorruptError,
    ),
    "labels.npy": Reader(lambda path: np.save(path, np.arange(20)), of_bytes(_array), DatasetCorruptError),
    "train_32x32.mat": Reader(matlab, of_bytes(_matlab, 10), DatasetCorruptError),
    "train-images-idx3-ubyte": Reader(lambda path: path.write_bytes(IDX), of_bytes(_idx), DatasetCorruptError),
}
