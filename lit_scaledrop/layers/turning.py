"""Where a condition that is monotonic in a number turns: the very number, of all integers or of all float32."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_scaledrop.shapes import Bool, Float, Int

RANK_OF_INFINITY = 0x7F800000
"""whole numbers from its negative to it count all floats in their order; 0 is the zero between the two signs"""


def float_of(rank: Int[Tensor, " numbers"]) -> Float[Tensor, " numbers"]:
    """The float32 of a rank.

    >>> float_of(torch.tensor([-RANK_OF_INFINITY, 0, 1])).tolist()
    [-inf, 0.0, 1.401298464324817e-45]
    """
    bits = torch.where(rank >= 0, rank, (-rank) | (1 << 31))
    return (bits - ((bits >> 31) << 32)).int().view(torch.float32)


def bisect(
    condition: Callable[[Int[Tensor, "*numbers"]], Bool[Tensor, "*numbers"]],
    true: Int[Tensor, "*numbers"],
    false: Int[Tensor, "*numbers"],
) -> Int[Tensor, "*numbers"]:
    """The last of the whole numbers from ``true`` towards ``false`` for which a condition holds, for many at once.

    >>> bisect(lambda n: n * n < 50, torch.tensor([0, 0]), torch.tensor([100, -100]))
    tensor([ 7, -7])
    """
    while bool(((true - false).abs() > 1).any()):
        middle = torch.div(true + false, 2, rounding_mode="floor")
        found = condition(middle)
        true, false = torch.where(found, middle, true), torch.where(found, false, middle)
    return true
