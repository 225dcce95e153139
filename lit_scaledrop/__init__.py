"""Scale-Dropout for binary Bayesian neural networks, on PyTorch Lightning.

The names below are imported when they are first used, so that ``scaledrop --help`` and the report need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lit_scaledrop.deploy import from_pretrained as from_pretrained
    from lit_scaledrop.evaluation.comparison import Comparison as Comparison
    from lit_scaledrop.evaluation.comparison import compare as compare
    from lit_scaledrop.layers import STE as STE
    from lit_scaledrop.layers import BinaryConv2d as BinaryConv2d
    from lit_scaledrop.layers import BinaryLinear as BinaryLinear
    from lit_scaledrop.layers import ScaleDropout as ScaleDropout
    from lit_scaledrop.layers import align as align
    from lit_scaledrop.layers import sampling as sampling
    from lit_scaledrop.methods import METHODS as METHODS
    from lit_scaledrop.methods import Method as Method
    from lit_scaledrop.modules import LitClassifier as LitClassifier
    from lit_scaledrop.modules import LitSegmenter as LitSegmenter
    from lit_scaledrop.networks import NETWORKS as NETWORKS
    from lit_scaledrop.networks import build_network as build_network
    from lit_scaledrop.networks.convert import Conversion as Conversion
    from lit_scaledrop.networks.convert import convert as convert
    from lit_scaledrop.posterior import PosteriorPredictive as PosteriorPredictive
    from lit_scaledrop.posterior import Predictive as Predictive
    from lit_scaledrop.posterior import draw_plan as draw_plan

_NAMES = {
    "deploy": ("from_pretrained",),
    "evaluation.comparison": ("Comparison", "compare"),
    "layers": ("STE", "BinaryConv2d", "BinaryLinear", "ScaleDropout", "align", "sampling"),
    "methods": ("METHODS", "Method"),
    "modules": ("LitClassifier", "LitSegmenter"),
    "networks": ("NETWORKS", "build_network"),
    "networks.convert": ("Conversion", "convert"),
    "posterior": ("PosteriorPredictive", "Predictive", "draw_plan"),
}
_HOME = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lit_scaledrop' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lit_scaledrop.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
