"""Evaluation of a trained network: its posterior predictive on a test set, on one device, without padding."""

import csv
import hashlib
import io
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.evaluation import Evaluation, build_posterior
from lit_scaledrop.layers.sampling import StochasticLayer
from lit_scaledrop.layers.scale_dropout import check_probability
from lit_scaledrop.lit_network import LitNetwork, PredictionMetrics
from lit_scaledrop.modules import LitClassifier, LitSegmenter
from lit_scaledrop.progress import with_progress
from lit_scaledrop.report.results import write_atomic
from lit_scaledrop.shapes import Float, Int

TASKS: dict[str, type[LitNetwork]] = {module.__name__: module for module in (LitClassifier, LitSegmenter)}
"""What a checkpoint may hold, by name."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or belongs to another network."""


def evaluate_network(
    networks: nn.Module | Sequence[nn.Module],
    batches: Iterable[tuple[Tensor, Tensor]],
    evaluation: Evaluation,
    metrics: PredictionMetrics,
    device: torch.device | str = "cpu",
) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics of the posterior predictive.

    Args:
        networks: one network or the members of an ensemble.
        batches: normalized images ``(batch, channels, height, width)`` and targets: labels ``(batch,)`` or masks
            ``(batch, height, width)``.
        evaluation: passes, plan and OOD rule.
        metrics: what is measured, e.g. a module's ``test_metrics(evaluation)``.
        device: where it runs.

    Returns:
        Metrics by their keys (see ``lit_scaledrop.glossary``), and how they were obtained: passes, images, seconds.
    """
    members = [networks] if isinstance(networks, nn.Module) else networks
    for member in members:
        member.to(device)
    posterior = build_posterior(members, evaluation)
    metrics = metrics.to(device)
    start, images = time.perf_counter(), 0
    for x, target in batches:
        metrics.update(posterior(x.to(device)), target.to(device))
        images += len(target)
    if not images:
        raise ValueError("there are no images to evaluate on")
    values = {name: float(value) for name, value in metrics.compute().items()}
    how = {
        "samples": posterior.num_samples,
        "seed": evaluation.seed,
        "execution": posterior.choice,
        "scheme": evaluation.scheme,
        "uncovered": posterior.uncovered,
        "variation": None if evaluation.variation is None else evaluation.variation.record(),
        "checkpoint": evaluation.checkpoint,
        "images": images,
        "seconds": round(time.perf_counter() - start, 2),
    }
    return values, how


def evaluation_device(accelerator: Any) -> torch.device:
    """The one device that an evaluation without a trainer runs on, given the trainer's ``accelerator``."""
    wanted = accelerator in (None, "auto", "gpu", "cuda")
    return torch.device("cuda" if wanted and torch.cuda.is_available() else "cpu")


def normalized_test_set(datamodule: Any) -> Iterable[tuple[Tensor, Tensor]]:
    """The whole test set of a data module, normalized as in training, whatever processes its trainer has."""
    datamodule.setup("test")
    trainer, datamodule.trainer = datamodule.trainer, None  # else each process would get its share
    try:
        for batch in with_progress(datamodule.test_dataloader(), "evaluating"):
            yield datamodule.on_after_batch_transfer(batch, 0)
    finally:
        datamodule.trainer = trainer


def write_predictions(
    path: str | Path,
    probabilities: Float[Tensor, "images classes"],
    labels: Int[Tensor, " images"],
    names: Sequence[str],
) -> float:
    """Write class probabilities to a CSV file: a row an image, in order, with label, predicted class and all classes.

    Args:
        path: file to write.
        probabilities: one distribution an image.
        labels: the true classes.
        names: of the classes, in order.

    Returns:
        Accuracy of the predicted classes.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["label", "predicted", *(f"p({name})" for name in names)])
    predicted = probabilities.argmax(-1)
    for label, best, row in zip(labels.tolist(), predicted.tolist(), probabilities.tolist(), strict=True):
        table.writerow([label, best, *(f"{p:.6g}" for p in row)])
    write_atomic(path, text.getvalue())
    return float((predicted == labels).float().mean())


def load_trained(path: str | Path, **overrides: Any) -> LitNetwork:
    """Load a trained module for evaluation, on the CPU, and uncompiled unless it is asked for.

    Args:
        path: Lightning checkpoint.
        overrides: arguments of the module to replace, e.g. ``compile_network=True``.

    Raises:
        CheckpointError: if the file is missing, unreadable or the weights do not fit the network.
    """
    checkpoint = read_checkpoint(path)
    task = checkpoint.get("task", LitClassifier.__name__)  # the first checkpoints do not name it
    if task not in TASKS:
        raise CheckpointError(f"{path} was trained for {task!r}; there are {', '.join(TASKS)}")
    model = TASKS[task](**{**checkpoint["hyper_parameters"], "compile_network": False, **overrides})
    fit_weights(model, checkpoint["state_dict"], path)
    return model.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint to the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged, or no checkpoint of a run.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}; runs keep theirs in runs/<profile>/<study>/<id>/checkpoints")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes happen to trigger
        raise CheckpointError(f"{path} is no checkpoint, or it is damaged ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or not {"hyper_parameters", "state_dict", "epoch"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is no checkpoint of a run: its weights or hyper-parameters are missing")
    return checkpoint


def start_digest(path: Path) -> str:
    """Content of the checkpoint that a run starts from, as part of its identity.

    Raises:
        CheckpointError: if there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; a killed run goes on by itself, without --ckpt_path")
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
            f"{path} belongs to another network: {len(odd)} tensors differ, first {', '.join(odd[:3])}. "
            "Give the --model.network, --model.method and --model.width that it was trained with"
        )
    model.load_state_dict(state)


def set_drop_probability(network: nn.Module, p: float) -> None:
    """Give every stochastic layer of a network the drop probability ``p``, for what-if evaluations.

    Raises:
        ValueError: if ``p`` is no probability or nothing in the network is random.
    """
    stochastic = [layer for layer in network.modules() if isinstance(layer, StochasticLayer)]
    layers = [layer for layer in stochastic if hasattr(layer, "p")]
    if not layers:
        what = "drops nothing" if stochastic else "is deterministic"
        raise ValueError(f"the network {what}: there is no drop probability to change")
    for layer in layers:
        layer.get_buffer("p").fill_(check_probability(p))
