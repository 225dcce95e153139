r"""Actual drop probabilities of a network instead of the nominal ones: drawn, set and restored.

A layer's random bit comes from a magnetic junction, whose probability $\hat p$ is not quite the wanted p (paper eq.
24). Who draws $\hat p$ is a function from the nominal p of all Scale-Dropout layers and a generator to the actual ones;
this module needs no model of a device.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.scale_dropout import ScaleDropout, check_probability
from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.shapes import Float

Probability = Callable[[Tensor, torch.Generator], Tensor]
"""Nominal p of all Scale-Dropout layers, ``(layers,)``, and a generator -> the actual ones, ``(layers,)``."""


def scale_dropouts(model: nn.Module) -> list[ScaleDropout]:
    """Scale-Dropout layers of a network, in the order of ``modules``.

    Raises:
        ValueError: there are none.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, ScaleDropout)]
    if not layers:
        raise ValueError("the network has no Scale-Dropout layer, so no drop probability that could vary")
    return layers


def read_probabilities(layers: Sequence[ScaleDropout]) -> Float[Tensor, " layers"]:
    """Drop probabilities as the layers hold them now, on the CPU."""
    return torch.stack([layer.p.detach() for layer in layers]).cpu()


def set_probabilities(layers: Sequence[ScaleDropout], p: Float[Tensor, " layers"]) -> None:
    """Write drop probabilities into the layers' buffers, in place, so that a compiled network sees them.

    Raises:
        ValueError: not one probability a layer.
    """
    if p.shape != (len(layers),) or not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"{len(layers)} probabilities from 0 to 1 are needed, one a layer, got {p}")
    for layer, value in zip(layers, p.tolist(), strict=True):
        layer.set_probability(value)


def seeded(*key: str | int) -> torch.Generator:
    """A generator on the CPU from words and numbers; other keys give streams that have nothing in common."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def chip_probabilities(p: Float[Tensor, " layers"], probability: Probability, chip: int) -> Float[Tensor, " layers"]:
    """Probabilities of one finished chip, drawn once from its seed."""
    return probability(p, seeded("chip", chip))


def injected(nominal: Float[Tensor, "... layers"], actual: Float[Tensor, "... layers"]) -> dict[str, float]:
    """Mean distance to the nominal probabilities, the smallest and the largest actual one, by their glossary keys."""
    actual = actual.double()
    return {
        "hw/p_shift": (actual - nominal).abs().mean().item(),
        "hw/p_min": actual.min().item(),
        "hw/p_max": actual.max().item(),
    }


@contextmanager
def redrawing(model: nn.Module, probability: Probability, generator: torch.Generator) -> Iterator[Callable[[], None]]:
    """In the block, each call of the function that it gives redraws the layers' probabilities; then they are nominal.

    Raises:
        ValueError: the network has no Scale-Dropout layer.
    """
    layers = scale_dropouts(model)
    nominal = read_probabilities(layers)
    try:
        yield lambda: set_probabilities(layers, probability(nominal, generator))
    finally:
        set_probabilities(layers, nominal)


@contextmanager
def as_built(model: nn.Module, probability: Probability, chip: int) -> Iterator[None]:
    """In the block, the layers have the probabilities of a finished chip; then they are nominal.

    Raises:
        ValueError: the network has no Scale-Dropout layer.
    """
    with redrawing(model, probability, seeded("chip", chip)) as build:
        build()
        yield


def set_drop_probability(network: nn.Module, p: float) -> None:
    """Give every stochastic layer of a network the drop probability ``p``, for what-if evaluations.

    Raises:
        ValueError: if ``p`` is no probability or nothing in the network is random.
    """
    stochastic = [layer for layer in network.modules() if isinstance(layer, StochasticLayer)]
    layers = [layer for layer in stochastic if hasattr(layer, "p")]
    if not layers:
        what = "drops nothing" if stochastic else "is deterministic"
        raise ValueError(f"the network {what}: there is no drop probability to change")
    for layer in layers:
        layer.get_buffer("p").fill_(check_probability(p))
