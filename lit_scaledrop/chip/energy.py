"""What a network takes on a chip: from its layers and the masks that it draws to the energy of an image.

The command ``scaledrop energy``, the callback ``CrossbarEnergy`` and Table VIII all ask here, and here networks meet
``hardware``, which knows none of our classes.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import Tensor, nn

from hardware.adc import ADC_MODELS, AdcModel
from hardware.constants import Preset
from hardware.energy import Chip, EnergyReport, RealLayers, network_energy
from hardware.passes import Execution, LayerUse, passes_of
from hardware.presets import components
from hardware.workload import LayerShape, trace_workload
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import MaskPlan, stochastic_layers
from lit_scaledrop.networks import task_of

REAL_LAYERS: tuple[RealLayers, ...] = get_args(RealLayers)
#: reports by treatment of the real layers and by model of the converters
Band = Mapping[tuple[RealLayers, AdcModel], EnergyReport]


@dataclass(frozen=True)
class Estimate:
    """A network on a chip, and what T passes over one image ask of it."""

    layers: tuple[LayerShape, ...]
    """layers in order of execution"""
    uses: tuple[LayerUse, ...]
    """how often the passes use each of them"""
    chip: Chip
    """how they are put on a chip"""
    preset: Preset
    """component constants"""

    def report(self, **changes: Any) -> EnergyReport:
        """Energy, latency and area; ``changes`` replace fields of the chip, e.g. ``adc="mnsim"``."""
        return network_energy(self.layers, self.uses, replace(self.chip, **changes), self.preset)

    def band(self) -> Band:
        """Reports for every model of the converters and every treatment of the first and last layer.

        Raises:
            PresetError: if a model has no converter of the chip's bits.
        """
        pairs = itertools.product(REAL_LAYERS, ADC_MODELS)
        return {(real, adc): self.report(real_layers=real, adc=adc) for real, adc in pairs}


def estimate_energy(
    network: nn.Module,
    input_shape: tuple[int, ...],
    plan: MaskPlan,
    chip: Chip | None = None,
    preset: Preset | None = None,
    execution: Execution = "loop",
) -> Estimate:
    """Count what the passes of a plan ask of a chip, for one image.

    Args:
        network: any network; it stays as it is, and so does the global random stream.
        input_shape: shape of one image, e.g. ``(3, 32, 32)``.
        plan: the masks, e.g. those of a prediction: ``PosteriorPredictive(network, 10).plans[0]``.
        chip: how the network is put on a chip, by default 128 x 128 crossbars with ISAAC's converters.
        preset: component constants, by default those of ``hardware/presets/components.yaml``.
        execution: every pass by itself, or common prefixes once.

    Raises:
        ValueError: for a plan of another network, or one that was enumerated: its masks are no passes.

    >>> from lit_scaledrop import METHODS, PosteriorPredictive, build_network
    >>> lenet5 = build_network("lenet5", METHODS["proposed"], in_channels=1)
    >>> estimate = estimate_energy(lenet5, (1, 32, 32), PosteriorPredictive(lenet5, 10).plans[0])
    >>> sum(layer.mac for layer in estimate.layers), estimate.uses[1].draws
    (416520, 10)
    """
    layers = trace_workload(network, input_shape)
    uses = passes_of(layers, plan.samples, keep_masks(network, plan), execution)
    return Estimate(tuple(layers), tuple(uses), chip or Chip(), preset or components())


def keep_masks(network: nn.Module, plan: MaskPlan) -> dict[str, Tensor]:
    """Keep bits of a plan as the hardware model takes them: one row a pass, for a scale one column or one a channel.

    Raises:
        ValueError: for a plan that was enumerated: its masks are no passes.
    """
    if plan.weights is not None:
        raise ValueError("the masks of an enumeration are no passes of a chip: draw a plan")
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


def component_values() -> dict[str, Any]:
    """Values of the component constants: a chip of others is another one."""
    return {name: constant.value for name, constant in components().constants.items()}


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
