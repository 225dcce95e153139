"""Trained networks from checkpoints: the module, its weights, their hash."""

import hashlib
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.modules.segmenter import LitSegmenter

MODULES: dict[str, type[LitNetwork]] = {module.__name__: module for module in (LitClassifier, LitSegmenter)}
"""What a checkpoint may hold, by name."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or belongs to another network."""


def load_trained(path: str | Path, **overrides: Any) -> LitNetwork:
    """Load a trained module for evaluation, on the CPU, and uncompiled unless it is asked for.

    Args:
        path: Lightning checkpoint.
        overrides: arguments of the module to replace, e.g. ``compile_network=True``.

    Raises:
        CheckpointError: if the file is missing, unreadable or the weights do not fit the network.
    """
    return trained_module(read_checkpoint(path), path, **overrides)


def trained_module(checkpoint: dict[str, Any], path: str | Path, **overrides: Any) -> LitNetwork:
    """The same from a checkpoint that was read.

    Raises:
        CheckpointError: the weights do not fit the network.
    """
    given = {**checkpoint["hyper_parameters"], "compile_network": False, **overrides}
    # the first checkpoints do not name it, nor do those of other modules
    task = checkpoint.get("task", LitClassifier.__name__ if "network" in given else None)
    if not isinstance(task, str) or task not in MODULES:
        raise CheckpointError(
            f"{path} was trained by {f'{task!r}, ' if task else ''}a user's module: this is for "
            f"{' and '.join(MODULES)}. In Python, load it with its class and use PosteriorPredictive"
        )
    if "network" not in given:
        raise CheckpointError(
            f"{path} has the weights of a network that was passed as a module: in Python, "
            f"{task}.load_from_checkpoint({str(path)!r}, network=...) with one of its kind"
        )
    try:
        model = MODULES[task](**given)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has hyper-parameters that {task} has not: {error}") from error
    fit_weights(model, checkpoint["state_dict"], path)
    return model.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint to the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged, or no checkpoint of a run.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}; runs store theirs in runs/<profile>/<study>/<id>/checkpoints")
    try:
        _require_stored(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes happen to trigger
        raise CheckpointError(f"{path} is no checkpoint, or it is damaged ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "epoch"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is no checkpoint of a run: its weights or its epoch are missing")
    checkpoint = {"hyper_parameters": {}, **checkpoint}
    state, epoch, images = checkpoint["state_dict"], checkpoint["epoch"], checkpoint.get("images")
    sound = isinstance(state, dict) and all(isinstance(tensor, Tensor) for tensor in state.values())
    if not sound or not isinstance(checkpoint["hyper_parameters"], dict):
        raise CheckpointError(f"{path} is no checkpoint of a run: its weights or hyper-parameters are something else")
    if not isinstance(epoch, int) or epoch < 0:
        raise CheckpointError(f"{path} is no checkpoint of a run: it is of epoch {epoch!r}")
    if images is not None and (not isinstance(images, dict) or not {"mean", "std", "class_names"} <= images.keys()):
        raise CheckpointError(f"{path} is no checkpoint of a run: what it says of its images is something else")
    return checkpoint


def _require_stored(path: Path) -> None:
    """Refuse a file that unpacks to far more than it is; ours are not compressed.

    Raises:
        ValueError: it does.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > 2 * path.stat().st_size + 1_000_000:
            raise ValueError(f"it unpacks to {size:,} bytes")


def why_unusable(checkpoint: dict[str, Any], shapes: Mapping[str, torch.Size] | None = None) -> str:
    """Why a training cannot go on from a checkpoint that could be read; empty if it can."""
    state, callbacks, loops = (checkpoint.get(name, {}) for name in ("state_dict", "callbacks", "loops"))
    optimizers = checkpoint.get("optimizer_states")
    if not isinstance(optimizers, list) or not optimizers or not all(map(_is_optimizer, optimizers)):
        return "the state of its optimizer is missing"
    if not isinstance(loops, dict) or not loops or not all(isinstance(one, dict) for one in loops.values()):
        return "the state of its loops is missing"
    if not re.match(r"\d+\.\d+", str(checkpoint.get("pytorch-lightning_version"))):
        return "it does not name the release of Lightning that wrote it"
    if not isinstance(callbacks, dict) or not all(isinstance(one, dict) for one in callbacks.values()):
        return "the state of its callbacks is something else"
    if not all(isinstance(one.get("best_model_path", ""), str) for one in callbacks.values()):
        return "it does not name the best checkpoint"
    if broken := [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]:
        return f"{broken[0]} holds a value that is not a number"
    if shapes is not None and {name: tensor.shape for name, tensor in state.items()} != dict(shapes):
        return "it belongs to another network"
    return ""


def _is_optimizer(state: Any) -> bool:
    """Whether this can be the state of an optimizer with parameters."""
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return False
    groups = state.get("param_groups")
    return (
        isinstance(groups, list) and bool(groups) and all(isinstance(one, dict) and "params" in one for one in groups)
    )


def start_digest(path: Path) -> str:
    """Content of the checkpoint that a run starts from, as part of its identity.

    Raises:
        CheckpointError: if there is none.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint {path}; an interrupted run resumes automatically, without --ckpt_path"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def fit_weights(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Load weights, or say which do not fit.

    Raises:
        CheckpointError: naming the first differences.
    """
    own = model.state_dict()
    odd = sorted(own.keys() ^ state.keys()) or [k for k in own if own[k].shape != state[k].shape]
    if odd:
        raise CheckpointError(
            f"{path} belongs to another network: {len(odd)} tensors differ, first {', '.join(odd[:3])}. Use the "
            f"--model.network, --model.method and --model.width that it was trained with"
        )
    model.load_state_dict(state)


def weights_digest(networks: Iterable[nn.Module]) -> str:
    """Sixteen hexadecimal digits for the weights: which numbers were measured on one and the same network."""
    digest = hashlib.sha256()
    for network in networks:
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
