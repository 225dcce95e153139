"""The same posterior with torch-uncertainty's ``mc_dropout`` wrapper, side by side on the same weights."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from benchmarks.measure import by_group, table
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "The same posterior with torch-uncertainty"


class ScaleDrop(_DropoutNd):
    """Scale-Dropout as the wrapper needs it: a dropout module that draws in training mode, one bit a forward."""

    def __init__(self, layer: ScaleDropout) -> None:
        super().__init__(float(layer.p))
        self.scale = layer.scale

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the scale or not at all."""
        if self.training and bool(torch.rand(()) < self.p):
            return x
        return x * self.scale.view(1, -1, *[1] * (x.dim() - 2))


METHODS = {
    "mc_dropout_htanh": "MC-Dropout on the features, full precision",
    "proposed": "Scale-Dropout, binary",
}
THEIRS = "torch-uncertainty, on_batch={}"


NAMES = {"vgg_small": "VGG-small", "resnet18": "ResNet-18", "resnet20": "ResNet-20"}
_EVERY = [(network, "proposed") for network in NAMES] + [("vgg_small", "mc_dropout_htanh")]
CASES = {"case": (_EVERY[:1] + _EVERY[-1:], _EVERY)}


def bench_peers(interleaved: Any, options: Any, case: tuple[str, str]) -> None:
    """The wrapper's loop and its folding into the batch, our loop, and what ``auto`` chooses; weights are the same."""
    network, method = case
    # 0.13; in 0.8 it was in models
    library = pytest.importorskip("torch_uncertainty.methods", reason="pip install torch-uncertainty")
    samples = 3 if options.small else 20
    torch.manual_seed(0)
    ours = build_network(network, get_method(method), width=options.width).eval()
    theirs = copy.deepcopy(ours)
    for name, layer in list(theirs.named_modules()):
        if isinstance(layer, ScaleDropout):
            theirs.set_submodule(name, ScaleDrop(layer))
    if method != "proposed":
        theirs.set_submodule("features", nn.Dropout(float(theirs.features.p)))
    x = torch.randn(options.batch, 3, 32, 32)
    torch.testing.assert_close(theirs.eval()(x), ours(x))
    # a scalar mask folded into the batch would be the same in all passes
    foldings = (False,) if method == "proposed" else (False, True)
    cases: dict[str, Any] = {
        THEIRS.format(on_batch): library.mc_dropout(theirs, samples, False, on_batch).eval() for on_batch in foldings
    }
    for how in ("loop", "shared", "auto") if network == "vgg_small" else ("loop", "shared"):
        cases[f"ours, {how}"] = PosteriorPredictive(ours, samples, execution=how)
    with torch.no_grad():
        fixtures = interleaved({name: partial(run, x) for name, run in cases.items()})
    last = next(reversed(cases))
    told = f"; auto is {cases[last].choice}: {cases[last].reason}" if last == "ours, auto" else ""
    fixtures[last].extra_info.update(samples=samples, told=told, what=f"{NAMES[network]}, {METHODS[method]}")


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """A table for each network and method."""
    parts = []
    for cases in by_group(results):
        base, info = cases[THEIRS.format(False)], next(reversed(cases.values()))["extra_info"]
        rows = [
            [name, 1000 * case["median"] / options.batch, base["median"] / case["median"]]
            for name, case in cases.items()
        ]
        parts.append(
            f"{info['what']}: the same weights, T = {info['samples']}, batch of {options.batch}, "
            f"width {options.width:g}{info['told']}.\n\n"
            + table(["implementation", "ms/image", "times faster than torch-uncertainty's loop"], rows)
        )
    return "\n\n".join(parts)
