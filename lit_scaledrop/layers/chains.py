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
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.binary import BinaryConv2d
from lit_scaledrop.layers.bits import Thresholds
from lit_scaledrop.layers.bitwise import filters_of, multiplies_signs, says
from lit_scaledrop.layers.stochastic import StochasticLayer, drawing_alone
from lit_scaledrop.layers.turning import RANK_OF_INFINITY, bisect, float_of
from lit_scaledrop.shapes import Bool, Float

_SIDE = 8  # thresholds are looked for on maps of this side, which the vector instructions of real ones compute


@dataclass
class Chain:
    """What stands in front of the signs of a convolution.

    Attributes:
        source: whose output it is: a binary convolution, whose sums are integers times a factor, or any module.
        between: modules, none of which mixes channels or pixels, or draws but for the first.
        consumer: the convolution that takes the signs.
        pool: what takes maxima over squares on the way, if anything does.
        before_pool: how many of ``between`` are in front of it.
        once: whether the source runs once in a pass, so that nobody else has sums of it.
    """

    source: nn.Module
    between: list[nn.Module]
    consumer: nn.Module
    pool: nn.MaxPool2d | None = None
    before_pool: int = 0
    once: bool = True
    _tables: dict[bytes, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    _made_of: list[Tensor] = field(default_factory=list)
    _settings: list[str] = field(default_factory=list)

    @property
    def random(self) -> StochasticLayer | None:
        """The first of them if it draws."""
        return self.between[0] if isinstance(self.between[0], StochasticLayer) else None

    def of_now(self) -> bool:
        """Whether numbers can still be compared in its place: statistics are kept, and signs multiplied."""
        return (
            not any(module.training for module in self.between)
            and all(map(is_channelwise, self.between))
            and multiplies_signs(self.consumer)
            # else numbers in front of the pool could be none, which maxima keep
            and all(
                bool(weight.isfinite().all())
                for module in self.between[: self.before_pool]
                for weight in module.parameters()
            )
        )

    def renew(self) -> None:
        """Forget thresholds of other weights, statistics and settings."""
        tensors = [tensor for module in self.between for tensor in module.state_dict().values()]
        settings = [module.extra_repr() for module in self.between]
        if sums_signs(self.source):
            filters = filters_of(self.source)
            tensors.append(filters.factor)
            settings.append(str(filters.shape))
        same = len(tensors) == len(self._made_of) and all(map(torch.equal, tensors, self._made_of))
        if not same or settings != self._settings:
            self._tables.clear()
            self._made_of, self._settings = [tensor.clone() for tensor in tensors], settings

    def thresholds(self, x: Tensor) -> Thresholds:
        """For sums ``x`` of some rows, by what each row has drawn."""
        self.renew()
        random = self.random
        draws = None if random is None else random.active_draws(x)
        case, tables = torch.zeros(1), []
        if random is None or draws is None:
            tables.append(self._table(None))
        else:
            _, case = torch.unique(random.effective(draws).flatten(1), dim=0, return_inverse=True)
            tables += [self._table(draws[case == number][:1]) for number in range(int(case.max()) + 1)]
        threshold, direction, falling = (torch.stack(parts) for parts in zip(*tables, strict=True))
        return Thresholds(threshold, direction, case, falling)

    def _table(self, draw: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        key = b"" if draw is None else draw.contiguous().numpy().tobytes()
        if key not in self._tables:
            if draw is None or self.random is None:
                self._tables[key] = self._search()
            else:
                with drawing_alone(self.random, draw):
                    self._tables[key] = self._search()
        return self._tables[key]

    def _search(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"], Bool[Tensor, " channels"]]:
        """Thresholds and directions by bisection over the numbers that there can be; what falls behind the pool."""
        consumer = filters_of(self.consumer)
        channels = consumer.shape[1] * consumer.groups
        number: Callable[[Tensor], Tensor]
        if sums_signs(self.source):
            filters = filters_of(self.source)
            factor, most = filters.factor, filters.shape[1] * filters.shape[2] * filters.shape[3]
            number = partial(torch.mul, factor.double())
        else:
            most, number = RANK_OF_INFINITY, float_of
        ends = torch.full((channels,), most, dtype=torch.int64)

        def positive(rank: Tensor) -> Bool[Tensor, " channels"]:
            return _positive(self.between, number(rank).float())

        at_least, at_most = positive(ends), positive(-ends)
        rising = at_least & ~at_most
        last = bisect(positive, torch.where(rising, ends, -ends), torch.where(rising, -ends, ends))
        constant = at_least == at_most
        # +1 for all numbers but the infinite ones, times which 0 is no number
        finite = constant & ~at_least & positive(torch.zeros_like(ends))
        direction = torch.where(rising | constant, 1.0, -1.0).masked_fill(finite, 0.0)
        always = torch.where(at_least, -torch.inf, torch.nan).masked_fill(finite, 0.0)
        behind, infinite = self.between[self.before_pool :], torch.full((channels,), torch.inf)
        falling = _positive(behind, -infinite) & ~_positive(behind, infinite)
        return torch.where(constant, always, number(last).float() * direction), direction, falling


def _positive(modules: list[nn.Module], x: Float[Tensor, " channels"]) -> Bool[Tensor, " channels"]:
    """Which channels are at least 0 behind these modules."""
    maps = x.view(1, -1, 1, 1).repeat(1, 1, _SIDE, _SIDE)
    for module in modules:
        maps = type(module).forward(module, maps)  # not what stands for it while it is left out
    return maps[0, :, 0, 0] >= 0


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
    if isinstance(module, nn.BatchNorm2d):
        return type(module) is nn.BatchNorm2d and module.running_mean is not None  # else it looks at all pixels
    if not says(module, "channelwise"):
        return False
    # a draw of more than a bit for the whole layer has more than two tables
    return not isinstance(module, StochasticLayer) or module.uniform_shape == (1, 1)


def sums_signs(module: nn.Module) -> bool:
    """Whether it is a convolution of signs and nothing more."""
    return type(module).forward is BinaryConv2d.forward and multiplies_signs(module)
