"""Prefix sharing: T passes of one network that compute each common prefix of their draws once.

A scalar mask per layer leaves T passes few distinct prefixes: the first layer is the same in all of them, the second
has at most two variants, and so on. So the network runs once over groups of samples that have drawn alike so far:

1. before the first draw there is one group, and the input has ``batch`` rows;
2. in front of a stochastic layer every group whose samples disagree about its draw splits: rows are copied, the layer
   gets a draw for each row, and all other layers see a larger batch (group-major) and know nothing of it;
3. a skip connection carries an older, coarser grouping: it is expanded to the current one before a sum, a product or a
   concatenation, by :func:`align` where the network calls it and else where PyTorch's function is called. Splitting
   only refines, so the number of groups names the grouping;
4. at the end every sample reads its leaf.

With the same draws the result is that of T passes, up to rounding. The shared forward runs eagerly also where the
network is compiled: the rows of every layer depend on the plan, so each plan would be compiled again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lit_scaledrop.layers.stochastic import MaskPlan, StochasticLayer, check_plan, stochastic_layers

_active: "Sharing | None" = None
_MEET = {"add", "sub", "mul", "div", "truediv", "maximum", "minimum"}
"""PyTorch's functions of two operands, in front of which rows are aligned"""


def sharing_now() -> "Sharing | None":
    """The shared forward pass that runs, if one does."""
    return _active


