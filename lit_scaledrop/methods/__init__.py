"""Methods, the rows of the tables, by name."""

from lit_scaledrop.layers.scale_dropout import Placement
from lit_scaledrop.methods.classification import METHODS, get_method
from lit_scaledrop.methods.method import Estimator, Method, Shortcut, check_method
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS, get_segmentation_method

__all__ = [
    "METHODS",
    "SEGMENTATION_METHODS",
    "Estimator",
    "Method",
    "Placement",
    "Shortcut",
    "check_method",
    "get_method",
    "get_segmentation_method",
]
