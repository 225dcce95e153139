"""Binary layers, Scale-Dropout and the sampling protocol; plain PyTorch."""

from lit_scaledrop.layers.activations import PACT, DistributionLoss, distribution_loss, pact
from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear, binary_sign, normalize_weight
from lit_scaledrop.layers.dropout import MCDropout, MCDropout2d, SpinDrop
from lit_scaledrop.layers.ensemble_norm import EnsembleNorm, ensemble_norms
from lit_scaledrop.layers.prefix import align
from lit_scaledrop.layers.quantizers import BINARIZATIONS, Binarization, follow_optimizer
from lit_scaledrop.layers.scale_dropout import ScaleDropout, adaptive_probability, set_adaptive_probability
from lit_scaledrop.layers.stochastic import MaskPlan, StochasticLayer, sampling, stochastic_layers
from lit_scaledrop.layers.weight_sampling import DropConnectConv2d, DropConnectLinear, SpinBayesConv2d, SpinBayesLinear

__all__ = [
    "BINARIZATIONS", "EDE", "PACT", "STE", "Binarization", "BinaryConv2d", "BinaryLinear", "DistributionLoss",
    "DropConnectConv2d", "DropConnectLinear", "EnsembleNorm", "MCDropout", "MCDropout2d", "MaskPlan", "ScaleDropout",
    "SpinBayesConv2d", "SpinBayesLinear", "SpinDrop", "StochasticLayer", "adaptive_probability", "align",
    "binary_sign", "distribution_loss", "ensemble_norms", "follow_optimizer", "normalize_weight", "pact",
    "sampling", "set_adaptive_probability", "stochastic_layers",
]  # fmt: skip
