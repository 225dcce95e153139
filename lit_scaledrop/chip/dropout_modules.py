"""``scaledrop cost``: the dropout modules of every method on every topology (Table VII), at full width, recorded.

The number of modules and of bits per pass follows from the shapes of the layers
(``hardware.dropout_modules``); they are checked against the bits that the method's layers really draw. Nothing is
trained, so the numbers are the same in every profile. One JSON file a pair: ``RESULTS/PROFILE/table7/ID.json``.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from torch import nn

from hardware.constants import Preset
from hardware.dropout_modules import DropoutCost, ModuleCount, Scheme, dropout_cost, modules_and_draws
from hardware.mtj import MTJ
from hardware.workload import trace_workload
from lit_scaledrop.chip.counted import Count, identity
from lit_scaledrop.chip.energy import drop_probabilities, image_shape
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks import NETWORKS, SEGMENTATION_NETWORKS
from lit_scaledrop.networks.tasks import TASKS, task_of
from lit_scaledrop.results.measurement import Measurement

STUDY = "table7"
#: raised when other numbers come to stand under the same names
COST_VERSION = 1
CONSTANTS = {"module_power": "mW", "module_cycle": "ns", "module_area": "um2"}
OF_AREA = ("module_area",)
"""What a junction, which has energy and time of its own, leaves of them."""


@dataclass(frozen=True)
class Dropout:
    """A way to drop that the hardware model can count, as a method of ours."""

    method: str
    """key of ``METHODS`` or ``SEGMENTATION_METHODS``"""
    element: bool = False
    """a random bit for each element of a scale, instead of one for the vector"""
    segments: bool = False
    """a method of segmentation"""
    convention: str = ""
    """whose way to count it is, where it is not the bits that our layers draw"""

    @property
    def resolved(self) -> Method:
        """The method with its options, named as in the table."""
        method = TASKS["segmentation" if self.segments else "classification"].method(self.method)
        if self.element:
            return replace(method.with_scale(mask="element"), label=f"{method.label}, element-wise")
        return replace(method, label=f"{method.label}, {self.convention}") if self.convention else method


SCHEMES: dict[Scheme, Dropout] = {
    "scale_dropout": Dropout("proposed"),
    "scale_dropout_element": Dropout("proposed", element=True),
    "spindrop": Dropout("spindrop"),
    "spindrop_kernel": Dropout("spindrop", convention="its authors' count"),
    "spatial_spindrop": Dropout("spatial_spindrop"),
    "spinbayes": Dropout("spinbayes"),
    "mc_dropout": Dropout("mc_dropout_htanh"),
    "dropconnect": Dropout("mc_dropconnect"),
}
SEGMENTATION_SCHEMES: dict[Scheme, Dropout] = {
    "scale_dropout": Dropout("proposed", segments=True),
    "scale_dropout_element": Dropout("proposed", element=True, segments=True),
    "spindrop": Dropout("spindrop", segments=True),
    "spindrop_kernel": Dropout("spindrop", segments=True, convention="its authors' count"),
    "spatial_spindrop": Dropout("spatial_spindrop", segments=True),
    "block_dropout": Dropout("mc_dropout", segments=True),
}
TOPOLOGIES = (*NETWORKS, "unet", "segnet")


def schemes_of(network: str) -> dict[Scheme, Dropout]:
    """The ways to drop that a topology has."""
    return SEGMENTATION_SCHEMES if network in SEGMENTATION_NETWORKS else SCHEMES


def module_count(
    network: str, scheme: Scheme, preset: Preset, junction: MTJ | None = None, fingerprint: str | None = None
) -> Count:
    """Count one topology and scheme; junction and fingerprint are those of a chip file, if there is one."""
    started, dropout, counts = datetime.now(UTC), schemes_of(network)[scheme], count_modules(network, scheme)
    config = {
        "network": network,
        "scheme": scheme,
        "image_shape": list(image_shape(network)),
        "layers": [count.layer for count in counts],
        "constants": {name: asdict(preset.constants[name]) for name in (CONSTANTS if junction is None else OF_AREA)},
        **({"chip": fingerprint} if fingerprint else {}),
    }
    id, numbers = cost_id(network, scheme, preset, fingerprint), cost_measurements(counts, preset, junction)
    return Count(STUDY, id, network, dropout.method, dropout.resolved, numbers, config, started)


def count_modules(network: str, scheme: Scheme) -> list[ModuleCount]:
    """Modules and draws of every layer of a topology at full width, for the paper's images.

    Raises:
        ValueError: if the layers of the method draw other numbers of bits than the hardware model counts.
    """
    shape = image_shape(network)
    net = build(network, scheme, shape)
    layers, probability = trace_workload(net, shape), drop_probabilities(net)
    of_layer = {layer.name: probability[layer.front or layer.behind] for layer in layers if layer.random_bits}
    # dropout in front of a classifier is traced behind the layer before it, the last that draws
    counts = [
        replace(count, probability=of_layer.get(count.layer, [*of_layer.values()][-1]))
        for count in modules_and_draws(layers, scheme)
    ]
    drawn = [layer.random_bits for layer in stochastic_layers(net).values()]
    if not schemes_of(network)[scheme].convention and sorted(drawn) != sorted(count.draws for count in counts):
        raise ValueError(f"{scheme} counts {counts} on {network}, but its layers draw {drawn} bits")
    return counts


def build(network: str, scheme: Scheme, shape: tuple[int, int, int]) -> nn.Module:
    """A topology at full width that drops by a scheme, for images of a shape."""
    method = schemes_of(network)[scheme].resolved
    return task_of(network).build(network, method, in_channels=shape[0], image_size=shape[1])


def cost_measurements(counts: Sequence[ModuleCount], preset: Preset, junction: MTJ | None = None) -> list[Measurement]:
    """Numbers of Table VII: of the topology, with and without re-use of the modules, and of every layer."""

    def numbers(cost: DropoutCost, *names: str) -> dict[str, float]:
        return {name: float(value) for name, value in asdict(cost).items() if not names or name in names}

    reused, separate = (dropout_cost(counts, preset, reuse, junction) for reuse in (True, False))
    modules = ("modules", "area_um2", "power_mw")
    return [
        Measurement(numbers(reused, "draws", "energy_pj", "latency_ns")),  # the same with and without re-use
        Measurement(numbers(reused, *modules), {"condition": "reused"}),
        Measurement(numbers(separate, *modules), {"condition": "separate"}),
        *(
            Measurement(numbers(dropout_cost([count], preset, junction=junction)), {"layer": count.layer})
            for count in counts
        ),
    ]


def cost_id(network: str, scheme: Scheme, preset: Preset, fingerprint: str | None = None) -> str:
    """Twelve hexadecimal digits for what is counted and with which constants, and on which chip file, if on one."""
    values = {name: preset.number(name, unit) for name, unit in CONSTANTS.items()}
    return identity(COST_VERSION, network, scheme, values, *([] if fingerprint is None else [fingerprint]))
