"""Number of dropout modules of a method on a chip, and energy and time of their draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from hardware.constants import Preset
from hardware.draws import junction_bit, module_bit
from hardware.mtj import MTJ
from hardware.workload import LayerShape

Scheme = Literal[
    "scale_dropout",
    "scale_dropout_element",
    "spindrop",
    "spindrop_kernel",
    "spatial_spindrop",
    "spinbayes",
    "mc_dropout",
    "block_dropout",
    "dropconnect",
    "none",
]


@dataclass(frozen=True)
class ModuleCount:
    """Dropout modules that a layer needs if it has its own, and the bits that a pass draws for it."""

    layer: str
    modules: int
    """modules, one for each bit that is drawn at once"""
    draws: int
    """random bits a pass"""
    probability: float = 0.0
    """drop probability of its bits, for the drive of a junction"""


def modules_and_draws(layers: Sequence[LayerShape], scheme: Scheme) -> list[ModuleCount]:
    """Modules and draws of a method, from the shapes of the network's layers.

    =========================  ==============================================================================
    ``scale_dropout``          one for each binary layer (the whole scale vector)
    ``scale_dropout_element``  one for each output channel of a binary layer
    ``spindrop``               one for each neuron that a binary layer gets: ours, every neuron has a bit of its own
    ``spindrop_kernel``        one for each input of a kernel, ``K K C_in``, that serves one output pixel after another:
                               what its authors count, by the ninth that Spatial-SpinDrop needs of it
                               (arXiv:2306.10185); drawn once a pass here, as the least
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
            "spindrop_kernel": lambda layer: layer.in_channels * layer.kernel_area,
            "spatial_spindrop": lambda layer: layer.in_channels,
        }[scheme]
        counts = [(layer.name, bits(layer)) for layer in binary]
    return [ModuleCount(name, number, number) for name, number in counts]


@dataclass(frozen=True)
class DropoutCost:
    """What the dropout of a network takes on a chip."""

    modules: int
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


def dropout_cost(
    counts: Sequence[ModuleCount], preset: Preset, reuse: bool = True, junction: MTJ | None = None
) -> DropoutCost:
    """Cost of the modules of :func:`modules_and_draws`.

    Args:
        counts: modules and draws of each layer.
        preset: component constants.
        reuse: one set of modules, as large as the largest layer needs, serves layer after layer (the paper's single
            module for Scale-Dropout); otherwise each layer has its own.
        junction: device in the modules, which gives their energy, power and time (default: the paper's module).

    Raises:
        DriveError: the junction cannot reach the drop probability of a layer.
    """
    over = max if reuse else sum
    modules = over([count.modules for count in counts] or [0])
    draws = sum(count.draws for count in counts)
    area_um2 = modules * preset.number("module_area", "um2")
    if junction is not None:
        bits = [junction_bit(junction, count.probability) for count in counts]
        each_pj = [bit.mean_pj(count.probability) for bit, count in zip(bits, counts, strict=True)]
        powers_mw = [n.modules * pj / bit.cycle_ns for n, pj, bit in zip(counts, each_pj, bits, strict=True)]
        energy_pj = sum(count.draws * pj for count, pj in zip(counts, each_pj, strict=True))
        latency_ns = sum(bit.cycle_ns for bit in bits)
        return DropoutCost(modules, draws, area_um2, over(powers_mw or [0.0]), energy_pj, latency_ns)
    power_mw, bit = preset.number("module_power", "mW"), module_bit(preset)
    return DropoutCost(
        modules,
        draws,
        area_um2=area_um2,
        power_mw=modules * power_mw,
        energy_pj=draws * bit.kept_pj,
        latency_ns=len(counts) * bit.cycle_ns,
    )
