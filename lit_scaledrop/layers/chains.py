r"""Chains that lead to a binary convolution, in which only signs count: a comparison for each channel.

Between the sums of one convolution and the signs of the next stand Scale-Dropout, BatchNorm and a clip. Each of them is
monotonic in every channel, as computed, rounding and all; so is their chain, and whether its value is at least 0
depends on one threshold of the sum. It is found by bisection, with the modules themselves. A random bit then chooses
between two tables of thresholds, one for a scale that is kept and one for a scale that is dropped, and between the two
convolutions a tensor exists as sums and as bits, not as what lies between (FINN, arXiv:1612.07119, has this without the
bit and in real numbers).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.binary import BinaryConv2d
from lit_scaledrop.layers.bits import Packed, Thresholds, multiply, pack
from lit_scaledrop.layers.bitwise import channels_last, filters_of, multiplies_signs, says, shape_of, watched
from lit_scaledrop.layers.probing import evaluating, hooked
from lit_scaledrop.layers.stochastic import StochasticLayer, drawing_alone
from lit_scaledrop.shapes import Bool, Float

_RANK_OF_INFINITY = 0x7F800000
_SIDE = 8  # thresholds are looked for on maps of this side, which the vector instructions of real ones compute


@dataclass
class Chain:
    """What stands in front of the signs of a convolution.

    Attributes:
        source: whose output it is, or the maxima of: a binary convolution, whose sums are integers times a factor, or
            any module.
        between: modules, none of which mixes channels or pixels, or draws but for the first.
        consumer: the convolution that takes the signs.
    """

    source: nn.Module
    between: list[nn.Module]
    consumer: nn.Module
    _tables: dict[bytes, tuple[Tensor, Tensor]] = field(default_factory=dict)
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
            and all(map(_is_channelwise, self.between))
            and multiplies_signs(self.consumer)
        )

    def renew(self) -> None:
        """Forget thresholds of other weights, statistics and settings."""
        tensors = [tensor for module in self.between for tensor in module.state_dict().values()]
        settings = [module.extra_repr() for module in self.between]
        if _sums_signs(self.source):
            filters = filters_of(self.source)
            tensors.append(torch.from_numpy(filters.factor))
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
        threshold, direction = (torch.stack(parts) for parts in zip(*tables, strict=True))
        return Thresholds(threshold, direction, case)

    def _table(self, draw: Tensor | None) -> tuple[Tensor, Tensor]:
        key = b"" if draw is None else draw.contiguous().numpy().tobytes()
        if key not in self._tables:
            if draw is None or self.random is None:
                self._tables[key] = self._search()
            else:
                with drawing_alone(self.random, draw):
                    self._tables[key] = self._search()
        return self._tables[key]

    def _search(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Thresholds and directions by bisection over the numbers that there can be."""
        consumer = filters_of(self.consumer)
        channels = consumer.shape[1] * consumer.groups
        number: Callable[[Tensor], Tensor]
        if _sums_signs(self.source):
            filters = filters_of(self.source)
            factor, most = torch.from_numpy(filters.factor), filters.shape[1] * filters.shape[2] * filters.shape[3]
            number = partial(torch.mul, factor.double())
        else:
            most, number = _RANK_OF_INFINITY, _float_of
        ends = torch.full((channels,), most, dtype=torch.int64)

        def positive(rank: Tensor) -> Bool[Tensor, " channels"]:
            x = number(rank).float().view(1, -1, 1, 1).repeat(1, 1, _SIDE, _SIDE)
            for module in self.between:
                x = type(module).forward(module, x)  # not what stands for it while it is left out
            return x[0, :, 0, 0] >= 0

        at_least, at_most = positive(ends), positive(-ends)
        rising = at_least & ~at_most
        # of the true end, and of the false one, which come together
        true, false = torch.where(rising, ends, -ends), torch.where(rising, -ends, ends)
        while bool(((true - false).abs() > 1).any()):
            middle = torch.div(true + false, 2, rounding_mode="floor")
            found = positive(middle)
            true, false = torch.where(found, middle, true), torch.where(found, false, middle)
        constant = at_least == at_most
        # +1 for all numbers but the infinite ones, times which 0 is no number
        finite = constant & ~at_least & positive(torch.zeros_like(ends))
        direction = torch.where(rising | constant, 1.0, -1.0).masked_fill(finite, 0.0)
        always = torch.where(at_least, -torch.inf, torch.nan).masked_fill(finite, 0.0)
        return torch.where(constant, always, number(true).float() * direction), direction