def align(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors from different depths of a network to the same rows, before they are added or concatenated.

    Outside of prefix sharing, in training and when exported, the tensors come back as they are.

    Args:
        tensors: each of shape ``(rows, ...)``.

    >>> [len(t) for t in align(torch.zeros(2, 3), torch.zeros(2, 5))]
    [2, 2]
    """
    if _active is None:
        return tensors
    return tuple(_active.expand(tensor) for tensor in tensors)


class Partition:
    """T samples in groups that have drawn alike so far; finer partitions are found once and kept.

    Args:
        group_of: group of each sample, numbered from 0 without gaps.
        coarser: the partition that this one refines.

    >>> root = Partition([0, 0, 0])
    >>> fine = root.split("a", [1, 0, 1]).split("b", [5, 5, 6])
    >>> fine.group_of, fine.sources(2), fine.sources(1)
    ([1, 0, 2], [0, 1, 1], [0, 0, 0])
    """

    def __init__(self, group_of: list[int], coarser: "Partition | None" = None) -> None:
        self.group_of, self.coarser = group_of, coarser
        first: dict[int, int] = {}
        for sample, group in enumerate(group_of):
            first.setdefault(group, sample)
        #: a sample of each group
        self.first = [first[group] for group in range(len(first))]
        self._finer: dict[str, Partition] = {}
        self._sources: dict[int, list[int]] = {}

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.first)

    def split(self, name: str, draw_of: list[int]) -> "Partition":
        """The partition after a layer ``name`` whose draw in each sample has the number ``draw_of``."""
        if name not in self._finer:
            keys = list(zip(self.group_of, draw_of, strict=True))
            number = {key: index for index, key in enumerate(sorted(set(keys)))}
            finer = len(number) > self.groups
            self._finer[name] = Partition([number[key] for key in keys], self) if finer else self
        return self._finer[name]

    def sources(self, groups: int) -> list[int]:
        """For each group the one it comes from in the coarser partition that has ``groups`` groups.

        Raises:
            ValueError: if no partition on the way here had so many.
        """
        if groups not in self._sources:
            coarser: Partition | None = self
            while coarser is not None and coarser.groups != groups:
                coarser = coarser.coarser
            if coarser is None:
                raise ValueError(f"no partition of {groups} groups leads to this one of {self.groups}")
            self._sources[groups] = [coarser.group_of[sample] for sample in self.first]
        return self._sources[groups]


class PrefixTree:
    """The prefixes of a plan: which samples share which part of the network.

    Raises:
        ValueError: if the plan was drawn for another network.
    """

    def __init__(self, model: nn.Module, plan: MaskPlan) -> None:
        layers = check_plan(model, plan.draws)
        self.plan = plan
        self.root = Partition([0] * plan.samples)
        #: for each layer and sample the number of its draw; equal numbers have the same effect
        self.draw_of = {name: _numbered(layer.effective(plan.draws[name])) for name, layer in layers.items()}

    def split(self, partition: Partition, name: str) -> Partition:
        """``partition`` after the layer ``name``."""
        return partition.split(name, self.draw_of[name])

    def groups(self, order: list[str]) -> list[int]:
        """Groups in front of the first and behind each layer, when they run in this order."""
        partition, counts = self.root, [self.root.groups]
        for name in order:
            partition = self.split(partition, name)
            counts.append(partition.groups)
        return counts


def _numbered(draws: Tensor) -> list[int]:
    return torch.unique(draws.flatten(1).cpu(), dim=0, return_inverse=True)[1].tolist()


class Sharing:
    """State of one shared forward pass: the current partition, and how to bring rows to it."""

    def __init__(self, tree: PrefixTree, batch: int) -> None:
        self.tree, self.batch = tree, batch
        self.partition = tree.root

    def coarser(self, groups: int) -> Partition:
        """The partition of so many groups that leads to the current one.

        Raises:
            ValueError: none does.
        """
        partition: Partition | None = self.partition
        while partition is not None and partition.groups != groups:
            partition = partition.coarser
        if partition is None:
            raise ValueError(f"no partition of {groups} groups leads to this one of {self.partition.groups}")
        return partition

    def expand(self, x: Any) -> Any:
        """Rows of an older, coarser grouping as rows of the current one."""
        groups, rest = divmod(len(x), self.batch)
        if rest:
            raise ValueError(
                f"prefix sharing needs whole copies of the batch: a layer has {len(x)} rows for {self.batch} inputs. "
                "Use execution='folded' or 'loop' for this network"
            )
        if groups == self.partition.groups:
            return x
        sources = self.partition.sources(groups)
        # slices of whole groups: block copies, in the memory format of x
        parts = x.split(self.batch)
        return torch.cat([parts[source] for source in sources])

    def branch(self, name: str, layer: StochasticLayer, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Forward pre-hook of a stochastic layer: split, and give it the draws of the new groups."""
        self.partition = self.tree.split(self.partition, name)
        draws = self.tree.plan.draws[name][self.partition.first]
        layer.plan(draws if len(draws) == 1 else draws.repeat_interleave(self.batch, 0))
        return (self.expand(inputs[0]), *inputs[1:])


@lru_cache(1024)
def _meeting(func: Any) -> tuple[str, bool]:
    """Which operation of those where tensors meet it is, and whether in place; each of PyTorch's functions once."""
    name = getattr(func, "__name__", "")
    if name in ("cat", "concat", "concatenate"):
        return "cat", False
    operation = name.strip("_").removeprefix("i" if name.startswith("__i") else "")
    return (operation, name.endswith("_")) if operation in _MEET else ("", False)


class _Meeting(TorchFunctionMode):
    """In the block, tensors of different groupings that meet in a sum, product or concatenation are aligned."""

    def __init__(self, state: Sharing) -> None:
        super().__init__()
        self.state = state

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Expand the coarser one; what is not about rows stays."""
        kwargs = kwargs or {}
        operation, in_place = _meeting(func)
        if operation == "cat" and (kwargs.get("dim") or (args[1:] and args[1])):
            return func(self._aligned(args[0]), *args[1:], **kwargs)
        if operation in _MEET and len(args) == 2:
            first, second = self._aligned(args)
            if first is not args[0] and in_place:  # into a tensor that has too few rows
                return getattr(torch, operation)(first, second, **kwargs)
            return func(first, second, **kwargs)
        return func(*args, **kwargs)

    def _aligned(self, operands: Sequence[Any]) -> list[Any]:
        tensors = [operand for operand in operands if isinstance(operand, Tensor) and operand.dim()]
        rows, state = max((len(tensor) for tensor in tensors), default=0), self.state
        if len(tensors) < 2 or rows != state.partition.groups * state.batch:
            return list(operands)
        dimensions = max(tensor.dim() for tensor in tensors)

        def coarse(operand: Any) -> bool:
            same = isinstance(operand, Tensor) and operand.dim() == dimensions and len(operand) < rows
            return same and len(operand) % state.batch == 0

        return [state.expand(operand) if coarse(operand) else operand for operand in operands]


@contextmanager
def sharing(model: nn.Module, tree: PrefixTree, batch: int) -> Iterator[Sharing]:
    """Let a forward of ``model`` on ``batch`` inputs compute all samples of the tree's plan in this block."""
    global _active
    before, state = _active, Sharing(tree, batch)
    layers = stochastic_layers(model)
    planned = {name: layer._planned for name, layer in layers.items()}
    hooks = [layer.register_forward_pre_hook(partial(state.branch, name)) for name, layer in layers.items()]
    _active = state
    try:
        with torch.compiler.set_stance("force_eager"), _Meeting(state):
            yield state
    finally:
        _active = before
        for hook in hooks:
            hook.remove()
        for name, layer in layers.items():
            layer.plan(planned[name])
