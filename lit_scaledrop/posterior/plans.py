r"""Mask plans: T random passes (independent, stratified or systematic), or the masks themselves with probabilities.

The mean over the passes of a plan is an unbiased estimate of the predictive mean under every scheme:

``iid``         independent passes. The first T of a longer plan are the plan of T passes.
``stratified``  Latin hypercube (McKay et al. 1979): each random number of a layer has one value in each of the T strata
                $[t/T, (t+1)/T)$, in an order of its own. So every pass by itself is a random one, and a layer is
                dropped in $\lfloor Tp \rfloor$ or $\lceil Tp \rceil$ of them.
``systematic``  the same counts, and within the passes that share a prefix of masks (nearly) as well: at each layer the
                passes are put in the order of their prefixes, and a systematic sample of them (Madow & Madow 1944) is
                dropped. Whatever its prefix, a pass drops with probability p. Random numbers that are no layer's only
                bit are stratified.

Where nothing is random passes take turns: pass t of a Tiny-Deep Ensemble is its member t mod M, under every scheme.

A chip's junction may remember: with ``correlation`` $\rho$ a random bit repeats, with probability $\rho$, the number
behind the bit that its junction drew before it, layer after layer and pass after pass. Every bit still drops with its
layer's p; bits of one p are a two-state Markov chain, and k draws apart correlated by $\rho^k$, as telegraph noise is.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.stochastic import MaskPlan, StochasticLayer, stochastic_layers
from lit_scaledrop.posterior.drop_probability import Probability, redrawing, seeded

Scheme = Literal["iid", "stratified", "systematic"]


def draw_plan(
    model: nn.Module,
    samples: int,
    seed: int | torch.Generator = 0,
    scheme: Scheme = "iid",
    probability: Probability | None = None,
    correlation: float = 0.0,
) -> MaskPlan:
    """Draw a plan of ``samples`` passes, on the CPU: the same seed gives the same masks on every device.

    Args:
        model: network with stochastic layers (a network without any gives passes that are all alike).
        samples: passes T, at least 1.
        seed: seed, or a CPU generator to continue.
        scheme: independent passes, or a scheme with less variance; see the module.
        probability: draws the drop probabilities that the Scale-Dropout layers of a pass really have, others for each
            pass, e.g. ``hardware.drop_probability.GaussianProbability(0.05).probability`` (paper eq. 24). It gets a
            generator of its own: the uniform numbers behind the masks are those of the plan without it.
        correlation: of a junction's successive bits, which serves all layers that draw no more than one bit; element j
            of layers with many is that of junction j. What is not repeated is that of the plan without it.

    Raises:
        ValueError: if ``samples < 1`` or the scheme is unknown; with ``probability`` or ``correlation`` also for
            another scheme than ``"iid"`` or a generator as the seed, a correlation that is not 0 or above and below 1,
            or, with ``probability``, a network without Scale-Dropout.
    """
    if samples < 1:
        raise ValueError(f"samples (T) must be at least 1, got {samples}")
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme must be one of {', '.join(get_args(Scheme))}, got {scheme!r}")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation of successive bits must be 0 or above and below 1, got {correlation}")
    if probability is not None or correlation:
        if scheme != "iid":
            what = "passes with p of their own" if probability else "correlated bits"
            raise ValueError(f"scheme {scheme!r} counts drops by one p; {what} are drawn by 'iid'")
        if isinstance(seed, torch.Generator):
            raise ValueError("varied probabilities and correlations have streams of their own: give a seed")
    memory = _Memory(correlation, seeded("correlation", seed)) if correlation else None  # type: ignore[arg-type]
    if scheme != "iid":
        draws = _spread(model, samples, generator, scheme)
    elif probability is None:
        draws = _passes(model, samples, generator, memory)
    else:
        with redrawing(model, probability, seeded("probability", seed)) as redraw:  # type: ignore[arg-type]
            draws = _passes(model, samples, generator, memory, redraw)
    turns = {name: layer.turns for name, layer in stochastic_layers(model).items() if layer.turns}
    draws |= {name: torch.arange(samples).remainder(number)[:, None] for name, number in turns.items()}
    return MaskPlan(_on_device_of(model, draws), samples)


class _Memory:
    """What the junctions drew last: the number behind the bit of each."""

    def __init__(self, correlation: float, generator: torch.Generator) -> None:
        self.correlation, self.generator = correlation, generator
        self.last = torch.empty(0)

    def repeat(self, uniform: Tensor, bits: int) -> None:
        """Put the last numbers in place of some of the first ``bits``, which the junctions then remember."""
        now = uniform.view(-1)[:bits]
        known = min(len(self.last), bits)
        again = torch.rand(bits, generator=self.generator) < self.correlation
        now[:known] = torch.where(again[:known], self.last[:known], now[:known])
        self.last = torch.cat([now, self.last[bits:]])


def _random_layers(model: nn.Module) -> dict[str, StochasticLayer]:
    return {name: layer for name, layer in stochastic_layers(model).items() if not layer.turns}


def _passes(
    model: nn.Module,
    samples: int,
    generator: torch.Generator,
    memory: _Memory | None = None,
    before: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    layers = _random_layers(model)
    passes = []
    for _ in range(samples):
        before()
        drawn = {}
        for name, layer in layers.items():
            uniform = torch.rand(1, *layer.uniform_shape, generator=generator)
            if memory is not None:
                memory.repeat(uniform, layer.random_bits)
            drawn[name] = layer.from_uniform(uniform)
        passes.append(drawn)
    return {name: torch.cat([p[name] for p in passes]) for name in layers}


def _spread(model: nn.Module, samples: int, generator: torch.Generator, scheme: Scheme) -> dict[str, Tensor]:
    draws: dict[str, Tensor] = {}
    prefixes: list[tuple[bool, ...]] = [()] * samples
    for name, layer in _random_layers(model).items():
        # float64: with float32 the last stratum could round up to 1
        numbers = torch.rand(samples, *layer.uniform_shape, generator=generator, dtype=torch.float64)
        stratum = torch.rand(numbers.shape, generator=generator).argsort(0)
        uniform = (stratum + numbers) / samples
        # a single bit without a probability of its own (SpinBayes with two arrays) stays stratified
        p_dropped = dict(layer.named_buffers(recurse=False)).get("p")
        if scheme == "systematic" and layer.random_bits == 1 and p_dropped is not None:
            p = float(p_dropped)
            order = sorted(range(samples), key=prefixes.__getitem__)
            start = torch.rand((), generator=generator, dtype=torch.float64)
            steps = torch.floor(start + p * torch.arange(samples + 1)).diff()
            dropped = torch.zeros(samples, dtype=torch.bool)
            dropped[order] = steps > 0
            bit = numbers.flatten(1)[:, 0]
            uniform.view(samples, -1)[:, 0] = torch.where(dropped, p * bit, p + (1 - p) * bit)
            prefixes = [(*prefix, drop) for prefix, drop in zip(prefixes, dropped.tolist(), strict=True)]
        draws[name] = layer.from_uniform(uniform)
    return draws


def enumerate_plan(model: nn.Module, mass: float = 1.0, max_leaves: int = 1024) -> MaskPlan:
    r"""All masks of a network with their probabilities; where they are too many, the most probable ones.

    The weights are the probabilities divided by the covered mass $1 - u$. With $A \le 1 - u$ what the covered masks
    contribute to a class probability $P$, and $0 \le R \le u$ the rest, the error of the weighted mean is
    $P - A/(1-u) = R - A\,u/(1-u)$, so $u$ (``uncovered``) bounds it in both directions.

    Args:
        model: network with stochastic layers, whose drop probabilities are read now.
        mass: probability that must be covered, in (0, 1]; looked at only where all masks are more than ``max_leaves``.
        max_leaves: the most masks.

    Raises:
        ValueError: if draws cannot be enumerated, or ``max_leaves`` masks do not cover the mass.
    """
    if not 0 < mass <= 1:
        raise ValueError(f"mass is the probability to cover, above 0 and up to 1, got {mass}")
    outcomes = {}
    for name, layer in stochastic_layers(model).items():
        try:
            outcomes[name] = layer.outcomes()
        except ValueError as error:
            raise ValueError(f"no exact distribution: {error} (layer {name!r}). Use execution='shared'") from error
    total = math.prod(len(probabilities) for _, probabilities in outcomes.values())
    masks, weights = [], []
    for mask, probability in _most_probable_first([probabilities for _, probabilities in outcomes.values()]):
        masks.append(mask)
        weights.append(probability)
        if len(masks) == max_leaves < total or (total > max_leaves and math.fsum(weights) >= mass):
            break
    covered = math.fsum(weights)
    if total > max_leaves and covered < mass:
        raise ValueError(
            f"the {max_leaves} most probable of {total} masks cover {covered:.3g} of the probability, not {mass:g}: "
            "raise max_leaves, lower mass, or use execution='shared'"
        )
    draws = {name: draw[[mask[index] for mask in masks]] for index, (name, (draw, _)) in enumerate(outcomes.items())}
    weight = torch.tensor(weights, dtype=torch.float64) / covered
    uncovered = 0.0 if len(masks) == total else max(0.0, 1 - covered)
    return MaskPlan(_on_device_of(model, draws), len(masks), weight, uncovered)


def _most_probable_first(layers: list[list[float]]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Outcomes of independent layers, as an index for each, in the order of falling probability."""
    ranked = [sorted(range(len(p)), key=lambda i, p=p: -p[i]) for p in layers]  # type: ignore[misc]

    def probability(ranks: tuple[int, ...]) -> float:
        return math.prod((p[order[rank]] for p, order, rank in zip(layers, ranked, ranks, strict=True)), start=1.0)

    start = (0,) * len(layers)
    heap = [(-probability(start), start)]
    while heap:
        negative, ranks = heapq.heappop(heap)
        yield tuple(order[rank] for order, rank in zip(ranked, ranks, strict=True)), -negative
        # a next outcome is reached from the one with its last non-zero rank lowered, and from no other
        last = max((i for i, rank in enumerate(ranks) if rank), default=0)
        for i in range(last, len(layers)):
            if ranks[i] + 1 < len(layers[i]):
                following = (*ranks[:i], ranks[i] + 1, *ranks[i + 1 :])
                heapq.heappush(heap, (-probability(following), following))


def _on_device_of(model: nn.Module, draws: dict[str, Tensor]) -> dict[str, Tensor]:
    parameter = next(model.parameters(), None)
    return {name: draw if parameter is None else draw.to(parameter.device) for name, draw in draws.items()}
