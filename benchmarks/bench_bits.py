"""Signs multiplied as bits, against PyTorch: the same numbers, faster. Convolutions, passes, and all masks at once."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from benchmarks.measure import by_group, table
from lit_scaledrop.layers.bits import LEVELS, Filters, Shape, available, best_level, conv2d
from lit_scaledrop.layers.exact import native_bfloat16
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "Signs as bits"
_PADDED = Shape(before=(1, 1), behind=(1, 1))
_OF_VGG = ((128, 128, 32), (128, 256, 16), (256, 256, 16), (256, 512, 8), (512, 512, 8))
"""channels in and out of the binary convolutions of VGG-small, and the side of their inputs"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Networks, batches and threads."""
    small = metafunc.config.getoption("small")
    if "network" in metafunc.fixturenames:
        metafunc.parametrize("network", ("vgg_small",) if small else ("vgg_small", "resnet18", "resnet20"))
        metafunc.parametrize("images", (2,) if small else (50, 1))
    metafunc.parametrize("threads", (1,) if small else (1, 2))


@pytest.fixture(autouse=True)
def kernels(threads: int) -> Any:
    """Threads of torch, which the kernels have as well."""
    if not available():
        pytest.skip("no C compiler: there are no kernels")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before)


def bench_convolutions(interleaved: Any, options: Any) -> None:
    """All binary convolutions of VGG-small in a row, in turns with those of floats."""
    torch.manual_seed(0)
    cases = []
    for channels, filters, side in _OF_VGG:
        weight = torch.randn(max(1, int(filters * options.width)), max(1, int(channels * options.width)), 3, 3).sign()
        x = torch.randn(options.batch, weight.shape[1], side, side)
        cases.append((torch.where(x >= 0, 1.0, -1.0), weight, Filters(weight)))
        assert torch.equal(F.conv2d(cases[-1][0], weight, padding=1), conv2d(x, cases[-1][2], _PADDED))

    @torch.no_grad()
    def floats() -> None:
        for x, weight, _ in cases:
            F.conv2d(x, weight, padding=1)

    @torch.no_grad()
    def bits() -> None:
        for x, _, filters in cases:
            conv2d(x, filters, _PADDED)

    interleaved({"torch": floats, "bits": bits})


def bench_passes(interleaved: Any, options: Any, network: str, images: int) -> None:
    """One pass, 20 passes with shared prefixes, and all masks where they can be enumerated."""
    torch.manual_seed(0)
    net = build_network(network, get_method("proposed"), width=options.width).eval()
    x = torch.randn(images, 3, 32, 32)
    runs = {
        "torch": PosteriorPredictive(net, 1, backend="torch"),
        "bits": PosteriorPredictive(net, 1, backend="bits"),
    }
    assert torch.equal(runs["torch"](x).logits, runs["bits"](x).logits)
    for backend in ("torch", "bits"):
        runs[f"T = 20, {backend}"] = PosteriorPredictive(net, 20, execution="shared", backend=backend)
        if network == "vgg_small":
            runs[f"all masks, {backend}"] = PosteriorPredictive(net, execution="exact", backend=backend)
    interleaved({name: lambda run=run: run(x) for name, run in runs.items()})


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """Convolutions first, then networks."""
    convolutions: list[list[object]] = []
    passes: list[list[object]] = []
    many = ("T = 20, torch", "T = 20, bits", "all masks, torch", "all masks, bits")
    for cases in by_group(results):
        parameters = cases["torch"]["params"]
        one, bits = (cases[name]["median"] for name in ("torch", "bits"))
        if "network" in parameters:
            where = [parameters[name] for name in ("network", "images", "threads")]
            shown = [cases[name]["median"] / one if name in cases else None for name in many]
            passes.append([*where, 1000 * one, one / bits, *shown])
        else:
            convolutions.append([parameters["threads"], 1000 * one, 1000 * bits, one / bits])
    of_convolutions = table(["threads", "float32, ms", "bits, ms", "times faster"], convolutions)
    of_passes = table(["network", "images", "threads", "a pass of PyTorch, ms", "in bits, times faster", *many], passes)
    return (
        f"Kernels for {LEVELS[best_level()]}; PyTorch multiplies signs in "
        f"{'bfloat16' if native_bfloat16() else 'float32'}; width {options.width:g}; the logits are equal bit for bit; "
        f"median of {options.repeats} interleaved rounds.\n\n"
        f"The five binary convolutions of VGG-small, batch of {options.batch}, with packing:\n\n{of_convolutions}\n\n"
        "Whole predictions. The columns on the right, T = 20 with shared prefixes and all 32 masks, are in passes of "
        f"PyTorch for the same network, images and threads:\n\n{of_passes}"
    )
