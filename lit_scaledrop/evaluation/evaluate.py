"""Evaluation of a trained network: its posterior predictive on a test set, on one device, without padding."""

import csv
import io
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import datamodules
from lit_scaledrop.evaluation.on_chip import asked_record
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.modules.base import LitNetwork, PredictionMetrics
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks.own import imported, is_own
from lit_scaledrop.posterior.diagnosis import Diagnosis, diagnose, diagnosis_images
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.mixture_norm import reestimate_norms
from lit_scaledrop.progress import with_progress
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.shapes import Float, Int

NORM_BATCH = 50
"""Images of a batch that running statistics are estimated on: times the passes, so many rows."""
MOST_MASKS = 64
"""Of an exact evaluation, up to which running statistics are estimated: they are run at once."""


def data_sets() -> dict[str, Any]:
    """Every data set with a test set, as registered at this moment."""
    return {**datamodules.DATAMODULES, **datamodules.SEGMENTATION_DATAMODULES}


def data_for(
    model: LitNetwork, name: str, root: str | None = None, *, called: object = "the network", **arguments: Any
) -> Any:
    """A data set for a trained network, with images of its size.

    Args:
        model: trained module.
        name: of the data set, the import path of a data module of yours, or the file that describes own pictures.
        root: folder of the data; default: the environment variable DATA, or ./data.
        called: what a message calls the network.
        arguments: of the data module, e.g. how the validation split is taken.

    Raises:
        ValueError: there is no such data set, or the network was not made for its images or classes.
    """
    if name.endswith((".yaml", ".yml")):
        if root is not None:
            raise ValueError(f"{name} says where its images are: remove the root")
        data: Any = datamodules.own_module(name, **arguments)
    else:
        known = data_sets()
        # the name of the class is what `scaledrop fit` wants
        name = next((short for short, kind in known.items() if getattr(kind, "__name__", None) == name), name)
        kind = imported("data set", name) if is_own(name) else known[lookup("data set", name, known)]
        size = model.hparams.get("image_size")
        data = kind(root=root, **({} if size is None else {"image_size": size}), **arguments)
    require_match(called, model, data)
    return data


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
        Metrics by their keys (see ``results/glossary.py``), and how they were obtained: passes, images, seconds.
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
    asked = asked_record(posterior, evaluation, members)
    return values, {**asked, "images": images, "seconds": round(time.perf_counter() - start, 2)}


def require_match(name: object, model: LitNetwork, data: Any) -> None:
    """Refuse a data set whose images or classes a network was not made for.

    Raises:
        ValueError: saying what each of them has.
    """
    expected = (model.hparams["in_channels"], model.hparams["num_classes"])
    if expected != (data.in_channels, data.num_classes):
        raise ValueError(
            f"{name} takes {expected[0]} channels and tells {expected[1]} classes apart; "
            f"{data.name} has {data.in_channels} and {data.num_classes}"
        )


def evaluation_device(accelerator: Any) -> torch.device:
    """The one device that an evaluation without a trainer runs on, given the trainer's ``accelerator``."""
    wanted = accelerator in (None, "auto", "gpu", "cuda")
    return torch.device("cuda" if wanted and torch.cuda.is_available() else "cpu")


def normalized_test_set(datamodule: Any) -> Iterable[tuple[Tensor, Tensor]]:
    """The whole test set of a data module, normalized as in training, whatever processes its trainer has."""
    datamodule.setup("test")
    for batch in with_progress(datamodule.test_dataloader(whole=True), "evaluating"):
        yield datamodule.on_after_batch_transfer(batch, 0)


def diagnosed(
    network: nn.Module, datamodule: Any, samples: int, device: torch.device | str = "cpu", images: int | None = None
) -> Diagnosis | None:
    """What the random bits of a network's layers do on the first validation images.

    Args:
        network: any.
        datamodule: with a validation split.
        samples: passes T of the mutual information.
        device: where it runs.
        images: how many; by default as many as cost no more than 20 passes over 1,000 images of 32x32.

    Returns:
        ``None`` where nothing in the network is random, or there are no validation images.
    """
    datamodule.setup("test")
    split = datamodule.val_set
    if not stochastic_layers(network) or not len(split):
        return None
    count = images if images is not None else diagnosis_images(network, samples, split[0][0][0].numel())
    batch = split.__getitems__(range(min(count, len(split))))
    inputs, *_ = datamodule.on_after_batch_transfer(batch, 0)
    return diagnose(network.to(device), inputs.to(device), samples)


def renorm(
    networks: Sequence[nn.Module],
    datamodule: Any,
    evaluation: Evaluation,
    images: int,
    device: torch.device | str = "cpu",
) -> None:
    """Estimate BatchNorm's running statistics anew, under the masks that an evaluation takes, in place.

    What is looked at are the first training images, not augmented.

    Raises:
        ValueError: too few images, a chip file, too many masks, or no BatchNorm.
    """
    if evaluation.chip_file is not None:
        raise ValueError(
            "running statistics can be re-estimated for digital networks only: remove the chip file or the images"
        )
    datamodule.setup("test")
    split = datamodule.train_set
    if not NORM_BATCH <= images <= len(split):
        raise ValueError(f"running statistics need {NORM_BATCH} to {len(split)} training images, got {images}")
    parts = [range(start, min(start + NORM_BATCH, images)) for start in range(0, images - NORM_BATCH + 1, NORM_BATCH)]
    parts[-1] = range(parts[-1].start, images)  # what is left over, so that no batch is small

    def batch(part: range) -> Tensor:
        return datamodule.on_after_batch_transfer(split.__getitems__(part), 0)[0].to(device)

    posterior = build_posterior([network.to(device) for network in networks], evaluation)
    posterior(batch(range(2)))  # settles whether "auto" takes all masks
    for network, plan in zip(posterior.networks, posterior.plans, strict=True):
        if plan.weights is not None and plan.samples > MOST_MASKS:
            raise ValueError(
                f"running statistics are re-estimated under all masks at once, and {plan.samples} are more than "
                f"{MOST_MASKS}: use execution=shared"
            )
        reestimate_norms(network, map(batch, parts), plan)


def write_predictions(
    path: str | Path,
    probabilities: Float[Tensor, "images classes"],
    labels: Int[Tensor, " images"],
    names: Sequence[str],
) -> float:
    """Write class probabilities to a CSV file: a row an image, in order, with label, predicted class and all classes.

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
