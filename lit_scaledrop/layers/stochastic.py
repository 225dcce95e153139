"""The protocol of stochastic layers: draws are made before the forward pass, as a plan of T passes x L layers.

A stochastic layer does not draw while it samples: a :class:`MaskPlan` made from an explicit generator tells each
layer what to do in each pass, and :func:`sampling` installs it. So a prediction is a function of (weights, input,
plan): it does not depend on batch size or device, leaves the global random stream and BatchNorm alone, and does not
need ``.train()``.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.probing import looked_up, looking_once, modules_of, name_of
from lit_scaledrop.shapes import Float, Shaped


class StochasticLayer(nn.Module):
    """Base of the layers with random draws.

    A subclass says what a pass makes of uniform random numbers (:attr:`uniform_shape`, :meth:`from_uniform`) and asks
    :meth:`active_draws` in its ``forward``: the plan's draws while sampling, fresh ones from the global stream in
    training, ``None`` (no dropout) in evaluation.
    """

    #: in training: fresh draws for each example ("sample") or one for the whole batch ("batch")
    mask_per: str = "sample"
    #: above 0 nothing is drawn at random: passes take turns with so many draws, 0, 1, 2 ...
    turns: int = 0
    _planned: Tensor | None = None

    @property
    def uniform_shape(self) -> tuple[int, ...]:
        """Shape of the uniform random numbers that one pass takes."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many numbers it draws")

    def from_uniform(self, uniform: Float[Tensor, "rows ..."]) -> Shaped[Tensor, "rows ..."]:
        """Draws of ``rows`` passes from uniform numbers in [0, 1), independent in the rows."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it draws")

    def draw(
        self, rows: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Shaped[Tensor, "rows ..."]:
        """Draws for ``rows`` independent passes, one row each."""
        return self.from_uniform(torch.rand(rows, *self.uniform_shape, generator=generator, device=device))

    def effective(self, draws: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "rows ..."]:
        """Draws without what has no effect: rows that are equal here do the same to an input."""
        return draws

    def outcomes(self) -> tuple[Shaped[Tensor, "outcomes ..."], list[float]]:
        """All possible draws of one pass with their probabilities, none of them zero.

        Raises:
            ValueError: if there are too many to be enumerated.
        """
        raise ValueError(f"the draws of {type(self).__name__} cannot be enumerated")

    @property
    def random_bits(self) -> int:
        """Random bits that one pass over one input takes."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many bits it draws")

    def plan(self, draws: Tensor | None) -> None:
        """Use these from now on, one row or one for each of an input's; or none."""
        # not by the module's own way to set attributes, which takes as long as a small layer
        if draws is None:
            vars(self).pop("_planned", None)
        else:
            vars(self)["_planned"] = draws

    def active_draws(self, x: Tensor) -> Tensor | None:
        """Draws for the input ``x``: rows are 1 (all of the batch alike) or ``len(x)``; ``None``: no dropout."""
        if self._planned is not None:
            # shape[0], not len: an exported program leaves the number of rows open
            rows, own = x.shape[0], self._planned.shape[0]
            if own != rows and own != 1:
                raise ValueError(f"the plan holds {own} rows, the input {rows}: fold both alike")
            return self._planned
        if self.training:
            return self.draw(len(x) if self.mask_per == "sample" else 1, device=x.device)
        return None


@looked_up
def stochastic_layers(model: nn.Module) -> dict[str, StochasticLayer]:
    """Stochastic layers of ``model`` by name, in the order of ``named_modules``; one that serves several, once."""
    layers: dict[int, tuple[str, StochasticLayer]] = {}
    with looking_once():
        for layer in modules_of(model):
            if isinstance(layer, StochasticLayer) and id(layer.__dict__) not in layers:
                # torch.export has a proxy of a module for each way that leads to it; their dictionary is the module's
                layers[id(layer.__dict__)] = name_of(layer, model), layer
    return dict(layers.values())


def differing_passes(model: nn.Module, samples: int) -> int:
    """How many of ``samples`` passes can differ: where passes take turns, one for each; where nothing draws, one.

    >>> differing_passes(nn.Linear(2, 2), 20)
    1
    """
    turns = [layer.turns for layer in stochastic_layers(model).values()]
    return min(samples, math.lcm(*turns)) if all(turns) else samples


@dataclass(frozen=True)
class MaskPlan:
    """Draws of ``samples`` passes for every stochastic layer.

    Attributes:
        draws: layer name to a tensor ``(samples, ...)``.
        samples: number of passes T.
        weights: probability of each pass, ``(samples,)`` in float64; ``None`` means that all count alike.
        uncovered: probability of the masks that an enumeration left out.
    """

    draws: Mapping[str, Tensor]
    samples: int
    weights: Tensor | None = None
    uncovered: float = 0.0

    def single(self, index: int) -> dict[str, Tensor]:
        """Draws of one pass, valid for a batch of any size."""
        return self._passes[index]

    @cached_property
    def _passes(self) -> list[dict[str, Tensor]]:
        split = {name: draws.split(1) for name, draws in self.draws.items()}
        return [{name: draws[index] for name, draws in split.items()} for index in range(self.samples)]

    def folded(self, batch: int) -> dict[str, Tensor]:
        """Draws for all passes folded into one batch of ``samples * batch`` rows, pass-major.

        Each pass keeps its own mask; one mask for all the rows would make the predictive variance exactly zero.
        """
        return {name: draws.repeat_interleave(batch, 0) for name, draws in self.draws.items()}


def check_plan(model: nn.Module, draws: Mapping[str, Tensor]) -> dict[str, StochasticLayer]:
    """The stochastic layers of ``model``, which the draws must be for.

    Raises:
        ValueError: if the draws belong to a network with other stochastic layers.
    """
    layers = stochastic_layers(model)
    if layers.keys() != draws.keys():
        odd = sorted(layers.keys() ^ draws.keys())
        raise ValueError(f"the plan was drawn for another network: they disagree on {', '.join(odd[:3])}")
    return layers


@contextmanager
def sampling(model: nn.Module, draws: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the stochastic layers of ``model`` use ``draws`` (of :meth:`MaskPlan.single` or ``folded``) in the block.

    Raises:
        ValueError: if the draws belong to a network with other stochastic layers.
    """
    layers = check_plan(model, draws)
    before = [(layer, layer._planned) for layer in layers.values()]
    try:
        for name, layer in layers.items():
            layer.plan(draws[name])
        yield
    finally:
        for layer, draw in before:
            layer.plan(draw)


@contextmanager
def drawing_alone(layer: StochasticLayer, draw: Shaped[Tensor, "1 ..."] | None) -> Iterator[None]:
    """Let one layer use a draw in the block, or none; whatever else the network has does what it did."""
    before = layer._planned
    layer.plan(draw)
    try:
        yield
    finally:
        layer.plan(before)


@contextmanager
def batch_draws(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let the layers with one draw for a training batch take it from ``generator`` in the block, the CPU's.

    For processes that train one network on shares of a batch: with equal generators they draw alike, whatever their
    global streams and devices. Layers with a draw for each sample still use the global stream.
    """
    layers = [layer for layer in stochastic_layers(model).values() if layer.training and layer.mask_per == "batch"]
    try:
        for layer in layers:
            at = next(layer.parameters(), next(layer.buffers(), torch.empty(0)))
            layer.plan(layer.from_uniform(torch.rand(1, *layer.uniform_shape, generator=generator).to(at.device)))
        yield
    finally:
        for layer in layers:
            layer.plan(None)
