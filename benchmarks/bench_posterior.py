"""T passes as a loop, folded into the batch, with shared prefixes, and all masks exactly: time and work."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import by_group, table
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.execution import Execution
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "T passes: loop, folded, shared, exact"
CASES = {"samples": ((2,), (10, 20, 50)), "network": (("vgg_small",), ("vgg_small", "resnet18", "resnet20"))}


def posterior_of(network: str, width: float, samples: int, execution: Execution, seed: int = 0) -> PosteriorPredictive:
    """Scale-Dropout with layer-adaptive probabilities; what the weights are does not matter for the time."""
    torch.manual_seed(0)
    return PosteriorPredictive(build_network(network, get_method("proposed"), width=width), samples, seed, execution)


def prepare(network: str, width: float, samples: int, execution: Execution, batch: int) -> Callable[[], object]:
    """A prediction ready to run: the network is built, the plan drawn, libraries are initialized."""
    posterior = posterior_of(network, width, samples, execution)
    x = torch.randn(batch, 3, 32, 32)
    posterior(x[:1])
    return lambda: posterior(x)


def executions(network: str) -> list[Execution]:
    """Those that are compared; all masks of the deep networks are too many."""
    return ["loop", "folded", "shared", "exact"] if network == "vgg_small" else ["loop", "folded", "shared"]


def bench_posterior(interleaved: Any, options: Any, network: str, samples: int) -> None:
    """One network and T: every execution in turns."""
    cases = {kind: prepare(network, options.width, samples, kind, options.batch) for kind in executions(network)}
    for kind, fixture in interleaved(cases, warm=False).items():
        fixture.extra_info.update(work=_work(network, options.width, samples, kind))


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """One row for each network, T and execution."""
    rows: list[list[object]] = []
    for cases in by_group(results):
        base = cases["loop"]
        for kind, case in cases.items():
            measured = (case["extra_info"]["work"], 1000 * case["median"] / options.batch)
            point = (case["params"]["network"], case["params"]["samples"], kind)
            rows.append([*point, *measured, base["median"] / case["median"]])
    header = ["network", "T", "execution", "work in passes", "ms/image", "times faster than loop"]
    return (
        f"Batch of {options.batch}, width {options.width:g}, fp32, p layer-adaptive, plan of seed 0 (in brackets: mean "
        f"work of 20 seeds); median of {options.repeats} interleaved rounds.\n\n{table(header, rows)}"
    )


def _work(network: str, width: float, samples: int, execution: Execution) -> str:
    x = torch.zeros(1, 3, 32, 32)
    if execution in ("loop", "folded"):
        return str(samples)
    if execution == "exact":
        return f"{posterior_of(network, width, samples, execution).passes(x):.1f}"
    work = [posterior_of(network, width, samples, execution, seed).passes(x) for seed in range(20)]
    return f"{work[0]:.1f} ({sum(work) / len(work):.1f})"
