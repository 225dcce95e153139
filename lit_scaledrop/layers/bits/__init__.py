"""Products of signs on packed words: XOR and popcount in C, compiled when first used."""

from lit_scaledrop.layers.bits.build import LEVELS, best_level
from lit_scaledrop.layers.bits.convolution import Filters, Packed, Shape, Thresholds, available, conv2d, multiply, pack

__all__ = [
    "LEVELS",
    "Filters",
    "Packed",
    "Shape",
    "Thresholds",
    "available",
    "best_level",
    "conv2d",
    "multiply",
    "pack",
]
