"""Table VIII: energy of an image on the chip, as a band over models of the converters, and the accuracy beside it.

The energy is that of the topology at full width on the paper's images, whatever width and data the run has: it depends
on layer shapes and masks, not on weights. The masks are drawn as those of the passes that give the accuracy; for
one bit a layer they are the same.
"""

from typing import cast, get_args

from lit_scaledrop.chip.energy import Execution, energy_totals, estimate_energy, image_shape, slug
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.evaluation import build_posterior
from lit_scaledrop.results.measurement import Coordinates, Measurement

EXECUTIONS: tuple[Execution, ...] = get_args(Execution)


def parts(_subject: Subject) -> dict[str, Coordinates]:
    """The test images, and the energy of each execution of the passes."""
    energies = {f"energy/{execution}": {"execution": execution} for execution in EXECUTIONS}
    return {"clean": {"suite": "clean"}, **energies}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Accuracy; or energy, latency and area by treatment of the first and last layer and by model of the converters.

    Raises:
        ValueError: the subject is an ensemble, whose networks are no passes of one.
    """
    subject.require_one_network("table8")
    if "suite" in at:
        _, labels, prediction = subject.clean()
        return [Measurement(subject.classification(prediction, labels))]
    return energy(subject, cast(Execution, at["execution"]))


def energy(subject: Subject, execution: Execution) -> list[Measurement]:
    """Energies by treatment, converter and component, and the operations behind them."""
    shape = image_shape(subject.model["network"])
    whole = {"width": 1.0, "in_channels": shape[0], "compile_network": False}
    network = LitClassifier(**{**subject.model, **whole}).network
    plan = build_posterior(network, subject.evaluation).plans[0]
    estimate = estimate_energy(network, shape, plan, execution=execution)
    found = [Measurement({"macs": float(sum(layer.mac for layer in estimate.layers))})]
    operations: dict[tuple[str, str], float] = {}
    for (real, adc), report in estimate.band().items():
        chip = {"real_layers": real, "adc": adc}
        found.append(Measurement(energy_totals(report), chip))
        for entry in report.by_component():
            component = slug(entry.component)
            found.append(Measurement({"hw/energy_nj": entry.energy_pj / 1e3}, {**chip, "component": component}))
            operations[real, component] = entry.operations
    return found + [
        Measurement({"operations": float(number)}, {"real_layers": real, "component": component})
        for (real, component), number in operations.items()
    ]
