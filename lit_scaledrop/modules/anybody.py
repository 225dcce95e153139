"""What ``fit`` needs to know about your own LightningModule; everything has a default.

A module that logs ``val/acc`` is trained, evaluated and recorded as it is. Optional attributes:

``monitor``                     the logged metric of the validation split, larger is better, that chooses the checkpoint
``network``                     the network whose logits are evaluated; by default the module itself
``test_metrics(evaluation)``    metrics of its predictions; by default those of Table III, or of Table V for masks
"""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from lit_scaledrop.methods.method import Method
from lit_scaledrop.metrics.classification import classification_metrics
from lit_scaledrop.metrics.segmentation import SegmentationMetrics
from lit_scaledrop.modules.base import LitNetwork, PredictionMetrics
from lit_scaledrop.modules.fitting import require_logits
from lit_scaledrop.modules.segmenter import LitSegmenter
from lit_scaledrop.networks import TASKS
from lit_scaledrop.networks.own import OWN, is_own
from lit_scaledrop.posterior.evaluation import Evaluation


def monitor_of(module: L.LightningModule) -> str:
    """Metric that chooses the checkpoint."""
    return getattr(module, "monitor", "val/acc")


def network_of(module: L.LightningModule) -> nn.Module:
    """What is asked for logits."""
    network = getattr(module, "network", module)
    return network if isinstance(network, nn.Module) else module


def method_of(module: L.LightningModule) -> Method:
    """Row of a table, or that there is none."""
    method = getattr(module, "method", OWN)
    return method if isinstance(method, Method) else OWN


def metrics_of(module: L.LightningModule, evaluation: Evaluation, data: Any) -> PredictionMetrics:
    """What is measured on the test set."""
    if hasattr(module, "test_metrics"):
        return module.test_metrics(evaluation)  # type: ignore[operator]
    if data.test_set[0][1].dim():
        return SegmentationMetrics(data.num_classes)
    return classification_metrics(data.num_classes, evaluation.quantile, evaluation.threshold, evaluation.interpolation)


def not_logged(module: L.LightningModule, why: str) -> str:
    """What to say of a module that does not log its monitor."""
    name = type(module).__name__
    return (
        f"{monitor_of(module)!r} selects the checkpoint, but {name} does not log it ({why}): log it in "
        f"validation_step, or name another metric, larger is better, as {name}.monitor"
    )


def require_fit(module: L.LightningModule, data: Any) -> None:
    """Refuse a network that the data do not fit, before a training finds out: of another task, or for other images.

    Args:
        module: that is to be trained.
        data: data module, set up.

    Raises:
        ValueError: naming the network, the shape of the images, and what it says.
    """
    if not is_overridden("validation_step", module):
        raise ValueError(not_logged(module, "it has no validation_step"))
    masks = data.train_set[0][1].dim() > 0
    if isinstance(module, LitNetwork) and masks != isinstance(module, LitSegmenter):
        has, does, task = (
            ("a mask", "segments", "segmentation") if masks else ("a class", "classifies", "classification")
        )
        known = ", ".join(TASKS[task].networks)
        raise ValueError(f"{data.name!r} has {has} for each image: take a network that {does}, --model.network={known}")
    network, name = network_of(module), getattr(module, "hparams", {}).get("network")
    if isinstance(module, LitNetwork) and isinstance(name, str) and not is_own(name):
        return
    shape, classes = tuple(data.train_set[0][0].shape), data.num_classes
    about = f"network {name if isinstance(name, str) else type(network).__name__!r}"
    require_logits(network, about, torch.zeros(2, *shape), repr(data.name), classes, shape[1:] if masks else ())


def baseline_of(module: L.LightningModule, data: Any) -> dict[str, float]:
    """What needs no network."""
    return module.baseline(data) if isinstance(module, LitNetwork) else {}
