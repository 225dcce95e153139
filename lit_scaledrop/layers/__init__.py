"""Binary layers, Scale-Dropout and the sampling protocol; plain PyTorch."""

from lit_scaledrop.layers.binarization import BINARIZATIONS, Binarization, follow_optimizer
from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear, binary_sign, normalize_weight
from lit_scaledrop.layers.distribution_loss import DistributionLoss, distribution_loss
from lit_scaledrop.layers.dropconnect import DropConnectConv2d, DropConnectLinear
from lit_scaledrop.layers.dropout import MCDropout, MCDropout2d
from lit_scaledrop.layers.pact import PACT, pact
from lit_scaledrop.layers.plans import draw_plan, enumerate_plan
from lit_scaledrop.layers.sampling import MaskPlan, StochasticLayer, sampling, stochastic_layers
from lit_scaledrop.layers.scale_dropout import ScaleDropout, adaptive_probability, set_adaptive_probability
from lit_scaledrop.layers.sharing import align
from lit_scaledrop.layers.spinbayes import SpinBayesConv2d, SpinBayesLinear
from lit_scaledrop.layers.spindrop import SpinDrop

__all__ = [
    "BINARIZATIONS", "EDE", "PACT", "STE", "Binarization", "BinaryConv2d", "BinaryLinear", "DistributionLoss",
    "DropConnectConv2d", "DropConnectLinear", "MCDropout", "MCDropout2d", "MaskPlan", "ScaleDropout",
    "SpinBayesConv2d", "SpinBayesLinear", "SpinDrop", "StochasticLayer", "adaptive_probability", "align",
    "binary_sign", "distribution_loss", "draw_plan", "enumerate_plan", "follow_optimizer", "normalize_weight", "pact",
    "sampling", "set_adaptive_probability", "stochastic_layers",
]  # fmt: skip
