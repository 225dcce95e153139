"""Measurements: values of metrics by name, with the coordinates at which they were measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.schema import check_type

Coordinate = str | int | float
Coordinates = Mapping[str, Coordinate]
COORDINATES: dict[str, type] = {
    "condition": str,
    "rule": str,
    "chip": int,
    "effect": str,
    "level": float,
    "suite": str,
    "corruption": str,
    "severity": int,
    "angle": float,
    "strength": float,
    "image": int,
    "plan": int,
    "passes": int,
    "quantile": float,
    "threshold": float,
    "of": str,
    "class": int,
    "bin": int,
    "layer": str,
    "bits": int,
    "rows": int,
    "mapping": str,
    "execution": str,
    "scale": str,
    "real_layers": str,
    "adc": str,
    "component": str,
}
"""What a number may be measured at, with the type of its values. A probe that needs another adds it here."""


@dataclass(frozen=True)
class Measurement:
    """What was measured at one place.

    Raises:
        ValueError: no numbers, one that is not finite or no share where a share is due, or an unknown coordinate.
    """

    metrics: dict[str, Any]
    """Finite numbers by name; shares from 0 to 1, not per cent; likelihoods and entropies in nats."""
    at: Coordinates = field(default_factory=dict)
    """Values by the names of :data:`COORDINATES`; what is not named does not apply."""

    def __post_init__(self) -> None:
        for name, value in self.at.items():
            if name not in COORDINATES:
                raise ValueError(f"unknown coordinate {name!r}; there are {', '.join(COORDINATES)}")
            check_type(f"coordinate {name}", value, COORDINATES[name])
        if not self.metrics:
            raise ValueError("there are no numbers: evaluate the run before writing its result")
        for name, value in self.metrics.items():
            check_type(name, value, float)
            if name in METRICS and METRICS[name].unit == "1" and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, but must be a fraction between 0 and 1, not percent")

    def within(self, at: Coordinates) -> "Measurement":
        """The same, measured within the part of a probe that has the coordinates ``at``."""
        return Measurement(self.metrics, {**at, **self.at})

    def record(self) -> dict[str, Any]:
        """As it stands in a file: the coordinates beside ``metrics``."""
        return {**self.at, "metrics": self.metrics}

    @classmethod
    def of(cls, record: Any) -> "Measurement":
        """The inverse of :meth:`record`.

        Raises:
            ValueError: it is no measurement.
        """
        if not isinstance(record, dict) or not isinstance(record.get("metrics"), dict):
            raise ValueError(f"a measurement has coordinates and metrics, not {record!r:.60}")
        return cls(record["metrics"], {name: value for name, value in record.items() if name != "metrics"})


def flat_names(measurements: Iterable[Measurement]) -> dict[str, float]:
    """All numbers by flat names, for trackers that know no coordinates.

    >>> flat_names([Measurement({"cls/acc": 0.5}), Measurement({"ood/rate": 0.9}, {"chip": 3, "suite": "uniform"})])
    {'cls/acc': 0.5, 'chip/3/uniform/ood/rate': 0.9}
    """
    flat: dict[str, float] = {}
    for one in measurements:
        place = [value if isinstance(value, str) else f"{name}/{value:g}" for name, value in one.at.items()]
        flat |= {"/".join([*place, metric]): value for metric, value in one.metrics.items()}
    return flat
