"""Energy, latency and area of a network on a chip, by layer and component."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What one component of one layer takes for all passes over one image."""

    layer: str
    """module name"""
    component: str
    operations: float
    """how often it is used"""
    energy_pj: float
    latency_ns: float = 0.0
    area_um2: float = 0.0


@dataclass(frozen=True)
class EnergyReport:
    """Breakdown of a network's cost for one image."""

    entries: tuple[Entry, ...]
    """one for each layer and component"""
    deviation_pj: float = 0.0
    """standard deviation of the energy over mask plans, pJ; 0 where masks were drawn, or change nothing"""

    @property
    def energy_pj(self) -> float:
        """Energy an image, pJ."""
        return math.fsum(entry.energy_pj for entry in self.entries)

    @property
    def latency_ns(self) -> float:
        """Time an image, ns."""
        return math.fsum(entry.latency_ns for entry in self.entries)

    @property
    def area_um2(self) -> float:
        """Area, um2."""
        return math.fsum(entry.area_um2 for entry in self.entries)

    def by_component(self) -> list[Entry]:
        """Sums over the layers, in the order in which a signal passes the components."""
        return self._sums(lambda entry: entry.component)

    def by_layer(self) -> list[Entry]:
        """Sums over the components, in the order of the layers."""
        return self._sums(lambda entry: entry.layer)

    def _sums(self, key: Callable[[Entry], str]) -> list[Entry]:
        sums: dict[str, Entry] = {}
        for entry in self.entries:
            old = sums.get(key(entry), Entry(entry.layer, entry.component, 0.0, 0.0))
            sums[key(entry)] = Entry(
                old.layer,
                old.component,
                old.operations + entry.operations,
                old.energy_pj + entry.energy_pj,
                old.latency_ns + entry.latency_ns,
                old.area_um2 + entry.area_um2,
            )
        return list(sums.values())
