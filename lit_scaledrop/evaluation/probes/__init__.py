"""What `scaledrop assess` measures on a trained run: a *probe* names its parts and measures them one by one.

A new table or figure is one module here with two functions and one entry of :data:`PROBES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lit_scaledrop.chip.energy import component_values
from lit_scaledrop.evaluation.probes import (
    chip,
    corruptions,
    energy,
    noise,
    ood,
    passes,
    posterior,
    prefixes,
    reliability,
    rotation,
    selective,
    threshold,
    variation,
)
from lit_scaledrop.evaluation.probes.subject import Subject


@dataclass(frozen=True)
class Probe:
    """How a trained run is measured."""

    parts: Callable[[Subject], Sequence[str]]
    """Names of what is measured, in order; it may look at the subject's data and settings, not at its networks."""
    measure: Callable[[Subject, str], dict[str, float]]
    """One part -> its metrics, with keys as in the glossary. Raises ``DatasetNotFoundError`` where data is absent."""
    constants: Callable[[], dict[str, Any]] | None = None
    """What else the numbers follow from, for the result's identity: others are another result."""


PROBES: dict[str, Probe] = {
    "table4": Probe(variation.parts, variation.measure),
    "table6": Probe(ood.parts, ood.measure),
    "table8": Probe(energy.parts, energy.measure, component_values),
    "table9": Probe(selective.parts, selective.measure),
    "table10": Probe(corruptions.parts, corruptions.measure, corruptions.constants),
    "figure5": Probe(noise.parts, noise.measure),
    "figure6": Probe(rotation.parts, rotation.measure),
    "figure7": Probe(passes.parts, passes.measure),
    "posterior": Probe(posterior.parts, posterior.measure),
    "threshold": Probe(threshold.parts, threshold.measure),
    "reliability": Probe(reliability.parts, reliability.measure),
    "hardware": Probe(chip.parts, chip.measure),
    "ablation-sigma": Probe(variation.parts, variation.measure),  # Table IV over a wider range
    "ablation-passes": Probe(prefixes.parts, prefixes.measure),
}

__all__ = ["PROBES", "Probe", "Subject"]
