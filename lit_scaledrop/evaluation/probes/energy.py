"""Table VIII: energy of an image on the chip, as a band over models of the converters, and the accuracy beside it.

The energy is that of the topology at full width on the paper's images, whatever width and data the run has: it depends
on layer shapes and masks, not on weights. The masks are drawn as those of the passes that give the accuracy; for
one bit a layer they are the same.
"""

from typing import get_args

from lit_scaledrop.chip.energy import Execution, energy_metrics, estimate_energy, image_shape, slug
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.evaluation import build_posterior

EXECUTIONS: tuple[Execution, ...] = get_args(Execution)


def parts(_subject: Subject) -> list[str]:
    """The test images, and the energy of each execution of the passes."""
    return ["clean", *(f"energy/{execution}" for execution in EXECUTIONS)]


def measure(subject: Subject, part: str) -> dict[str, float]:
    """Accuracy; or energy, latency and area by treatment of the first and last layer and by model of the converters.

    Raises:
        ValueError: the subject is an ensemble, whose networks are no passes of one.
    """
    subject.require_one_network("table8")
    if part == "clean":
        _, labels, prediction = subject.clean()
        return subject.classification(prediction, labels)
    return energy(subject, EXECUTIONS[parts(subject).index(part) - 1])


def energy(subject: Subject, execution: Execution) -> dict[str, float]:
    """Energies by component, ``REAL/ADC/hw/...`` as in the glossary, and the operations behind them."""
    shape = image_shape(subject.model["network"])
    whole = {"width": 1.0, "in_channels": shape[0], "compile_network": False}
    network = LitClassifier(**{**subject.model, **whole}).network
    plan = build_posterior(network, subject.evaluation).plans[0]
    estimate = estimate_energy(network, shape, plan, execution=execution)
    metrics = {"macs": float(sum(layer.mac for layer in estimate.layers))}
    for (real, adc), report in estimate.band().items():
        metrics |= {f"{real}/{adc}/{name}": value for name, value in energy_metrics(report).items()}
        metrics |= {f"{real}/operations/{slug(entry.component)}": entry.operations for entry in report.by_component()}
    return metrics
