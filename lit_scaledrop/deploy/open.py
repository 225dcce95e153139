"""Opens a trained network: a checkpoint, a packed file, or the name of a packaged model."""

import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch

from datamodules.files.integrity import DatasetCorruptError
from datamodules.own.medical import WITH_MEDICAL, is_medical
from datamodules.pictures import FORMATS, find_pictures, leftovers
from lit_scaledrop.deploy.container import MAGIC
from lit_scaledrop.deploy.facts import odd_fact
from lit_scaledrop.deploy.model import load_packed
from lit_scaledrop.evaluation.checkpoint import CheckpointError, load_trained, read_checkpoint, trained_module
from lit_scaledrop.evaluation.evaluate import evaluation_device
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.naming import lookup
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.results.text import plain

Read = TypeVar("Read")
MODELS = Path(str(resources.files("lit_scaledrop.deploy"))) / "models"


def model_names() -> list[str]:
    """Models that come with the package."""
    return sorted(path.stem for path in MODELS.glob("*.packed"))


def from_pretrained(name: str | Path) -> LitNetwork:
    """A trained module on the CPU, ready for predictions.

    Args:
        name: a checkpoint, a packed file, or one of :func:`model_names`.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
        PackedError: a packed file is damaged.
        ValueError: there is no such model; with the nearest match.
    """
    path = _file(name)
    return load_packed(path)[0] if _is_packed(path) else load_trained(path)


def open_trained(name: str | Path) -> tuple[LitNetwork, dict[str, Any]]:
    """A trained module on the CPU, and what a picture goes through before its network sees it.

    Args:
        name: a file, or one of :func:`model_names`.

    Returns:
        The module, ready for predictions; ``mean`` and ``std`` (of pixels from 0 to 1, one a channel), ``border``
        (pixels of zeros on every side; 0 where it is missing), ``class_names`` and ``name`` of the data set that it was
        trained on.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it does not say how its images were normalized.
        PackedError: a packed file is damaged.
        ValueError: there is no such model; with the nearest match.
    """
    path = _file(name)
    if _is_packed(path):
        module, about = load_packed(path)
        images = about.get("images")
    else:
        checkpoint = read_checkpoint(path)
        images = checkpoint.get("images")
        if images is None:
            raise CheckpointError(
                f"{path} does not contain the normalization of its images: `scaledrop export --model {path} --data "
                f"NAME "
                "--out net.packed` makes a file with it"
            )
        module = trained_module(checkpoint, path)
    problem = odd_fact(images, module)
    if problem or not isinstance(images, dict):
        raise CheckpointError(f"{path} has no valid description of its image preprocessing: {problem}")
    return module, images


def open_with_split(name: str | Path) -> tuple[LitNetwork, str | None, dict[str, Any] | None]:
    """A trained module, and, where its file says so, which data it was trained on and how these were split.

    Args:
        name: a file, or one of :func:`model_names`; errors are those of :func:`from_pretrained`.
    """
    path = _file(name)
    if _is_packed(path):
        module, about = load_packed(path)
        return module, about["images"].get("name"), None
    checkpoint = read_checkpoint(path)
    return trained_module(checkpoint, path), (checkpoint.get("images") or {}).get("name"), checkpoint.get("split")


def _file(name: str | Path) -> Path:
    """The file that a name stands for."""
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    return MODELS / f"{lookup('model', str(name), model_names())}.packed"


def _is_packed(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC) - 1) == MAGIC[:-1]


def begin(
    module: LitNetwork,
    images: Path,
    evaluation: Evaluation,
    device: str,
    written: Path | None = None,
    medical: bool = False,
) -> tuple[list[Path], PosteriorPredictive, torch.device]:
    """The pictures of a folder, or one; the posterior that they are shown to; where it runs.

    What is left out is said: hidden files, outputs of an earlier run in ``written``, and files of other kinds, DICOM
    and NIfTI among them unless the training was on own pictures (``medical``).

    Raises:
        FileNotFoundError: there is no picture.
    """
    wanted = {"also": is_medical} if medical else {}
    paths, left = ([images], {}) if images.is_file() else find_pictures(images, written, **wanted)
    formats = WITH_MEDICAL if medical else FORMATS
    if left:
        print(f"scaledrop: {leftovers(images, left, formats)}", file=sys.stderr, flush=True)
    if not paths:
        raise FileNotFoundError(f"there are no images in {images} ({formats})")
    where = evaluation_device(device)
    return paths, build_posterior(module.network.to(where), evaluation), where


class LeftOut:
    """Pictures that could not be read: each is said on the error output, and the others are gone on with."""

    def __init__(self) -> None:
        self.errors: list[DatasetCorruptError] = []

    def add(self, error: DatasetCorruptError) -> None:
        """Note one."""
        self.errors.append(error)
        print(f"left out: {plain(str(error))}", file=sys.stderr, flush=True)

    def require_others(self, done: Sequence[object]) -> None:
        """Refuse an empty result.

        Raises:
            DatasetCorruptError: nothing was done; the first reason.
        """
        if self.errors and not done:
            raise self.errors[0]

    def __str__(self) -> str:
        return f", {len(self.errors)} left out" if self.errors else ""


def readable(
    paths: Sequence[Path], read: Callable[[Path], Read], left_out: LeftOut | None
) -> tuple[list[Path], list[Read]]:
    """Files that can be read, and what is in them; the others are noted.

    Raises:
        DatasetCorruptError: a file cannot be read, and nobody notes it.
    """
    sound, found = [], []
    for path in paths:
        try:
            found.append(read(path))
            sound.append(path)
        except DatasetCorruptError as error:
            if left_out is None:
                raise
            left_out.add(error)
    return sound, found
