"""How a method uses Scale-Dropout."""

from dataclasses import dataclass
from typing import Literal

from lit_scaledrop.layers.scale_dropout import DropValue, Mask, MaskPer, check_probability

Placement = Literal["before_norm", "after_norm"]


@dataclass(frozen=True)
class ScaleOptions:
    """How Scale-Dropout is used in a network."""

    p: float | Literal["adaptive"] = "adaptive"
    """drop probability of every layer, or "adaptive": from the layer's size"""
    drop_value: DropValue = "unitary"
    """what a dropped scale becomes"""
    mask: Mask = "vector"
    """one bit a layer, or one a channel"""
    mask_per: MaskPer = "sample"
    """one draw for each example of a training batch, or one for the batch"""
    placement: Placement = "before_norm"
    """the scale before or after BatchNorm"""

    def __post_init__(self) -> None:
        if self.p != "adaptive":
            check_probability(self.p, "p (drop probability)")
