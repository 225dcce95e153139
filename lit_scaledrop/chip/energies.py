"""``scaledrop cost --table table8``: records the energy per image of methods and topologies at full width.

Energies follow from the shapes of the layers and the drop probabilities, not from weights: nothing is trained, and the
numbers are the same in every profile. One JSON file a pair: ``RESULTS/PROFILE/table8/ID.json``.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

from hardware.chip import Chip, Scale
from hardware.passes import Execution
from hardware.presets import Components
from hardware.workload import trace_workload
from lit_scaledrop.chip.counted import Count, identity
from lit_scaledrop.chip.energy import (
    EXECUTIONS,
    REAL_LAYERS,
    Estimate,
    energy_totals,
    estimate_energy,
    image_shape,
    slug,
)
from lit_scaledrop.layers.stochastic import differing_passes
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks.tasks import task_of
from lit_scaledrop.results.measurement import Measurement

STUDY = "table8"
#: raised when other numbers come to stand under the same names
ENERGY_VERSION = 3
PASSES = 10
"""The paper's T"""
NETWORKS = ("lenet5", "vgg_small", "resnet20")
COMPARED = ("proposed", "proposed_affine", "spindrop", "spatial_spindrop", "mc_dropout_irnet", "tiny_deep_ensemble")
"""Methods with a binary network, which a crossbar can hold."""
SCALES: tuple[Scale, ...] = get_args(Scale)


def energy_count(network: str, method: str, chip: Chip, fingerprint: str | None = None) -> Count:
    """Count one topology and method, in all executions, with both kinds of scales; the fingerprint is a chip file's."""
    parts = chip.components
    started, resolved, shape = datetime.now(UTC), METHODS[method], image_shape(network)
    built = task_of(network).build(network, resolved, in_channels=shape[0], image_size=shape[1])
    layers = trace_workload(built, shape)
    found = [Measurement({"macs": float(sum(layer.mac for layer in layers))})]
    for execution in EXECUTIONS:
        estimate = estimate_energy(built, shape, PASSES, chip, execution, layers=layers)
        for scale in SCALES:
            found += measurements(replace(estimate, chip=replace(estimate.chip, scale=scale)), execution)
    config = {
        "network": network,
        "passes": differing_passes(built, PASSES),
        "adc": chip.adc,
        "image_shape": list(shape),
        "converters": {
            name: {"title": one.title, "role": one.role, "source": one.source, "yours": one.yours}
            for name, one in parts.converters.items()
        },
        "constants": {name: constant.value for name, constant in parts.constants.items()},
        "sources": {name: constant.source for name, constant in parts.constants.items()},
        **({"chip": fingerprint} if fingerprint else {}),
    }
    return Count(
        STUDY, energy_id(network, method, parts, fingerprint), network, method, resolved, found, config, started
    )


def measurements(estimate: Estimate, execution: Execution) -> list[Measurement]:
    """Energies by converter and treatment of the first and last layer; components; other sources one by one."""
    where = {"execution": execution, "scale": estimate.chip.scale}
    found = []
    for (real, adc), report in estimate.band().items():
        rate = {"tops_per_watt": estimate.tera_operations_a_watt(report)}
        spread = {"energy_std_nj": report.deviation_pj / 1e3}
        found.append(Measurement(energy_totals(report) | rate | spread, {**where, "real_layers": real, "adc": adc}))
    for real in REAL_LAYERS:
        for entry in estimate.report(real_layers=real).by_component():
            at = {**where, "real_layers": real, "component": slug(entry.component)}
            found.append(Measurement({"hw/energy_nj": entry.energy_pj / 1e3, "operations": entry.operations}, at))
    if execution == "loop":
        alternatives = estimate.tornado()
        for one in alternatives:
            at = {**where, "condition": f"{one.question}: {one.source}"}
            found.append(Measurement({"hw/energy_nj": one.energy_pj / 1e3}, at))
        for end, energy_pj in zip(("lowest", "highest"), estimate.extremes(alternatives), strict=True):
            found.append(Measurement({"hw/energy_nj": energy_pj / 1e3}, {**where, "condition": end}))
    return found


def energy_id(network: str, method: str, parts: Components, fingerprint: str | None = None) -> str:
    """Twelve hexadecimal digits for what is counted and with which constants, and on which chip file, if on one."""
    alternatives = {
        f"{question}: {source}": {name: constant.value for name, constant in new.items()}
        for question, known in parts.alternatives.items()
        for source, new in known.items()
    }
    of_file = [] if fingerprint is None else [fingerprint]
    return identity(STUDY, ENERGY_VERSION, network, method, PASSES, parts.values(), alternatives, *of_file)
