"""Products of signs on packed words: XOR and popcount in C, compiled when first used."""

from lit_scaledrop.bits.build import LEVELS, best_level
from lit_scaledrop.bits.convolution import Filters, available, conv2d

__all__ = ["LEVELS", "Filters", "available", "best_level", "conv2d"]
