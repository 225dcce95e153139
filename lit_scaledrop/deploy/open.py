"""A trained network by whatever names it: a checkpoint, a packed file, or a model that comes with the package."""

import sys
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from datamodules.pictures import find_pictures
from lit_scaledrop.deploy.container import MAGIC
from lit_scaledrop.deploy.model import load_packed
from lit_scaledrop.evaluation.checkpoint import CheckpointError, load_trained, read_checkpoint
from lit_scaledrop.evaluation.evaluate import evaluation_device
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.naming import lookup
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.posterior import PosteriorPredictive

MODELS = Path(str(resources.files("lit_scaledrop.deploy"))) / "models"


def model_names() -> list[str]:
    """Models that come with the package."""
    return sorted(path.stem for path in MODELS.glob("*.packed"))


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
    path = Path(name)
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        path = MODELS / f"{lookup('model', str(name), model_names())}.packed"
    if path.is_file():
        with path.open("rb") as file:
            packed = file.read(len(MAGIC) - 1) == MAGIC[:-1]
        if packed:
            module, about = load_packed(path)
            return module, about["images"]
    images = read_checkpoint(path).get("images")
    if images is None:
        raise CheckpointError(
            f"{path} does not say how its images were normalized: `scaledrop export --model {path} --data NAME "
            "--out net.packed` makes a file that does"
        )
    return load_trained(path), images


def begin(
    module: LitNetwork, images: Path, evaluation: Evaluation, device: str, written: Path | None = None
) -> tuple[list[Path], PosteriorPredictive, torch.device]:
    """The pictures of a folder, or one; the posterior that they are shown to; where it runs.

    What is left out is said: hidden files, outputs of an earlier run in ``written``, and files of other kinds.

    Raises:
        FileNotFoundError: there is no picture.
    """
    paths, left = ([images], {}) if images.is_file() else find_pictures(images, written)
    if left:
        what = ", ".join(f"{number:,} {kind}" for kind, number in sorted(left.items()))
        print(f"scaledrop: left out of {images}: {what} (read are PNG, JPEG, BMP, WebP)", file=sys.stderr, flush=True)
    if not paths:
        raise FileNotFoundError(f"there is no picture in {images} (PNG, JPEG, BMP, WebP)")
    where = evaluation_device(device)
    return paths, build_posterior(module.network.to(where), evaluation), where
