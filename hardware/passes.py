"""How often T passes use each layer, from the masks that were drawn: in a loop, or with common prefixes computed once.

With sharing, a layer runs once for every group of passes that have drawn alike in front of it. Groups that separate
behind a layer need its activations once each, so all but one of them wait in a buffer until the chip comes back to
them (depth first: while one branch is computed, its sibling's activations are kept).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from hardware.shapes import Shaped
from hardware.workload import LayerShape

Execution = Literal["loop", "shared"]


@dataclass(frozen=True)
class LayerUse:
    """What T passes over one image ask of a layer."""

    evaluations: int
    """times that its products are computed"""
    scaled: float
    """times that its outputs are multiplied by the scale; a vector that is kept in part counts as its share"""
    results: int
    """sets of outputs, one for each group of passes behind the layer"""
    draws: int
    """random bits drawn"""
    waiting_inputs: int
    """sets of inputs that wait in a buffer, where passes separate in front of the layer"""
    waiting_outputs: int
    """sets of outputs that wait in a buffer, where passes separate behind it"""


def passes_of(
    layers: Sequence[LayerShape],
    passes: int,
    masks: Mapping[str, Shaped[Tensor, "passes ..."]] | None = None,
    execution: Execution = "loop",
) -> list[LayerUse]:
    """Use of every layer in T passes.

    Args:
        layers: of :func:`hardware.workload.trace_workload`, in order of execution.
        passes: T.
        masks: keep bits of every module that draws, by its name, one row a pass. For a module with a scale: whether
            the scale is kept, one number or one for each channel.
        execution: every pass by itself, or common prefixes once.

    Raises:
        ValueError: if masks are missing, have another number of passes, or belong to no module of the network.
    """
    if passes < 1:
        raise ValueError(f"passes (T) must be at least 1, got {passes}")
    if execution not in get_args(Execution):
        raise ValueError(f"execution must be one of {', '.join(get_args(Execution))}, got {execution!r}")
    given = dict(masks or {})
    drawing = {name for layer in layers for name in (layer.front, layer.behind) if name}
    if drawing != given.keys():
        odd = sorted(drawing ^ given.keys())
        raise ValueError(f"masks must be those of this network's random modules; they disagree on {', '.join(odd[:3])}")
    for name, mask in given.items():
        if len(mask) != passes:
            raise ValueError(f"masks of {name} are for {len(mask)} passes, not for {passes}")
    group_of = torch.zeros(passes, dtype=torch.long) if execution == "shared" else torch.arange(passes)
    uses = []
    for layer in layers:
        before = _groups(group_of)
        if layer.front:
            group_of = _split(group_of, given[layer.front])
        evaluations = _groups(group_of)
        if layer.behind:
            group_of = _split(group_of, given[layer.behind])
        results = _groups(group_of)
        scaled = float(results) if layer.scaled else 0.0
        if layer.scaled and layer.behind:
            first = torch.tensor([int((group_of == group).nonzero()[0]) for group in range(results)])
            scaled = float(given[layer.behind].cpu()[first].flatten(1).double().mean(1).sum())
        waiting = (evaluations - before, results - evaluations)
        uses.append(LayerUse(evaluations, scaled, results, layer.random_bits * passes, *waiting))
    return uses


def _groups(group_of: Tensor) -> int:
    return int(group_of.max()) + 1


def _split(group_of: Tensor, mask: Tensor) -> Tensor:
    """Groups of passes that were together and have the same mask, numbered from 0."""
    variant = torch.unique(mask.cpu().flatten(1), dim=0, return_inverse=True)[1]
    return torch.unique(torch.stack([group_of, variant], 1), dim=0, return_inverse=True)[1]
