"""``scaledrop cost``: dropout modules and energy of topologies and methods on a chip, one recorded result each.

``table7``: number, area and power of the dropout modules. ``table8``: energy of an image. Nothing is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from hardware.chip import Chip
from hardware.chip_file import load_chip
from lit_scaledrop.chip import dropout_modules, energies
from lit_scaledrop.chip.counted import Count
from lit_scaledrop.chip.dropout_modules import SCHEMES, SEGMENTATION_SCHEMES, TOPOLOGIES, schemes_of
from lit_scaledrop.chip.options import ChipOptions
from lit_scaledrop.cli.command import call
from lit_scaledrop.naming import lookup
from lit_scaledrop.results import provenance
from lit_scaledrop.results.result import Result, result_path
from lit_scaledrop.results.store import is_finished, write_result
from lit_scaledrop.results.units import in_unit

_KNOWN = {
    "network": TOPOLOGIES,
    "scheme": dict.fromkeys((*SCHEMES, *SEGMENTATION_SCHEMES)),
    "method": energies.COMPARED,
}


@dataclass(frozen=True)
class Point:
    """One result that is counted."""

    path: Path
    count: Callable[[], Count]


def main(argv: list[str]) -> int:
    """Run ``scaledrop cost`` with ``argv`` behind it."""
    settings, commit = _settings(argv), provenance.commit()
    for point in settings.points:
        if is_finished(point.path):
            print(f"finished already: {point.path}")
            continue
        result = point.count().result(settings.profile, argv, commit)
        write_result(result, settings.results)
        print(f"{result.network}, {result.label}: {_summary(result)}: {point.path}")
    return 0


def _summary(result: Result) -> str:
    if result.study == dropout_modules.STUDY:
        reused, separate = (result.at(condition=how)["modules"] for how in ("reused", "separate"))
        bits = result.metrics["draws"]
        return f"modules {reused:,.0f} (re-used) or {separate:,.0f} (one per layer), bits per pass {bits:,.0f}"
    found = [
        result.at(execution=execution, scale="folded", real_layers="digital", adc=result.config["adc"])["hw/energy_nj"]
        for execution in energies.EXECUTIONS
    ]
    each = ", ".join(
        f"{how} {in_unit(1e3 * energy_nj)}" for how, energy_nj in zip(energies.EXECUTIONS, found, strict=True)
    )
    return f"an image takes {each}"


def planned_cost(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop cost`` with ``argv`` behind it will write; nothing is counted.

    Raises:
        ValueError: for several topologies or schemes, whose results are several.
    """
    points = _settings(argv).points
    if len(points) != 1:
        raise ValueError("a point of a sweep is one result: give one --network and one --scheme (table8: --method)")
    return points[0].path


def _settings(argv: list[str]) -> "CostSettings":
    return call(CostSettings, argv, "scaledrop cost", known=_KNOWN)


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """Record dropout modules or energy of topologies and methods on a chip, one result each; nothing is trained.

    Args:
        table: table7, the dropout modules, or table8, the energy per image.
        network: topologies (default: all of the table).
        scheme: for table7, dropout schemes (default: all that a topology supports).
        method: for table8 (default: all).
        profile: folder of the results.
        results: root of the results.
        preset: YAML file whose constants replace the packaged ones.
        chip: chip file, see `scaledrop chip` (default: the default chip).
    """

    table: Literal["table7", "table8"] = "table7"
    network: list[str] | None = None
    scheme: list[str] | None = None
    method: list[str] = field(default_factory=lambda: list(energies.COMPARED))
    profile: str = "quick"
    results: Annotated[str, "--run.results"] = "results"
    preset: str | None = None
    chip: str | None = None

    def __post_init__(self) -> None:
        for kind, names in _KNOWN.items():
            for name in getattr(self, kind) or ():
                lookup(kind, name, energies.NETWORKS if kind == "network" and self.table == "table8" else names)

    @property
    def points(self) -> list[Point]:
        """What is asked for.

        Raises:
            ValueError: no topology that is asked for has one of the schemes.
        """
        return self._modules() if self.table == "table7" else self._energies()

    def _energies(self) -> list[Point]:
        (chip, fingerprint), points = self._chip, []
        for network in self.network or energies.NETWORKS:
            for method in self.method:
                path = self._path(energies.STUDY, energies.energy_id(network, method, chip.components, fingerprint))
                points.append(Point(path, partial(energies.energy_count, network, method, chip, fingerprint)))
        return points

    def _modules(self) -> list[Point]:
        (chip, fingerprint), networks = self._chip, self.network or list(TOPOLOGIES)
        parts = chip.components
        known = {network: schemes_of(network) for network in networks}
        pairs = [(name, one) for name, of in known.items() for one in of if self.scheme is None or one in self.scheme]
        if not pairs:
            theirs = "; ".join(f"{network} has {', '.join(schemes)}" for network, schemes in known.items())
            raise ValueError(f"no topology has scheme {', '.join(self.scheme or ())}: {theirs}")
        return [
            Point(
                self._path(dropout_modules.STUDY, dropout_modules.cost_id(network, scheme, parts, fingerprint)),
                partial(dropout_modules.module_count, network, scheme, parts, chip.junction, fingerprint),
            )
            for network, scheme in pairs
        ]

    @property
    def _chip(self) -> tuple[Chip, str | None]:
        """The chip, and the fingerprint of its file."""
        chip = ChipOptions(chip=self.chip, preset=self.preset).build()
        return chip, load_chip(self.chip).fingerprint if self.chip else None

    def _path(self, study: str, id: str) -> Path:
        return result_path(self.results, self.profile, study, id)
