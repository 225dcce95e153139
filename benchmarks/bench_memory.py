"""Memory of T passes as a loop, folded into the batch, with shared prefixes, and of all masks exactly.

Counted, not measured: the same numbers come on a busy machine. So one round is enough, ``--repeats 1``.
"""

from typing import Any

from benchmarks.bench_posterior import CASES, executions, prepare  # noqa: F401
from benchmarks.measure import by_group, peak_megabytes, table

TITLE = "Memory of T passes: loop, folded, shared, exact"


def bench_memory(interleaved: Any, options: Any, network: str, samples: int) -> None:
    """One network and T."""
    kinds = executions(network)
    runs = {kind: prepare(network, options.width, samples, kind, options.batch) for kind in kinds}
    memory: dict[str, float] = {}
    cases = {kind: lambda kind=kind: memory.update({kind: peak_megabytes(runs[kind])}) for kind in kinds}
    for kind, fixture in interleaved(cases, warm=False).items():
        fixture.extra_info.update(peak_megabytes=memory[kind])


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """One row for each network and T."""
    rows: list[list[object]] = []
    kinds = ("loop", "folded", "shared", "exact")
    for cases in by_group(results):
        held = {kind: case["extra_info"]["peak_megabytes"] for kind, case in cases.items()}
        params = cases["loop"]["params"]
        ratios = [held[kind] / held["loop"] if kind in held else None for kind in kinds[1:]]
        rows.append([params["network"], params["samples"], *(held.get(kind) for kind in kinds), *ratios])
    header = ["network", "T", *(f"{kind}, MB" for kind in kinds), *(f"{kind} of the loop's" for kind in kinds[1:])]
    what = (
        f"Batch of {options.batch}, width {options.width:g}, fp32, p layer-adaptive, plan of seed 0. The most that "
        "tensors hold at once beside the network's weights, from torch's allocator; MB of 10^6 bytes."
    )
    return f"{what}\n\n{table(header, rows)}"
