"""Passes of a binary network whose signs are convolved in bfloat16, against float32: the same numbers, faster."""

from typing import Any

import pytest
import torch

from benchmarks.measure import by_group, table
from lit_scaledrop.layers import exact
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.networks import build_network

TITLE = "Signs in bfloat16"


CASES = {"network": (("resnet20",), ("vgg_small", "resnet18", "resnet20"))}


def bench_exact(interleaved: Any, options: Any, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One deterministic pass in turns; the logits must be equal."""
    if not exact.native_bfloat16():
        pytest.skip("this processor does not multiply bfloat16: signs are convolved in float32")
    torch.manual_seed(0)
    net = build_network(network, get_method("proposed"), width=options.width).eval()
    x = torch.randn(options.batch, 3, 32, 32)

    @torch.no_grad()
    def run(fast: bool) -> torch.Tensor:
        monkeypatch.setattr(exact, "native_bfloat16", lambda: fast)
        return net(x)

    assert torch.equal(run(True), run(False))
    interleaved({"float32": lambda: run(False), "bfloat16": lambda: run(True)})


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """One row for each network."""
    rows: list[list[object]] = []
    for cases in by_group(results):
        slow, fast = (cases[name]["median"] for name in ("float32", "bfloat16"))
        network = cases["float32"]["params"]["network"]
        rows.append([network, 1000 * slow / options.batch, 1000 * fast / options.batch, slow / fast])
    header = ["network", "float32, ms/image", "bfloat16, ms/image", "times faster"]
    return (
        f"A deterministic pass of the whole network, batch of {options.batch}, width {options.width:g}; logits equal "
        f"bit for bit; median of {options.repeats} interleaved rounds.\n\n{table(header, rows)}"
    )
