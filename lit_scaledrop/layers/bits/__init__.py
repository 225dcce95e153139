"""Products of signs on packed words: XOR and popcount in C, compiled when first used."""

from lit_scaledrop.layers.bits.build import LEVELS, best_level
from lit_scaledrop.layers.bits.convolution import Filters, Packed, Shape, Thresholds, available, conv2d, multiply, pack
from lit_scaledrop.layers.bits.finishing import STAGES, Stage, add_squares, finish, norm_is_fused, stage_of_norm
from lit_scaledrop.layers.bits.sums import Sums, can_be_compared, compare

__all__ = [
    "LEVELS",
    "STAGES",
    "Filters",
    "Packed",
    "Shape",
    "Stage",
    "Sums",
    "Thresholds",
    "add_squares",
    "available",
    "best_level",
    "can_be_compared",
    "compare",
    "conv2d",
    "finish",
    "multiply",
    "norm_is_fused",
    "pack",
    "stage_of_norm",
]
