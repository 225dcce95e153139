"""Networks on simulated crossbars against the digital network: T = 10 passes as a loop and with shared prefixes."""

from itertools import product
from typing import Any, get_args

import torch

from benchmarks.measure import by_group, table
from hardware.cells import Imperfections
from hardware.mapping import Crossbar, Mapping
from hardware.network import on_crossbar
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.execution import Execution
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "Networks on crossbars"
CHIPS = {
    "8-bit converters": Imperfections(adc_bits=8),
    "4-bit converters": Imperfections(adc_bits=4),
    "8 bits, varied devices": Imperfections(adc_bits=8, conductance_cv=0.1),
    "8 bits, wires of 1 ohm": Imperfections(adc_bits=8, wire_ohm_per_cell=1.0),
    "8 bits, offsets and gains": Imperfections(adc_bits=8, adc_offset_matches=1.0, adc_gain_cv=0.01),
    "8 bits, noise": Imperfections(adc_bits=8, adc_noise_matches=1.0),
}


def samples_of(options: Any) -> int:
    """Passes."""
    return 2 if options.small else 10


CASES = {
    "mapping": (get_args(Mapping)[:1], get_args(Mapping)),
    "network": (("resnet20",), ("resnet20", "vgg_small")),
}


def bench_crossbar(interleaved: Any, options: Any, network: str, mapping: Mapping) -> None:
    """The digital network and its chips in turns."""
    torch.manual_seed(0)
    digital = build_network(network, get_method("proposed"), width=options.width).eval()
    x = torch.randn(options.batch, 3, 32, 32)
    networks = {"digital": digital} | {
        name: on_crossbar(
            digital, Crossbar(mapping=mapping), imperfect, torch.Generator().manual_seed(0), noise=torch.Generator()
        )
        for name, imperfect in CHIPS.items()
    }
    kinds: tuple[Execution, ...] = ("loop", "shared")
    posteriors = {
        f"{name}, {kind}": PosteriorPredictive(net, samples_of(options), execution=kind)
        for (name, net), kind in product(networks.items(), kinds)
    }
    for posterior in posteriors.values():
        posterior(x[:1])
    interleaved({name: lambda p=posterior: p(x) for name, posterior in posteriors.items()}, warm=False)


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """One row for each network, mapping, chip and execution."""
    rows: list[list[object]] = []
    for cases in by_group(results):
        for name, case in cases.items():
            chip, _, kind = name.rpartition(", ")
            base, network, mapping = cases[f"digital, {kind}"], case["params"]["network"], case["params"]["mapping"]
            seconds = 1000 * case["median"] / options.batch
            rows.append([network, mapping, chip, kind, seconds, case["median"] / base["median"]])
    header = ["network", "mapping", "chip", "execution", "s per 1,000 images", "times the digital network's"]
    return (
        f"Scale-Dropout, T = {samples_of(options)}, batch of {options.batch}, width {options.width:g}, fp32, "
        f"128 x 128 crossbars; median of {options.repeats} interleaved rounds.\n\n{table(header, rows)}"
    )
