"""``scaledrop cost``: number, area and power of the dropout modules of topologies and methods, one result each."""

import argparse
from pathlib import Path

from hardware.presets import components
from hardware.spin_scale_drop import Scheme
from lit_scaledrop.chip.dropout_modules import (
    SCHEMES,
    SEGMENTATION_SCHEMES,
    STUDY,
    TOPOLOGIES,
    cost_id,
    cost_result,
    schemes_of,
)
from lit_scaledrop.naming import lookup
from lit_scaledrop.results import provenance
from lit_scaledrop.results.result import is_finished, result_path, write_result


def main(argv: list[str]) -> int:
    """Run ``scaledrop cost`` with ``argv`` behind it."""
    arguments = _parse(argv)
    preset = components(arguments.preset)
    commit = provenance.commit()
    for network, scheme in _pairs(arguments):
        path = result_path(arguments.results, arguments.profile, STUDY, cost_id(network, scheme, preset))
        if is_finished(path):
            print(f"finished already: {path}")
            continue
        result = cost_result(network, scheme, preset, arguments.profile, argv, commit)
        write_result(result, arguments.results)
        shown = result.metrics
        print(
            f"{network}, {result.label}: modules {shown['reused/modules']:,.0f} (re-used) or "
            f"{shown['separate/modules']:,.0f} (of each layer), bits a pass {shown['draws']:,.0f}: {path}"
        )
    return 0


def planned_cost(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop cost`` with ``argv`` behind it will write; nothing is counted.

    Raises:
        ValueError: for several topologies or schemes, whose results are several.
    """
    arguments = _parse(argv)
    pairs = _pairs(arguments)
    if len(pairs) != 1:
        raise ValueError("a point of a sweep is one result: give one --network and one --scheme")
    id = cost_id(*pairs[0], components(arguments.preset))
    return result_path(arguments.results, arguments.profile, STUDY, id)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("scaledrop cost", description=__doc__, allow_abbrev=False)
    known = dict.fromkeys((*SCHEMES, *SEGMENTATION_SCHEMES))
    parser.add_argument("--network", nargs="+", default=list(TOPOLOGIES), help="topologies (default: all)")
    parser.add_argument("--scheme", nargs="+", help=f"default: those that a topology has, of {', '.join(known)}")
    parser.add_argument("--profile", default="quick", help="folder of the results (default: %(default)s)")
    parser.add_argument("--results", "--run.results", default="results", help="root of the results (%(default)s)")
    parser.add_argument("--preset", help="YAML file whose constants replace those of the module")
    arguments = parser.parse_args(argv)
    for kind, names in (("network", dict.fromkeys(TOPOLOGIES)), ("scheme", known)):
        for name in getattr(arguments, kind) or ():
            lookup(kind, name, names)
    return arguments


def _pairs(arguments: argparse.Namespace) -> list[tuple[str, Scheme]]:
    """Topologies with the ways to drop that are asked for.

    Raises:
        ValueError: no topology that is asked for has one of them.
    """
    known = {network: schemes_of(network) for network in arguments.network}
    pairs = [
        (network, scheme)
        for network, schemes in known.items()
        for scheme in arguments.scheme or schemes
        if scheme in schemes
    ]
    if not pairs:
        theirs = "; ".join(f"{network} has {', '.join(schemes)}" for network, schemes in known.items())
        raise ValueError(f"no topology has scheme {', '.join(arguments.scheme)}: {theirs}")
    return pairs
