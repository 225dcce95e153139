"""What T passes cost, which follows from a plan and one traced pass, and what all executions of them do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lit_scaledrop.layers.bitwise import bitwise
from lit_scaledrop.layers.prefix import PrefixTree
from lit_scaledrop.layers.probing import hooked
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.shapes import Float

Execution = Literal["loop", "folded", "shared", "exact", "auto"]


@dataclass(frozen=True)
class Segment:
    """The part of a network from one stochastic layer to the next."""

    layer: str | None
    """stochastic layer that it begins with; ``None`` at the input"""
    flops: int = 0
    """operations of convolutions and matrix products for one input"""
    width: int = 0
    """elements of the largest output of a layer for one input"""


def trace(network: nn.Module, example: Float[Tensor, "1 ..."]) -> list[Segment]:
    """Run one deterministic pass (evaluation mode) and note the work between stochastic layers, in their order."""
    counter = FlopCounterMode(display=False)
    starts: list[tuple[str | None, int]] = [(None, 0)]
    widths = [example.numel()]

    def begin(name: str, *_: object) -> None:
        starts.append((name, counter.get_total_flops()))
        widths.append(0)

    def end(*arguments: object) -> None:
        output = arguments[-1]
        if isinstance(output, Tensor) and output.shape[:1] == (1,):  # not weights, which no batch makes larger
            widths[-1] = max(widths[-1], output.numel())

    layers = stochastic_layers(network)
    hooks = [layer.register_forward_pre_hook(partial(begin, name)) for name, layer in layers.items()]
    hooks += [module.register_forward_hook(end) for module in network.modules()]
    with hooked(*hooks), torch.compiler.set_stance("force_eager"), torch.no_grad(), bitwise(False), counter:
        network(example)
    ends = [flops for _, flops in starts[1:]] + [counter.get_total_flops()]
    return [Segment(name, stop - start, width) for (name, start), stop, width in zip(starts, ends, widths, strict=True)]


def shared_passes(segments: Sequence[Segment], tree: PrefixTree) -> float:
    """Work of all samples under prefix sharing, in passes: groups in each segment, weighted by its operations.

    Operations on a skip connection count as if they ran in the groups of the layer in front; they run in fewer.
    """
    groups = _groups(segments, tree)
    work = sum(count * segment.flops for count, segment in zip(groups, segments, strict=True))
    total = sum(segment.flops for segment in segments)
    return work / total if total else float(max(groups))


def shared_rows(segments: Sequence[Segment], tree: PrefixTree) -> float:
    """Memory of prefix sharing: largest activation of one input in all its groups, in largest ones of one pass."""
    groups = _groups(segments, tree)
    widest = max(segment.width for segment in segments)
    return max(count * segment.width for count, segment in zip(groups, segments, strict=True)) / widest


def _groups(segments: Sequence[Segment], tree: PrefixTree) -> list[int]:
    return tree.groups([segment.layer for segment in segments if segment.layer is not None])


def classes_last(rows: Tensor) -> Tensor:
    """A view with the classes in the last dimension, where maps have them in dimension 1."""
    return rows.movedim(1, -1) if rows.dim() == 4 else rows


def in_parts(run: Callable[[Tensor], Tensor], x: Tensor, most: float) -> Tensor:
    """``run`` on parts of ``x`` of nearly equal size, at most ``most`` (but one) inputs; joined in dimension 1."""
    parts = -(-len(x) // max(1, int(most)))
    return run(x) if parts <= 1 else torch.cat([run(part) for part in x.tensor_split(parts)], 1)