def find_chains(network: nn.Module, x: Float[Tensor, "1 ..."]) -> list[Chain]:
    """The chains of a network, by a look at one deterministic pass; nothing in it changes.

    Args:
        network: any; one with compiled or scripted modules has none. Hooks that watch it see the pass.
        x: one input.
    """
    if any(
        isinstance(module, torch.jit.ScriptModule)
        or module._compiled_call_impl is not None
        or hasattr(module, "_orig_mod")
        for module in network.modules()
    ):
        return []
    seen = _look(network, x)
    chains = []
    for source, output in seen.outputs.items():
        if output.dim() != 4 or output.dtype != torch.float32 or channels_last(output):
            continue
        between: list[nn.Module] = []
        module = seen.only_user(output)
        if type(module) is nn.MaxPool2d and _sums_signs(source):
            module = seen.only_user(seen.outputs[module])
        # a layer that draws begins one: it has a draw for each row, and whoever runs it may bring the rows
        while module is not None and _is_channelwise(module) and not (between and isinstance(module, StochasticLayer)):
            between.append(module)
            module = seen.only_user(seen.outputs[module])
        if module is None or not _sums_signs(module) or seen.outputs[module].dtype != torch.float32:
            continue
        if between:
            chains.append(Chain(source, between, module))
    # of those that end alike the longest, and rather one of integers than one of their maxima
    chains.sort(key=lambda chain: (len(chain.between), _sums_signs(chain.source)))
    return list({chain.consumer: chain for chain in chains}.values())


@contextmanager
def compared(network: nn.Module, chains: Sequence[Chain]) -> Iterator[None]:
    """Let comparisons stand for these chains of a network in the block, in which no weight may change.

    Pooling with squares side by side is computed as vectors: PyTorch takes ten times as long on a CPU.
    """
    if not chains or watched(network):
        yield
        return
    left_out: list[nn.Module] = []

    def replace(module: nn.Module, forward: Any) -> None:
        module.forward = forward
        left_out.append(module)

    try:
        for module in network.modules():
            if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and (size := _side_by_side(module)):
                replace(module, partial(pooled, isinstance(module, nn.MaxPool2d), size))
        for chain in chains:
            if not chain.of_now():
                continue
            replace(chain.between[0], _Comparing(chain))
            for module in chain.between[1:]:
                replace(module, _Passing(module))
            replace(chain.consumer, _Multiplying(chain.consumer))
        yield
    finally:
        for module in left_out:
            module.__dict__.pop("forward", None)


@dataclass
class _Passing:
    """What stands for a module behind a comparison; sums that went another way are computed."""

    module: nn.Module

    def __call__(self, x: Tensor | Packed) -> Tensor | Packed:
        return x if isinstance(x, Packed) else type(self.module).forward(self.module, x)


@dataclass
class _Comparing:
    """What stands for a chain: sums to bits."""

    chain: Chain

    def __call__(self, x: Tensor) -> Packed:
        filters = filters_of(self.chain.consumer)
        return pack(x, filters, shape_of(self.chain.consumer), self.chain.thresholds(x))


@dataclass
class _Multiplying:
    """What stands for a convolution: bits to sums; other numbers it convolves."""

    layer: nn.Module

    def __call__(self, x: Tensor | Packed) -> Tensor:
        return multiply(x, filters_of(self.layer)) if isinstance(x, Packed) else type(self.layer).forward(self.layer, x)


def _side_by_side(pool: nn.MaxPool2d | nn.AvgPool2d) -> int | None:
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


