r"""The dropout module of a chip: what its probability really is, what a draw costs, and how many a method needs.

Paper eq. 24: $\hat p \sim \mathcal N(p, \sigma^2)$ within [0, 1], redrawn at each use of a layer. Or the spread follows
from the device: the drive is set for the nominal device, and another one answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from hardware.constants import Preset
from hardware.mtj import MTJ, DeviceVariation, Law, current_for_probability, lognormal, switching_probability, vary
from hardware.shapes import Float
from hardware.workload import LayerShape

Within = Literal["clipped", "truncated"]
Scheme = Literal[
    "scale_dropout",
    "scale_dropout_element",
    "spindrop",
    "spatial_spindrop",
    "spinbayes",
    "mc_dropout",
    "block_dropout",
    "dropconnect",
    "none",
]


@dataclass(frozen=True)
class GaussianProbability:
    """Eq. 24: a Gaussian around the wanted probability, kept within [0, 1].

    ``"clipped"`` moves what falls outside to the bound, which keeps p = 0 and p = 1 possible; ``"truncated"`` is the
    Gaussian on the condition that it falls inside, which has no lumps at the bounds.
    """

    sigma: float
    """standard deviation"""
    within: Within = "clipped"
    """how the probability stays in [0, 1]"""

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"sigma must be 0 or above, got {self.sigma}")
        if self.within not in get_args(Within):
            raise ValueError(f"within must be one of {', '.join(get_args(Within))}, got {self.within!r}")

    def probability(self, p: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
        r"""One $\hat p$ for each entry of ``p``; shape in, shape out, float64.

        Raises:
            ValueError: if an entry of ``p`` is no probability.
        """
        wanted = _probabilities(p)
        if self.sigma == 0:
            return wanted
        if self.within == "clipped":
            noise = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
            return (wanted + self.sigma * noise).clamp(0, 1)
        low, high = (torch.special.ndtr((bound - wanted) / self.sigma) for bound in (0.0, 1.0))
        uniform = torch.rand(wanted.shape, generator=generator, dtype=torch.float64)
        quantile = torch.special.ndtri((low + uniform * (high - low)).clamp(1e-300, 1 - 1e-16))
        return (wanted + self.sigma * quantile).clamp(0, 1)


@dataclass(frozen=True)
class DeviceProbability:
    """The probability that a junction has when the drive was chosen for another one.

    A layer with p of 0 or 1 needs no junction and keeps its p.
    """

    device: MTJ
    """nominal device, for which the drive is chosen"""
    variation: DeviceVariation
    """spread of the devices and of their cycles"""
    law: Law = "neel_brown"
    """switching law"""
    temperature_k: float | None = None
    """temperature at run time, K; the drive was chosen at the device's"""
    chip: MTJ | None = field(default=None, repr=False)
    """the one device of a finished chip; ``None``: another device at each use, the population of chips"""

    def manufacture(self, generator: torch.Generator) -> "DeviceProbability":
        """A chip with one device out of the population, the same at every use."""
        chip = vary(self.device, self.variation, (), generator)
        return DeviceProbability(self.device, self.variation, self.law, self.temperature_k, chip)

    def probability(self, p: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
        r"""One $\hat p$ for each entry of ``p``; shape in, shape out, float64.

        Raises:
            ValueError: if an entry of ``p`` is no probability; as ``DriveError`` if the device cannot reach it.
        """
        wanted = _probabilities(p)
        drawn = (wanted > 0) & (wanted < 1)
        if not bool(drawn.any()):
            return wanted
        inner = wanted[drawn]
        current = current_for_probability(self.device, inner, law=self.law)
        actual = self.chip or vary(self.device, self.variation, tuple(inner.shape), generator)
        if self.variation.cycle_cv:
            current = current / lognormal(self.variation.cycle_cv, tuple(inner.shape), generator)
        result = wanted.clone()
        result[drawn] = switching_probability(actual, current, temperature_k=self.temperature_k, law=self.law)
        return result


def _probabilities(p: Tensor) -> Tensor:
    wanted = p.detach().to("cpu", torch.float64)
    if not bool(((wanted >= 0) & (wanted <= 1)).all()):
        raise ValueError(f"probabilities must lie in [0, 1], got {p}")
    return wanted


@dataclass(frozen=True)
class ModuleCount:
    """Dropout modules that a layer needs if it has its own, and the bits that a pass draws for it."""

    layer: str
    """module name"""
    modules: int
    """modules, one for each bit that is drawn at once"""
    draws: int
    """random bits a pass"""


def modules_and_draws(layers: Sequence[LayerShape], scheme: Scheme) -> list[ModuleCount]:
    """Modules and draws of a method, from the shapes of the network's layers.

    =========================  ==============================================================================
    ``scale_dropout``          one for each binary layer (the whole scale vector)
    ``scale_dropout_element``  one for each output channel of a binary layer
    ``spindrop``               one for each neuron that a binary layer gets
    ``spatial_spindrop``       one for each feature map that a binary layer gets
    ``spinbayes``              two for each binary layer: the index of one of four stored weight arrays
    ``mc_dropout``             one for each feature in front of the classifier
    ``block_dropout``          one for each activation behind the blocks that drop theirs, as the trace saw it: shapes
                               do not say which blocks these are (MC-Dropout in Bayesian SegNet)
    ``dropconnect``            one for each weight of the hidden layers: all but the first, the last and the 1x1
                               convolutions of shortcuts
    ``none``                   none: a deterministic network
    =========================  ==============================================================================

    Raises:
        ValueError: for an unknown scheme, or one that needs binary layers, or dropout, for a network without.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme must be one of {', '.join(get_args(Scheme))}, got {scheme!r}")
    binary = [layer for layer in layers if layer.binary]
    if not binary and scheme not in ("mc_dropout", "block_dropout", "dropconnect", "none"):
        raise ValueError(f"{scheme} is for binary layers, and this network has none")
    if scheme == "none":
        return []
    if scheme == "mc_dropout":
        counts = [(layers[-1].name, layers[-1].in_channels)]
    elif scheme == "block_dropout":
        counts = [(layer.name, layer.random_bits) for layer in layers if layer.random_bits]
        if not counts:
            raise ValueError("block_dropout is for networks that drop behind blocks, and this one draws nothing")
    elif scheme == "dropconnect":
        hidden = [layer for layer in layers[1:-1] if layer.kernel_area > 1 or layer.positions == 1]
        counts = [(layer.name, layer.weights) for layer in hidden]
    else:
        bits = {
            "scale_dropout": lambda _: 1,
            "spinbayes": lambda _: 2,
            "scale_dropout_element": lambda layer: layer.columns,
            "spindrop": lambda layer: layer.inputs,
            "spatial_spindrop": lambda layer: layer.in_channels,
        }[scheme]
        counts = [(layer.name, bits(layer)) for layer in binary]
    return [ModuleCount(name, number, number) for name, number in counts]


@dataclass(frozen=True)
class DropoutCost:
    """What the dropout of a network takes on a chip."""

    modules: int
    """modules on the chip"""
    draws: int
    """random bits a pass"""
    area_um2: float
    """area of all modules"""
    power_mw: float
    """power while all modules draw"""
    energy_pj: float
    """energy of a pass"""
    latency_ns: float
    """time of a pass's draws, one layer after another"""


def dropout_cost(counts: Sequence[ModuleCount], preset: Preset, reuse: bool = True) -> DropoutCost:
    """Cost of the modules of :func:`modules_and_draws`.

    Args:
        counts: modules and draws of each layer.
        preset: component constants.
        reuse: one set of modules, as large as the largest layer needs, serves layer after layer (the paper's single
            module for Scale-Dropout); otherwise each layer has its own.
    """
    modules = (max if reuse else sum)([count.modules for count in counts] or [0])
    draws = sum(count.draws for count in counts)
    power_mw, cycle_ns = preset.number("module_power", "mW"), preset.number("module_cycle", "ns")
    return DropoutCost(
        modules,
        draws,
        area_um2=modules * preset.number("module_area", "um2"),
        power_mw=modules * power_mw,
        energy_pj=draws * power_mw * cycle_ns,
        latency_ns=len(counts) * cycle_ns,
    )
