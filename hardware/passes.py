r"""How often T passes use each layer: one by one, with the deterministic prefix once, or with every common prefix once.

``"loop"``    every pass by itself.
``"prefix"``  layers in front of the first one that draws run once; the outputs of the last of them are kept, written
              once and read in each pass. A layer that draws within itself, by its scale or on its inputs, is repeated;
              dropout of what comes out of a layer is a draw of what follows. So are sets of a normalization, of
              which every pass uses another: its outputs are made anew in each pass from products that are kept.
``"shared"``  a layer runs once for every group of passes that have drawn alike in front of it. Groups that separate
              behind a layer need its activations once each, so all but one of them wait in a buffer until the chip
              comes back to them (depth first: while one branch is computed, its sibling's activations are kept).

In the first two the number of evaluations does not depend on the masks, and what a dropped scale saves is linear in the
number of drops: expectation and variance over mask plans have a closed form (:func:`expected_passes`). Sharing depends
on the masks that were drawn (:func:`passes_of`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from hardware.shapes import Shaped
from hardware.workload import LayerShape

Execution = Literal["loop", "prefix", "shared"]


@dataclass(frozen=True)
class LayerUse:
    """What T passes over one image ask of a layer; counts of drawn masks, or expectations."""

    evaluations: int
    """times that its products are computed"""
    results: int
    """sets of outputs that its threshold makes"""
    scaled: float = 0.0
    """sets of outputs whose scale is kept; a vector that is kept in part counts as its share"""
    draws: int = 0
    """random bits drawn"""
    drops: float = 0.0
    """how many of them dropped something"""
    drops_variance: tuple[float, float] = (0.0, 0.0)
    """variances of that number over mask plans, in front and behind; 0 for counts of drawn masks"""
    probability: float = 0.0
    """drop probability of its bits, for the drive of a junction"""
    waiting_inputs: int = 0
    """sets of inputs that wait in a buffer, where passes separate in front of the layer; each is read once"""
    waiting_outputs: int = 0
    """sets of outputs that wait in a buffer for passes behind the layer"""
    output_reads: int = 0
    """times that such a set is read"""
    skip_waits: bool = False
    """whether what its skip adds waits in a buffer for all passes, so that it is written nowhere else"""


def expected_passes(
    layers: Sequence[LayerShape],
    passes: int,
    probabilities: Mapping[str, float] | None = None,
    execution: Execution = "loop",
) -> list[LayerUse]:
    """Expected use of every layer in T passes, in closed form.

    Args:
        layers: of :func:`hardware.workload.trace_workload`, in order of execution.
        passes: T.
        probabilities: drop probability of every module that draws, by its name.
        execution: every pass by itself, or once what nothing random precedes.

    Raises:
        ValueError: for ``"shared"``, or probabilities that are missing or belong to no module of the network.
    """
    given = dict(probabilities or {})
    _check(layers, passes, given, execution, "drop probabilities")
    if execution == "shared":
        raise ValueError("shared work depends on the masks: pass drawn masks to passes_of")
    counts = _loop(layers, passes, execution)
    return [_use(layer, passes, count, given) for layer, count in zip(layers, counts, strict=True)]


def passes_of(
    layers: Sequence[LayerShape],
    passes: int,
    masks: Mapping[str, Shaped[Tensor, "passes ..."]] | None = None,
    execution: Execution = "loop",
    probabilities: Mapping[str, float] | None = None,
) -> list[LayerUse]:
    """Use of every layer in T passes with masks that were drawn.

    Args:
        layers: of :func:`hardware.workload.trace_workload`, in order of execution.
        passes: T.
        masks: keep bits of every module that draws, by its name, one row a pass. For a module with a scale: whether
            the scale is kept, one number or one for each channel.
        execution: every pass by itself, once what nothing random precedes, or common prefixes once.
        probabilities: drop probabilities by module, for the drive of a junction; by default the share of drops.

    Raises:
        ValueError: if masks are missing, have another number of passes, or belong to no module of the network.
    """
    given = dict(masks or {})
    _check(layers, passes, given, execution, "masks")
    for name, mask in given.items():
        if len(mask) != passes:
            raise ValueError(f"masks of {name} are for {len(mask)} passes, not for {passes}")
    counts = _shared(layers, passes, given) if execution == "shared" else _loop(layers, passes, execution)
    dropped = {name: float((mask == 0).double().mean()) for name, mask in given.items()}
    nominal = {**dropped, **(probabilities or {})}
    return [_use(layer, passes, count, nominal, dropped) for layer, count in zip(layers, counts, strict=True)]


@dataclass(frozen=True)
class _Count:
    """Evaluations, results and waiting sets of a layer, and how many results keep their scale where that is known."""

    evaluations: int
    results: int
    waiting_inputs: int = 0
    waiting_outputs: int = 0
    output_reads: int = 0
    scaled: float | None = None
    skip_waits: bool = False


def _loop(layers: Sequence[LayerShape], passes: int, execution: Execution) -> list[_Count]:
    """Counts that do not depend on masks."""
    repeats, counts, waiting = passes if execution == "loop" else 1, list[_Count](), ""
    for place, layer in enumerate(layers):
        if repeats < passes and _draws_within(layer):
            if counts:
                counts[-1] = _Count(1, 1, waiting_outputs=1, output_reads=passes)
                waiting = layers[place - 1].name
            repeats = passes
        if repeats < passes and layer.behind:
            counts.append(_Count(1, passes if layer.norm_sets > 1 else 1, waiting_outputs=1, output_reads=passes))
            repeats = passes
        else:
            counts.append(_Count(repeats, repeats, skip_waits=bool(waiting) and layer.skip_of == waiting))
    return counts


def _draws_within(layer: LayerShape) -> bool:
    return bool(layer.front or (layer.behind and layer.scaled))


def _shared(layers: Sequence[LayerShape], passes: int, masks: Mapping[str, Tensor]) -> list[_Count]:
    """Counts of groups of passes that have drawn alike."""
    group_of, counts = torch.zeros(passes, dtype=torch.long), []
    for layer in layers:
        before = _groups(group_of)
        if layer.front:
            group_of = _split(group_of, masks[layer.front])
        evaluations, scaled = _groups(group_of), None
        if layer.behind:
            group_of = _split(group_of, masks[layer.behind])
        groups = _groups(group_of)
        if layer.scaled and layer.behind:
            first = torch.tensor([int((group_of == group).nonzero()[0]) for group in range(groups)])
            scaled = float(masks[layer.behind].cpu()[first].flatten(1).double().mean(1).sum())
        # dropout behind a threshold makes no more thresholds
        results = groups if layer.scaled or layer.norm_sets > 1 else evaluations
        separate = groups - evaluations
        counts.append(_Count(evaluations, results, evaluations - before, separate, separate, scaled))
    return counts


def _use(
    layer: LayerShape,
    passes: int,
    count: _Count,
    nominal: Mapping[str, float],
    counted: Mapping[str, float] | None = None,
) -> LayerUse:
    """Counts with the draws of the modules in front and behind; ``counted`` are shares of drops of drawn masks."""
    share = nominal if counted is None else counted
    both = ((layer.front, layer.front_bits * passes), (layer.behind, layer.behind_bits * passes))
    bits = [(name, number) for name, number in both if name]
    drawn = sum(number for _, number in bits)
    front, behind = (n * nominal[name] * (1 - nominal[name]) if name else 0.0 for name, n in both)
    scaled = count.scaled
    if scaled is None and layer.scaled:
        scaled = count.results * (1 - share[layer.behind] if layer.behind else 1)
    return LayerUse(
        count.evaluations,
        count.results,
        scaled or 0.0,
        drawn,
        math.fsum(number * share[name] for name, number in bits),
        (front, behind) if counted is None else (0.0, 0.0),
        math.fsum(number * nominal[name] for name, number in bits) / drawn if drawn else 0.0,
        count.waiting_inputs,
        count.waiting_outputs,
        count.output_reads,
        count.skip_waits,
    )


def _check(
    layers: Sequence[LayerShape], passes: int, given: Mapping[str, object], execution: Execution, what: str
) -> None:
    if passes < 1:
        raise ValueError(f"passes (T) must be at least 1, got {passes}")
    if execution not in get_args(Execution):
        raise ValueError(f"execution must be one of {', '.join(get_args(Execution))}, got {execution!r}")
    drawing = {name for layer in layers for name in (layer.front, layer.behind) if name}
    if drawing != given.keys():
        odd = sorted(drawing ^ given.keys())
        raise ValueError(
            f"{what} must be those of this network's random modules; they disagree on {', '.join(odd[:3])}"
        )


def _groups(group_of: Tensor) -> int:
    return int(group_of.max()) + 1


def _split(group_of: Tensor, mask: Tensor) -> Tensor:
    """Groups of passes that were together and have the same mask, numbered from 0."""
    variant = torch.unique(mask.cpu().flatten(1), dim=0, return_inverse=True)[1]
    return torch.unique(torch.stack([group_of, variant], 1), dim=0, return_inverse=True)[1]
