"""Freed memory that a process keeps, as our commands do, against glibc's own ways: passes and steps of training."""

import json
import subprocess
import sys
from typing import Any

from benchmarks.measure import by_group, table

TITLE = "Freed memory that is kept"
CASES = {"network": (("resnet20",), ("resnet20", "resnet18", "vgg_small"))}
_CODE = """
import json, resource, sys, time
import torch
from torch.nn import functional as F
from lit_scaledrop.cli.memory import keep_freed_memory
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.networks import build_network
name, way, batch, width, threads = (kind(word) for kind, word in zip((str, str, int, float, int), sys.argv[1:]))
if way == "kept":
    assert keep_freed_memory()
torch.set_num_threads(threads)
torch.manual_seed(0)
network, x = build_network(name, get_method("proposed"), width=width), torch.randn(batch, 3, 32, 32)
optimizer = torch.optim.Adam(network.parameters())
def step():
    loss = F.cross_entropy(network.train()(x), torch.arange(batch) % 10)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
@torch.no_grad()
def one_pass():
    network.eval()(x)
def measured(run):
    run(), run()
    faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    run(), run(), run()
    return (time.perf_counter() - start) / 3, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / 3
print(json.dumps({"pass": measured(one_pass), "step": measured(step)}))  # before a step has grown the heap
"""


def bench_allocation(interleaved: Any, options: Any, network: str) -> None:
    """A process for each way and round; seconds and pages fetched, of a step and of a pass."""
    found: dict[str, list[dict[str, tuple[float, float]]]] = {"glibc": [], "kept": []}

    def run(way: str) -> None:
        words = [network, way, options.batch, options.width, options.threads]
        command = [sys.executable, "-c", _CODE, *map(str, words)]
        found[way].append(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))

    cases = {way: (lambda way=way: run(way)) for way in found}
    for way, fixture in interleaved(cases, warm=False).items():
        fixture.extra_info.update(found=found[way])


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """A row for each network, and for a step and a pass of it."""
    rows: list[list[object]] = []
    for cases in by_group(results):
        for what in ("pass", "step"):
            ways = {}
            for way, case in cases.items():
                seconds, pages = zip(*(run[what] for run in case["extra_info"]["found"]), strict=True)
                ways[way] = sorted(seconds)[len(seconds) // 2], sorted(pages)[len(pages) // 2]
            (slow, fetched), (fast, less) = ways["glibc"], ways["kept"]
            network = cases["kept"]["params"]["network"]
            rows.append([network, what, 1e3 * slow, 1e3 * fast, slow / fast, round(fetched), round(less)])
    header = ["network", "what", "glibc, ms", "kept, ms", "times faster", "pages fetched, glibc", "pages fetched, kept"]
    what = (
        f"Proposed, batch of {options.batch}, width {options.width:g}, fp32, PyTorch alone, "
        f"threads: {options.threads}; a process for each, medians of {options.repeats} interleaved rounds."
    )
    return f"{what}\n\n{table(header, rows)}"
