"""Binary layers, Scale-Dropout and the sampling protocol; plain PyTorch."""

from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear, binary_sign, normalize_weight
from lit_scaledrop.layers.dropout import MCDropout
from lit_scaledrop.layers.plans import draw_plan, enumerate_plan
from lit_scaledrop.layers.sampling import MaskPlan, StochasticLayer, sampling, stochastic_layers
from lit_scaledrop.layers.scale_dropout import ScaleDropout, adaptive_probability, set_adaptive_probability
from lit_scaledrop.layers.sharing import align

__all__ = [
    "EDE", "STE", "BinaryConv2d", "BinaryLinear", "MCDropout", "MaskPlan", "ScaleDropout", "StochasticLayer",
    "adaptive_probability", "align", "binary_sign", "draw_plan", "enumerate_plan", "normalize_weight", "sampling",
    "set_adaptive_probability", "stochastic_layers",
]  # fmt: skip