def pooled(largest: bool, size: int, x: Float[Tensor, "rows channels height width"]) -> Tensor:
    """Largest or mean number of each square, as ``MaxPool2d(size)`` and ``AvgPool2d(size)`` have them, bit for bit.

    >>> x = torch.randn(2, 3, 7, 9)
    >>> torch.equal(pooled(True, 2, x), nn.MaxPool2d(2)(x)), torch.equal(pooled(False, 3, x), nn.AvgPool2d(3)(x))
    (True, True)
    """
    high, wide = (side // size * size for side in x.shape[2:])
    rows = x[:, :, :high, :wide].unflatten(2, (-1, size))
    if largest:
        rows = reduce(torch.maximum, rows.unbind(3))[..., None, :]
    squares = [row[..., place::size] for row in rows.unbind(3) for place in range(size)]
    return reduce(torch.maximum, squares) if largest else reduce(torch.add, squares) / size**2


def _float_of(rank: Tensor) -> Float[Tensor, " ranks"]:
    """The float32 of a rank: whole numbers count the floats in their order, 0 is the 0 between the two signs."""
    bits = torch.where(rank >= 0, rank, (-rank) | (1 << 31))
    return (bits - ((bits >> 31) << 32)).int().view(torch.float32)


def _is_channelwise(module: nn.Module) -> bool:
    """Whether it is monotonic in each channel and looks at one pixel at a time."""
    if isinstance(module, nn.Hardtanh):
        return type(module) in (nn.Hardtanh, Clip) and bool(module.min_val < 0 <= module.max_val)
    if isinstance(module, nn.BatchNorm2d):
        return type(module) is nn.BatchNorm2d and module.running_mean is not None  # else it looks at all pixels
    if not says(module, "channelwise"):
        return False
    # a draw of more than a bit for the whole layer has more than two tables
    return not isinstance(module, StochasticLayer) or module.uniform_shape == (1, 1)


def _sums_signs(module: nn.Module) -> bool:
    """Whether it is a convolution of signs and nothing more."""
    return type(module).forward is BinaryConv2d.forward and multiplies_signs(module)


class _Seen(TorchFunctionMode):
    """Which module gives a tensor, and who uses it: modules that hold no others, and functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[nn.Module, Tensor] = {}
        self.users: dict[int, list[nn.Module]] = {}
        self.other_uses: set[int] = set()
        self.calls: Counter[nn.Module] = Counter()
        self.inside = 0
        self.alive: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what functions between the modules use."""
        if not self.inside:
            leaves = pytree.tree_leaves((args, kwargs))
            self.other_uses.update(id(leaf) for leaf in leaves if isinstance(leaf, Tensor))
            self.alive.append(leaves)
        return func(*args, **(kwargs or {}))

    def enter(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A unit begins."""
        if not self.inside:
            self.alive.append((inputs, named))
            for tensor in inputs:
                self.users.setdefault(id(tensor), []).append(module)
            within = pytree.tree_leaves(([part for part in inputs if not isinstance(part, Tensor)], named))
            self.other_uses.update(id(leaf) for leaf in within if isinstance(leaf, Tensor))
        self.inside += 1

    def leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        """A unit ends."""
        self.inside -= 1
        if not self.inside:
            self.calls[module] += 1
            self.alive.append(output)
            if isinstance(output, Tensor):
                self.outputs[module] = output

    def only_user(self, tensor: Tensor) -> nn.Module | None:
        """The module that takes a tensor, if nobody else does and it runs once."""
        users = self.users.get(id(tensor), [])
        if len(users) != 1 or id(tensor) in self.other_uses or self.calls[users[0]] != 1:
            return None
        return users[0] if users[0] in self.outputs else None


def _look(network: nn.Module, x: Tensor) -> _Seen:
    seen = _Seen()
    hooks = []
    for module in network.modules():
        unit = hasattr(module, "packable") or not any(module.children())
        if unit and type(module) is not nn.Identity:  # which gives its very input
            hooks.append(module.register_forward_pre_hook(seen.enter, with_kwargs=True))
            hooks.append(module.register_forward_hook(seen.leave))
    with hooked(*hooks), evaluating(network), torch.no_grad(), seen:
        output = network(x)
    kept = [vars(module) for module in network.modules()]  # what forward has put there, for others to see
    seen.other_uses.update(id(leaf) for leaf in pytree.tree_leaves((output, kept)))
    return seen
