"""Energy of a network on a chip, from its layers and drop probabilities.

The command ``scaledrop energy``, the callback ``CrossbarEnergy`` and Table VIII use this module, which connects
networks to ``hardware``; that package knows none of our classes.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import Tensor, nn

from hardware.adc import Converter
from hardware.breakdown import EnergyReport
from hardware.chip import Chip, RealLayers
from hardware.energy import network_energy
from hardware.mapping import MappedLayer
from hardware.passes import Execution, LayerUse, expected_passes, passes_of
from hardware.workload import LayerShape, trace_workload
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import MaskPlan, differing_passes, stochastic_layers
from lit_scaledrop.networks import task_of
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.results.units import each_for

REAL_LAYERS: tuple[RealLayers, ...] = get_args(RealLayers)
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
NARROW_SKIP_BITS = 8
"""bits of a number on a skip, as an alternative to words"""
#: reports by treatment of the real layers and by name of the converters
Band = Mapping[tuple[RealLayers, str], EnergyReport]


@dataclass(frozen=True)
class Alternative:
    """The energy of an image with what another source says of one thing."""

    question: str
    source: str
    """name of the other source"""
    says: str
    """what it says, and where"""
    energy_pj: float


@dataclass(frozen=True)
class Estimate:
    """A network on a chip, and what T passes over one image ask of it."""

    layers: tuple[LayerShape, ...]
    """layers in order of execution"""
    uses: tuple[LayerUse, ...]
    """how often the passes use each of them"""
    chip: Chip
    """how they are put on a chip"""
    passes: int
    """T"""

    def report(self, **changes: Any) -> EnergyReport:
        """Energy, latency and area; ``changes`` replace fields of the chip, e.g. ``adc="mnsim"``."""
        return network_energy(self.layers, self.uses, replace(self.chip, **changes))

    def band(self) -> Band:
        """Reports for every kind of converter that has the bits, and every treatment of the first and last layer."""
        names = [name for name, one in self.chip.components.converters.items() if self._has_bits(one)]
        pairs = itertools.product(REAL_LAYERS, names)
        return {(real, adc): self.report(real_layers=real, adc=adc) for real, adc in pairs}

    def _has_bits(self, converter: Converter) -> bool:
        """Whether it comes in the bits of the chip, or in enough for every layer."""
        bits, crossbar = self.chip.adc_bits, self.chip.crossbar
        if bits is not None:
            return converter.comes_in(bits)
        return converter.most >= max(MappedLayer(layer, crossbar).adc_bits for layer in self.layers)

    def tornado(self) -> list[Alternative]:
        """Energies with what other sources say, one thing at a time, the largest change first.

        Converters are alternatives of each other, bounds and outliers not; skips of 8 bits are an alternative of those
        of 32.
        """
        parts, found = self.chip.components, []
        for name, converter in parts.converters.items():
            if name != self.chip.adc and converter.role == "converter" and self._has_bits(converter):
                found.append(
                    Alternative(
                        "converter", name, f"{converter.node}: {converter.source}", self.report(adc=name).energy_pj
                    )
                )
        for question, known in parts.alternatives.items():
            for source, constants in known.items():
                says = "; ".join(f"{name} {c.value} {c.unit}: {c.source}" for name, c in constants.items())
                changed = parts.with_alternative(question, source)
                found.append(Alternative(question, source, says, self.report(components=changed).energy_pj))
        if self.chip.skip_bits > NARROW_SKIP_BITS and any(layer.additions for layer in self.layers):
            says = "the width of a skip is our choice: the paper gives none"
            narrow = self.report(skip_bits=NARROW_SKIP_BITS)
            found.append(Alternative("skip", f"{NARROW_SKIP_BITS} bits", says, narrow.energy_pj))
        own = self.report().energy_pj
        return sorted(found, key=lambda one: -abs(one.energy_pj - own))

    def extremes(self, alternatives: Sequence[Alternative]) -> tuple[float, float]:
        """Energies, pJ, with the source of each thing that gives the least, and the most, all at once."""
        own, ends = self.report().energy_pj, []
        for best in (min, max):
            parts, changes = self.chip.components, dict[str, Any]()
            for question in {one.question for one in alternatives}:
                mine = [one for one in alternatives if one.question == question]
                chosen = best(mine, key=lambda one: one.energy_pj)
                if best(chosen.energy_pj, own) == own:
                    continue
                if question == "converter":
                    changes["adc"] = chosen.source
                elif question == "skip":
                    changes["skip_bits"] = NARROW_SKIP_BITS
                else:
                    parts = parts.with_alternative(question, chosen.source)
            ends.append(self.report(components=parts, **changes).energy_pj)
        return ends[0], ends[1]

    def tera_operations_a_watt(self, report: EnergyReport) -> float:
        """Two operations a multiply-accumulate, of all T passes that were asked for, over their energy."""
        return 2 * self.passes * sum(layer.mac for layer in self.layers) / report.energy_pj

    def conversion_for(self, energy_pj: float, report: EnergyReport) -> float | None:
        """Energy of a conversion, pJ, with which an image would take ``energy_pj``; ``None`` if all else takes more."""
        adc = next((entry for entry in report.by_component() if entry.component == "ADC"), None)
        return each_for(energy_pj, report.energy_pj, adc.energy_pj, adc.operations) if adc else None


def estimate_energy(
    network: nn.Module,
    input_shape: tuple[int, ...],
    passes: int = 10,
    chip: Chip | None = None,
    execution: Execution = "loop",
    plan: MaskPlan | None = None,
    seed: int = 0,
    layers: Sequence[LayerShape] | None = None,
) -> Estimate:
    """Count what the passes over one image ask of a chip.

    Passes one by one, and those with what nothing random precedes computed once, are counted in expectation over all
    masks, in closed form, with the standard deviation over mask plans. What passes share depends on their masks: those
    are drawn.

    Args:
        network: any network; it stays as it is, and so does the global random stream.
        input_shape: shape of one image, e.g. ``(3, 32, 32)``.
        passes: T; a network that draws nothing makes one, a Tiny-Deep Ensemble at most one a member.
        chip: how the network is put on a chip, by default 128 x 128 crossbars with ISAAC's converters.
        execution: every pass by itself, once what nothing random precedes, or common prefixes once.
        plan: masks to count instead of the expectation, e.g. those of a prediction.
        seed: of the masks that sharing needs, where no plan is given; 0 gives the first passes of a default evaluation.
        layers: the network's, where they were traced already.

    Raises:
        ValueError: for a plan of another network, or one that was enumerated: its masks are no passes.

    >>> from lit_scaledrop import METHODS, build_network
    >>> lenet5 = build_network("lenet5", METHODS["proposed"], in_channels=1)
    >>> estimate = estimate_energy(lenet5, (1, 32, 32))
    >>> sum(layer.mac for layer in estimate.layers), estimate.uses[1].draws, estimate.uses[1].scaled
    (416520, 10, 9.0)
    """
    layers = layers or trace_workload(network, input_shape)
    probabilities = drop_probabilities(network)
    if plan is None and execution == "shared":
        plan = PosteriorPredictive(network, passes, seed).plans[0]
    if plan is None:
        passes = differing_passes(network, passes)
        uses = expected_passes(layers, passes, probabilities, execution)
    else:
        passes = plan.samples
        uses = passes_of(layers, passes, keep_masks(network, plan), execution, probabilities)
    return Estimate(tuple(layers), tuple(uses), chip or Chip(), passes)


def drop_probabilities(network: nn.Module) -> dict[str, float]:
    """Drop probability of every module that draws, by its name."""
    # bits of an index are fair, and have no p; seven digits are what a float32 has
    return {name: round(float(getattr(layer, "p", 0.5)), 7) for name, layer in stochastic_layers(network).items()}


def keep_masks(network: nn.Module, plan: MaskPlan) -> dict[str, Tensor]:
    """Keep bits of a plan as the hardware model takes them: one row a pass, for a scale one column or one a channel.

    Raises:
        ValueError: for a plan that was enumerated: its masks are no passes.
    """
    if plan.weights is not None:
        raise ValueError("enumerated masks are not passes of a chip: draw a plan")
    layers = stochastic_layers(network)
    return {
        name: draws[:, 0] if isinstance(layers[name], ScaleDropout) else draws.flatten(1)
        for name, draws in plan.draws.items()
    }


def image_shape(network: str) -> tuple[int, int, int]:
    """Shape of the paper's images for a topology: MNIST's, padded to 32 x 32, for LeNet-5, else CIFAR-10's.

    Networks for segmentation get 256 x 256 pixels in colour.
    """
    return task_of(network).image_shape(network)


def energy_metrics(report: EnergyReport) -> dict[str, float]:
    """The keys ``hw/...`` of the glossary: energy in all and by component, nJ; latency, us; area, mm2."""
    parts = {f"hw/energy_nj/{slug(e.component)}": e.energy_pj / 1e3 for e in report.by_component()}
    return energy_totals(report) | parts


def energy_totals(report: EnergyReport) -> dict[str, float]:
    """Energy in all, nJ; latency, us; area, mm2."""
    return {
        "hw/energy_nj": report.energy_pj / 1e3,
        "hw/latency_us": report.latency_ns / 1e3,
        "hw/area_mm2": report.area_um2 / 1e6,
    }


def slug(component: str) -> str:
    """Name of a component as a part of a key.

    >>> slug("scale multiplier"), slug("ADC")
    ('scale_multiplier', 'adc')
    """
    return component.lower().replace(" ", "_")
