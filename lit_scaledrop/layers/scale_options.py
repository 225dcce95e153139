"""How a method uses Scale-Dropout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lit_scaledrop.layers.scale_dropout import ADAPTIVE, DropValue, Mask, MaskPer, SizeClasses, check_probability

Placement = Literal["before_norm", "after_norm"]


@dataclass(frozen=True)
class ScaleOptions:
    """How Scale-Dropout is used in a network."""

    p: float | Sequence[float] | Literal["adaptive"] = "adaptive"
    """drop probability of every layer; of small, middle and large layers; or "adaptive", .1, .2 and .5 of these"""
    drop_value: DropValue = "unitary"
    """what a dropped scale becomes"""
    mask: Mask = "vector"
    """one bit a layer, or one a channel"""
    mask_per: MaskPer = "sample"
    """one draw for each example of a training batch, or one for the batch"""
    placement: Placement = "before_norm"
    """the scale before or after BatchNorm"""
    bias: bool = False
    """a bias that is dropped together with the scale"""
    start: tuple[float, float] = (0.0, 0.0)
    """how far from one the scales start, and from zero the biases"""

    def __post_init__(self) -> None:
        if isinstance(self.p, int | float):
            object.__setattr__(self, "p", check_probability(self.p, "p (drop probability)"))
        elif not isinstance(self.p, str):
            object.__setattr__(self, "p", tuple(check_probability(p, "p (of a size class)") for p in self.p))
            if len(self.p) != 3:
                raise ValueError(f"p has one value for all layers, or three for small, middle and large: not {self.p}")

    @property
    def by_size(self) -> SizeClasses | None:
        """Drop probabilities of small, middle and large layers; ``None`` where all have the same."""
        if isinstance(self.p, float):
            return None
        return ADAPTIVE if self.p == "adaptive" else self.p  # type: ignore[return-value]
