"""The one protocol of everything stochastic: draws are made before the forward pass, as a plan of T passes x L layers.

A stochastic layer does not draw while it samples: a :class:`MaskPlan` made from an explicit generator tells each
layer what to do in each pass, and :func:`sampling` installs it. So a prediction is a function of (weights, input,
plan): it does not depend on batch size or device, leaves the global random stream and BatchNorm alone, and does not
need ``.train()``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_scaledrop.shapes import Shaped


class StochasticLayer(nn.Module):
    """Base of the layers with random draws.

    A subclass says what one pass draws (:meth:`draw`) and asks :meth:`active_draws` in its ``forward``: the plan's
    draws while sampling, fresh ones from the global stream in training, ``None`` (no dropout) in evaluation.
    """

    #: in training: fresh draws for each example ("sample") or one for the whole batch ("batch")
    mask_per: str = "sample"
    _planned: Tensor | None = None

    def draw(
        self, rows: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Shaped[Tensor, "rows ..."]:
        """Draws for ``rows`` independent passes, one row each."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it draws")

    @property
    def random_bits(self) -> int:
        """Random bits that one pass over one input takes."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many bits it draws")

    def active_draws(self, x: Tensor) -> Tensor | None:
        """Draws for the input ``x``: rows are 1 (all of the batch alike) or ``len(x)``; ``None``: no dropout."""
        if self._planned is not None:
            if len(self._planned) not in (1, len(x)):
                raise ValueError(f"the plan holds {len(self._planned)} rows, the input {len(x)}: fold both alike")
            return self._planned
        if self.training:
            return self.draw(len(x) if self.mask_per == "sample" else 1, device=x.device)
        return None


def stochastic_layers(model: nn.Module) -> dict[str, StochasticLayer]:
    """Stochastic layers of ``model`` by name, in the order of ``named_modules``."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, StochasticLayer)}


@dataclass(frozen=True)
class MaskPlan:
    """Draws of ``samples`` passes for every stochastic layer.

    Attributes:
        draws: layer name to a tensor ``(samples, ...)``.
        samples: number of passes T.
    """

    draws: Mapping[str, Tensor]
    samples: int

    def single(self, index: int) -> dict[str, Tensor]:
        """Draws of one pass, valid for a batch of any size."""
        return {name: draws[index : index + 1] for name, draws in self.draws.items()}

    def folded(self, batch: int) -> dict[str, Tensor]:
        """Draws for all passes folded into one batch of ``samples * batch`` rows, pass-major.

        Each pass keeps its own mask; one mask for all the rows would make the predictive variance exactly zero.
        """
        return {name: draws.repeat_interleave(batch, 0) for name, draws in self.draws.items()}


def draw_plan(model: nn.Module, samples: int, seed: int | torch.Generator = 0) -> MaskPlan:
    """Draw a plan of ``samples`` passes.

    Drawn on the CPU, pass by pass: the same seed gives the same masks on every device, and the first T of a longer
    plan are the plan of T passes.

    Args:
        model: network with stochastic layers (a network without any gives passes that are all alike).
        samples: passes T, at least 1.
        seed: seed, or a CPU generator to go on from.

    Raises:
        ValueError: if ``samples < 1``.
    """
    if samples < 1:
        raise ValueError(f"samples (T) must be at least 1, got {samples}")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    layers = stochastic_layers(model)
    passes = [{name: layer.draw(1, generator) for name, layer in layers.items()} for _ in range(samples)]
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    return MaskPlan({name: torch.cat([p[name] for p in passes]).to(device) for name in layers}, samples)


@contextmanager
def sampling(model: nn.Module, draws: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the stochastic layers of ``model`` use ``draws`` (of :meth:`MaskPlan.single` or ``folded``) in the block.

    Raises:
        ValueError: if the draws belong to a network with other stochastic layers.
    """
    layers = stochastic_layers(model)
    if layers.keys() != draws.keys():
        odd = sorted(layers.keys() ^ draws.keys())
        raise ValueError(f"the plan was drawn for another network: they disagree on {', '.join(odd[:3])}")
    before = {name: layer._planned for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer._planned = draws[name]
        yield
    finally:
        for name, layer in layers.items():
            layer._planned = before[name]
