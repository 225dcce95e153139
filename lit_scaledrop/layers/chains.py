r"""Chains that lead to a binary convolution, in which only signs count: a comparison for each channel.

Between the sums of one convolution and the signs of the next stand Scale-Dropout, BatchNorm and a clip. Each of them is
monotonic in every channel, as computed, rounding and all; so is their chain, and whether its value is at least 0
depends on one threshold of the sum. It is found by bisection, with the modules themselves. A random bit then chooses
between two tables of thresholds, one for a scale that is kept and one for a scale that is dropped, and between the two
convolutions no number is written to memory, only bits (FINN, arXiv:1612.07119, has this without the random bit and in
real numbers). The maximum of a square, where there is pooling on the way, has the sign +1 where any of its numbers has
it or, where what is behind the pool falls, where all of them have it.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear
from lit_scaledrop.layers.bits import Thresholds
from lit_scaledrop.layers.bitwise import filters_of, multiplies_signs, says
from lit_scaledrop.layers.stochastic import StochasticLayer, drawing_alone
from lit_scaledrop.layers.turning import RANK_OF_INFINITY, bisect, float_of
from lit_scaledrop.shapes import Bool, Float

_SIDE = 8  # thresholds are looked for on maps of this side, which the vector instructions of real ones compute


@dataclass(eq=False)
class Chain:
    """What stands in front of the signs of a convolution.

    Attributes:
        source: whose output it is: a binary convolution, whose sums are integers times a factor, or anything else.
        between: modules, none of which mixes channels or pixels; one of them may draw.
        channels: that pass through it.
        before_pool: how many of ``between`` are in front of a pool that takes maxima over squares on the way; ``None``
            where there is none.
        flat: whether channels are features, without pixels.
    """

    source: nn.Module | None
    between: list[nn.Module]
    channels: int
    before_pool: int | None = None
    flat: bool = False

    @property
    def random(self) -> StochasticLayer | None:
        """The one of them that draws."""
        return next((module for module in self.between if isinstance(module, StochasticLayer)), None)

    def thresholds(self, draw: Tensor | None) -> Thresholds:
        """For a draw of its random layer, or for none; of one case."""
        with nullcontext() if self.random is None else drawing_alone(self.random, draw):
            threshold, direction, falling = self._search()
        return Thresholds(threshold[None], direction[None], falling[None])

    def _search(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"], Bool[Tensor, " channels"]]:
        """Thresholds and directions by bisection over the numbers that there can be; what falls behind the pool."""
        channels = self.channels
        number: Callable[[Tensor], Tensor]
        if self.source is not None and sums_signs(self.source):
            filters = filters_of(self.source)
            factor, most = filters.factor, filters.shape[1] * filters.shape[2] * filters.shape[3]
            number = partial(torch.mul, factor.double())
        else:
            most, number = RANK_OF_INFINITY, float_of
        ends = torch.full((channels,), most, dtype=torch.int64)

        def positive(rank: Tensor) -> Bool[Tensor, " channels"]:
            return self._positive(self.between, number(rank).float())

        at_least, at_most = positive(ends), positive(-ends)
        rising = at_least & ~at_most
        last = bisect(positive, torch.where(rising, ends, -ends), torch.where(rising, -ends, ends))
        constant = at_least == at_most
        # +1 for all numbers but the infinite ones, times which 0 is no number
        finite = constant & ~at_least & positive(torch.zeros_like(ends))
        direction = torch.where(rising | constant, 1.0, -1.0).masked_fill(finite, 0.0)
        always = torch.where(at_least, -torch.inf, torch.nan).masked_fill(finite, 0.0)
        behind, infinite = self.between[self.before_pool or 0 :], torch.full((channels,), torch.inf)
        falling = self._positive(behind, -infinite) & ~self._positive(behind, infinite)
        return torch.where(constant, always, number(last).float() * direction), direction, falling

    def _positive(self, modules: list[nn.Module], x: Float[Tensor, " channels"]) -> Bool[Tensor, " channels"]:
        """Which channels are at least 0 behind these modules."""
        maps = x.repeat(_SIDE, 1) if self.flat else x.view(1, -1, 1, 1).repeat(1, 1, _SIDE, _SIDE)
        for module in modules:
            maps = type(module).forward(module, maps)
        return maps[0].view(len(x), -1)[:, 0] >= 0


def side_by_side(pool: nn.MaxPool2d | nn.AvgPool2d) -> int | None:
    """Side of its windows if they are squares without gap, overlap or border."""
    size = pool.kernel_size
    if isinstance(pool, nn.MaxPool2d):
        plain = pool.dilation == 1 and not pool.return_indices
    else:
        plain = pool.divisor_override is None
    if type(pool) not in (nn.MaxPool2d, nn.AvgPool2d) or not isinstance(size, int):
        return None
    if pool.stride != size or pool.padding or pool.ceil_mode or not plain:
        return None
    return size


def is_channelwise(module: nn.Module) -> bool:
    """Whether it is monotonic in each channel and looks at one pixel at a time."""
    if isinstance(module, nn.Hardtanh):
        return type(module) in (nn.Hardtanh, Clip) and bool(module.min_val < 0 <= module.max_val)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        # else it looks at all pixels
        return type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) and module.running_mean is not None
    if not says(module, "channelwise"):
        return False
    # a draw of more than a bit for the whole layer has more than two tables
    return not isinstance(module, StochasticLayer) or module.uniform_shape == (1, 1)


def sums_signs(module: nn.Module) -> bool:
    """Whether it is a convolution or a linear layer of signs and nothing more."""
    return type(module).forward in (BinaryConv2d.forward, BinaryLinear.forward) and multiplies_signs(module)
