"""Scale-Dropout for binary Bayesian neural networks, on PyTorch Lightning.

The names below are imported when they are first used, so that ``scaledrop --help`` and the report need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lit_scaledrop.layers import BinaryConv2d, BinaryLinear, ScaleDropout, align, sampling
    from lit_scaledrop.methods.classification import METHODS
    from lit_scaledrop.methods.method import Method
    from lit_scaledrop.modules.classifier import LitClassifier
    from lit_scaledrop.modules.segmenter import LitSegmenter
    from lit_scaledrop.networks import NETWORKS, build_network
    from lit_scaledrop.networks.convert import Conversion, convert
    from lit_scaledrop.posterior import draw_plan
    from lit_scaledrop.posterior.posterior import PosteriorPredictive
    from lit_scaledrop.posterior.predictive import Predictive

_HOME = {
    "BinaryConv2d": "layers",
    "BinaryLinear": "layers",
    "ScaleDropout": "layers",
    "align": "layers",
    "draw_plan": "posterior",
    "sampling": "layers",
    "Conversion": "networks.convert",
    "convert": "networks.convert",
    "METHODS": "methods",
    "Method": "methods",
    "LitClassifier": "modules",
    "LitSegmenter": "modules",
    "NETWORKS": "networks",
    "build_network": "networks",
    "PosteriorPredictive": "posterior",
    "Predictive": "posterior",
}

__all__ = [
    "METHODS",
    "NETWORKS",
    "BinaryConv2d",
    "BinaryLinear",
    "Conversion",
    "LitClassifier",
    "LitSegmenter",
    "Method",
    "PosteriorPredictive",
    "Predictive",
    "ScaleDropout",
    "align",
    "build_network",
    "convert",
    "draw_plan",
    "sampling",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lit_scaledrop' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lit_scaledrop.{_HOME[name]}"), name)
