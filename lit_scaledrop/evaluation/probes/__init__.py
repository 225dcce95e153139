"""What `scaledrop assess` measures on a trained run: a *probe* names its parts and measures them one by one.

A new table or figure is one module here with two functions and one entry of :data:`PROBES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lit_scaledrop.evaluation.probes import (
    chip,
    corruptions,
    design,
    drives,
    noise,
    ood,
    outliers,
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
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.measurement import Coordinates, Measurement


@dataclass(frozen=True)
class Probe:
    """How a trained run is measured."""

    parts: Callable[[Subject], dict[str, Coordinates]]
    """What is measured, in order: coordinates by name. May depend on the subject's data and settings, not on a
    network."""
    measure: Callable[[Subject, Coordinates], list[Measurement]]
    """Coordinates of a part -> its measurements. Raises ``DatasetNotFoundError`` where data is absent."""
    constants: Callable[[Evaluation], dict[str, Any]] | None = None
    """What else the numbers follow from, for the result's identity: others are another result."""
    own_chips: bool = False
    """Whether it simulates chips itself and needs the digital networks."""
    split: str = "test"
    """Whose images it measures: `test` or `validation`."""
    version: int = 1
    """Increased when the probe measures more or differently: a repeated command then measures all its parts again."""


PROBES: dict[str, Probe] = {
    "table4": Probe(variation.parts, variation.measure),
    "table6": Probe(ood.parts, ood.measure, version=2),
    "table9": Probe(selective.parts, selective.measure, version=2),
    "table10": Probe(corruptions.parts, corruptions.measure, corruptions.constants),
    "figure5": Probe(noise.parts, noise.measure),
    "figure6": Probe(rotation.parts, rotation.measure),
    "figure7": Probe(passes.parts, passes.measure),
    "posterior": Probe(posterior.parts, posterior.measure),
    "threshold": Probe(threshold.parts, threshold.measure),
    "reliability": Probe(reliability.parts, reliability.measure),
    "hardware": Probe(chip.parts, chip.measure, chip.constants, own_chips=True),
    "temperature": Probe(
        partial(drives.parts, "temperature_k"), partial(drives.measure, "temperature_k"), drives.constants
    ),
    "ageing": Probe(partial(drives.parts, "drift"), partial(drives.measure, "drift"), drives.constants),
    "pareto": Probe(design.parts, design.measure, design.constants, own_chips=True),
    "ablation-sigma": Probe(variation.parts, variation.measure),  # Table IV over a wider range
    "ablation-passes": Probe(prefixes.parts, prefixes.measure),
    "search-uncertainty": Probe(outliers.parts, outliers.measure, split="validation"),
}

__all__ = ["PROBES", "Probe", "Subject"]
