"""Products of signs on packed words: XOR and popcount in C, compiled when first used."""

from lit_scaledrop.layers.bits.build import LEVELS, available, best_level
from lit_scaledrop.layers.bits.convolution import Thresholds, at_least_zero, bits, conv2d, in_lanes, pack, sums
from lit_scaledrop.layers.bits.digest import Digest
from lit_scaledrop.layers.bits.filters import Filters, Geometry, Shape
from lit_scaledrop.layers.bits.finishing import (
    STAGES,
    Stage,
    finish,
    norm_is_fused,
    pool,
    scaled,
    stage_of_norm,
    subsample,
)
from lit_scaledrop.layers.bits.operation import Cases, Groups, Maps, Operation
from lit_scaledrop.layers.bits.routine import Routine

__all__ = [
    "LEVELS",
    "STAGES",
    "Cases",
    "Digest",
    "Filters",
    "Geometry",
    "Groups",
    "Maps",
    "Operation",
    "Routine",
    "Shape",
    "Stage",
    "Thresholds",
    "at_least_zero",
    "available",
    "best_level",
    "bits",
    "conv2d",
    "finish",
    "in_lanes",
    "norm_is_fused",
    "pack",
    "pool",
    "scaled",
    "stage_of_norm",
    "subsample",
    "sums",
]
