"""Description of a layer for the hardware model, derived from torch's convolutions and matrix products."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerShape:
    """One convolution or linear layer, for one image."""

    name: str
    rows: int
    """inputs that one output sums over: in_channels / groups * kernel area"""
    columns: int
    """output channels or features"""
    positions: int
    """output pixels (1 for a linear layer)"""
    binary: bool
    """1-bit weights, so that a crossbar holds it"""
    inputs: int
    """numbers that come in"""
    kernel_area: int = 1
    """elements of a kernel (1 for a linear layer)"""
    groups: int = 1
    """blocks of channels that see nothing of each other"""
    input_bits: int = 1
    """bits of an input of a binary layer"""
    output_bits: int = 1
    """bits of an output behind its activation, as the next binary layer takes it"""
    additions: int = 0
    """numbers of a skip connection that are added behind it"""
    skip_of: str = ""
    """layer of which those are all the outputs, if they are one's and no sum"""
    joined: int = 0
    """numbers of earlier layers that are concatenated with its outputs"""
    places: int = 0
    """places of maxima that an unpooling behind it puts values back to"""
    front: str = ""
    """module in front of the product (or the layer itself) that draws at random"""
    behind: str = ""
    """module behind it that draws at random"""
    scaled: bool = False
    """outputs are multiplied by a scale vector"""
    biased: bool = False
    """a bias is added with the scale"""
    norm_sets: int = 1
    """sets of the normalization behind it, of which a pass uses one"""
    to_skip: int = 0
    """numbers of it that are added to a skip"""
    to_real: int = 0
    """numbers of it that a layer with real inputs gets, or that leave the network"""
    front_bits: int = 0
    """random bits of ``front`` a pass"""
    behind_bits: int = 0
    """random bits of ``behind`` a pass"""

    @property
    def weights(self) -> int:
        """Weights of the layer, without bias."""
        return self.rows * self.columns

    @property
    def mac(self) -> int:
        """Multiply-accumulates of one pass over one image."""
        return self.positions * self.weights

    @property
    def outputs(self) -> int:
        """Numbers that go out."""
        return self.positions * self.columns

    @property
    def in_channels(self) -> int:
        """Input channels or features."""
        return self.rows // self.kernel_area * self.groups

    @property
    def random_bits(self) -> int:
        """Random bits a pass, in front and behind."""
        return self.front_bits + self.behind_bits


def convolution(name: str, image: Tensor, output: Tensor, weight: Tensor, transposed: bool, groups: int) -> LayerShape:
    """A convolution of one image in full precision."""
    area = weight[0, 0].numel()
    return LayerShape(
        name,
        rows=weight.shape[0] // groups if transposed else weight[0].numel(),
        columns=weight.shape[1] * groups * area if transposed else weight.shape[0],
        positions=image[0, 0].numel() if transposed else output[0, 0].numel(),
        binary=False,
        inputs=image[0].numel(),
        kernel_area=1 if transposed else area,
        groups=groups,
    )


def product(name: str, one: Tensor, other: Tensor, weights_behind: bool) -> LayerShape:
    """``one @ other`` for one image, of which one is weights; of a batch of matrices each is a layer for itself."""
    groups = math.prod(one.shape[:-2])
    return LayerShape(
        name,
        rows=one.shape[-1],
        columns=groups * (other.shape[-1] if weights_behind else one.shape[-2]),
        positions=one.shape[-2] if weights_behind else other.shape[-1],
        binary=False,
        inputs=(one if weights_behind else other).numel(),
        groups=groups,
    )


def factors_of(func: Any, args: Any) -> tuple[Tensor, Tensor] | None:
    """The matrices, or batches of matrices, that an operation multiplies."""
    aten = torch.ops.aten
    if func in (aten.mm.default, aten.bmm.default):
        return args[0], args[1]
    if func in (aten.addmm.default, aten.baddbmm.default):
        return args[1], args[2]
    return None
