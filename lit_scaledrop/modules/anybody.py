"""What ``fit`` needs to know of a LightningModule that is not ours; all of it has a default.

A module that logs ``val/acc`` is trained, evaluated and recorded as it is. What it may say:

``monitor``                     the logged metric of the validation split, larger is better, that chooses the checkpoint
``network``                     the network whose logits are evaluated; by default the module itself
``test_metrics(evaluation)``    metrics of its predictions; by default those of Table III, or of Table V for masks
"""

from typing import Any

import lightning as L
from torch import nn

from lit_scaledrop.methods.method import Method
from lit_scaledrop.metrics.classification import classification_metrics
from lit_scaledrop.metrics.segmentation import SegmentationMetrics
from lit_scaledrop.modules.base import LitNetwork, PredictionMetrics
from lit_scaledrop.networks.own import OWN
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


def baseline_of(module: L.LightningModule, data: Any) -> dict[str, float]:
    """What needs no network."""
    return module.baseline(data) if isinstance(module, LitNetwork) else {}
