"""Comparisons in the place of chains while a network runs: its modules' ``forward`` is replaced, and put back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.bits import Packed, Sums, add_squares, available, can_be_compared, compare, multiply, pack
from lit_scaledrop.layers.bitwise import filters_of, plain, shape_of, watched
from lit_scaledrop.layers.chains import Chain, side_by_side, sums_signs
from lit_scaledrop.layers.probing import modules_of
from lit_scaledrop.layers.unfinished import PuttingOff, Unfinished, can_be_put_off, putting_off


@contextmanager
def compared(network: nn.Module, chains: Sequence[Chain]) -> Iterator[None]:
    """Let comparisons stand for these chains of a network in the block, in which no weight may change.

    Scales and BatchNorms elsewhere are computed with what follows them. Pooling with squares side by side is computed
    as vectors: PyTorch takes ten times as long on a CPU.
    """
    if watched(network):
        yield
        return
    stand_ins: dict[nn.Module, Any] = {}
    now = [chain for chain in chains if chain.of_now()]
    for chain in now:
        stand_ins |= {module: _Passing(module) for module in chain.between}
        stand_ins |= {chain.between[0]: _Comparing(chain), chain.consumer: _Multiplying(chain.consumer)}
    for chain in now:
        if _can_wait(chain):
            stand_ins[chain.source] = _Multiplying(chain.source, waits=True)
    for module in modules_of(network):
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and (size := side_by_side(module)):
            stand_ins[module] = partial(pooled, isinstance(module, nn.MaxPool2d), size)
        elif module not in stand_ins and can_be_put_off(module):
            stand_ins[module] = PuttingOff(module)
    token = putting_off.set(True)
    try:
        for module, stand_in in stand_ins.items():
            module.forward = stand_in
        yield
    finally:
        putting_off.reset(token)
        for module in stand_ins:
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

    def __call__(self, x: Tensor | Sums) -> Tensor | Packed:
        chain = self.chain
        filters, shape = filters_of(chain.consumer), shape_of(chain.consumer)
        if isinstance(x, Sums):
            sums = x if chain.pool is None else x.pooled(side_by_side(chain.pool) or 1)
            return compare(sums, filters, shape, chain.thresholds(torch.empty(len(x), 0)))
        if chain.before_pool:
            return type(chain.between[0]).forward(chain.between[0], x)
        return pack(x, filters, shape, chain.thresholds(x))


@dataclass
class _Multiplying:
    """What stands for a convolution: bits to sums; other numbers it convolves.

    Attributes:
        layer: the convolution.
        waits: whether the sums are left to the comparison behind it.
    """

    layer: nn.Module
    waits: bool = False

    def __call__(self, x: Tensor | Packed) -> Tensor | Sums:
        if self.waits and isinstance(x, Tensor) and plain(x):
            x = pack(x, filters_of(self.layer), shape_of(self.layer))
        if not isinstance(x, Packed):
            return type(self.layer).forward(self.layer, x)
        filters = filters_of(self.layer)
        return Sums(x, filters, 1, tuple(range(x.batch))) if self.waits else multiply(x, filters)


def _can_wait(chain: Chain) -> bool:
    """Whether nothing but the comparison, behind pooling at most, needs the sums in front of it."""
    if not chain.once or not sums_signs(chain.source) or (chain.pool and not side_by_side(chain.pool)):
        return False
    return can_be_compared(filters_of(chain.source), filters_of(chain.consumer))


def pooled(largest: bool, size: int, x: Any) -> Any:
    """Largest or mean number of each square, as ``MaxPool2d(size)`` and ``AvgPool2d(size)`` have them, bit for bit.

    >>> x = torch.randn(2, 3, 7, 9)
    >>> torch.equal(pooled(True, 2, x), nn.MaxPool2d(2)(x)), torch.equal(pooled(False, 3, x), nn.AvgPool2d(3)(x))
    (True, True)
    """
    if isinstance(x, Sums | Packed):  # the comparison has seen to it, or will
        return x
    if largest and isinstance(x, Unfinished) and x.rises():  # then the largest stays the largest
        return Unfinished(pooled(True, size, x.x), x.stages, x.rows)
    x = x.computed() if isinstance(x, Unfinished) else x
    if not largest and plain(x) and available():
        return add_squares(x, size) / size**2
    high, wide = (side // size * size for side in x.shape[2:])
    rows = x[:, :, :high, :wide].unflatten(2, (-1, size))
    if largest:
        rows = reduce(torch.maximum, rows.unbind(3))[..., None, :]
    squares = [row[..., place::size] for row in rows.unbind(3) for place in range(size)]
    return reduce(torch.maximum, squares) if largest else reduce(torch.add, squares) / size**2
