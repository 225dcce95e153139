"""``scaledrop cost``: number, area and power of the dropout modules of topologies and methods, one result each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from hardware.dropout_modules import Scheme
from hardware.presets import components
from lit_scaledrop.chip.dropout_modules import (
    SCHEMES,
    SEGMENTATION_SCHEMES,
    STUDY,
    TOPOLOGIES,
    cost_id,
    cost_result,
    schemes_of,
)
from lit_scaledrop.cli.command import call
from lit_scaledrop.naming import lookup
from lit_scaledrop.results import provenance
from lit_scaledrop.results.result import is_finished, result_path, write_result

_KNOWN = {"network": TOPOLOGIES, "scheme": dict.fromkeys((*SCHEMES, *SEGMENTATION_SCHEMES))}


def main(argv: list[str]) -> int:
    """Run ``scaledrop cost`` with ``argv`` behind it."""
    settings = _settings(argv)
    constants, commit = components(settings.preset), provenance.commit()
    for network, scheme in settings.pairs:
        path = settings.path(network, scheme)
        if is_finished(path):
            print(f"finished already: {path}")
            continue
        result = cost_result(network, scheme, constants, settings.profile, argv, commit)
        write_result(result, settings.results)
        reused, separate = (result.at(condition=how)["modules"] for how in ("reused", "separate"))
        print(
            f"{network}, {result.label}: modules {reused:,.0f} (re-used) or {separate:,.0f} (of each layer), "
            f"bits a pass {result.metrics['draws']:,.0f}: {path}"
        )
    return 0


def planned_cost(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop cost`` with ``argv`` behind it will write; nothing is counted.

    Raises:
        ValueError: for several topologies or schemes, whose results are several.
    """
    settings = _settings(argv)
    if len(settings.pairs) != 1:
        raise ValueError("a point of a sweep is one result: give one --network and one --scheme")
    return settings.path(*settings.pairs[0])


def _settings(argv: list[str]) -> "CostSettings":
    return call(CostSettings, argv, "scaledrop cost", known=_KNOWN)


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """Number, area and power of the dropout modules of topologies and methods, one result each.

    Args:
        network: topologies (default: all).
        scheme: ways to drop (default: those that a topology has).
        profile: folder of the results.
        results: root of the results.
        preset: YAML file whose constants replace those of the module.
    """

    network: list[str] = field(default_factory=lambda: list(TOPOLOGIES))
    scheme: list[str] | None = None
    profile: str = "quick"
    results: Annotated[str, "--run.results"] = "results"
    preset: str | None = None

    def __post_init__(self) -> None:
        for kind, names in _KNOWN.items():
            for name in getattr(self, kind) or ():
                lookup(kind, name, names)

    @property
    def pairs(self) -> list[tuple[str, Scheme]]:
        """Topologies with the ways to drop that are asked for.

        Raises:
            ValueError: no topology that is asked for has one of them.
        """
        known = {network: schemes_of(network) for network in self.network}
        pairs = [(name, one) for name, schemes in known.items() for one in self.scheme or schemes if one in schemes]
        if not pairs:
            theirs = "; ".join(f"{network} has {', '.join(schemes)}" for network, schemes in known.items())
            raise ValueError(f"no topology has scheme {', '.join(self.scheme or ())}: {theirs}")
        return pairs

    def path(self, network: str, scheme: Scheme) -> Path:
        """File of one result."""
        return result_path(self.results, self.profile, STUDY, cost_id(network, scheme, components(self.preset)))
