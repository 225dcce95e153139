"""The same posterior with torch-uncertainty's ``mc_dropout`` wrapper, side by side on one VGG-small."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from benchmarks.measure import interleaved, table
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.methods import get_method
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior import PosteriorPredictive


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


def run(options: Any) -> str:
    """Markdown, or the reason why there is nothing to compare with."""
    try:
        from torch_uncertainty.methods import mc_dropout  # 0.13; in 0.8 it was in models
    except ImportError as error:
        return f"Skipped: torch-uncertainty cannot be imported ({error}). `pip install torch-uncertainty` adds it."
    samples, parts = 3 if options.small else 20, []
    for method, title in (
        ("mc_dropout_htanh", "MC-Dropout on the features, full precision"),
        ("proposed", "Scale-Dropout, binary"),
    ):
        torch.manual_seed(0)
        ours = build_network("vgg_small", get_method(method), width=options.width).eval()
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
            f"torch-uncertainty, on_batch={on_batch}": mc_dropout(theirs, samples, False, on_batch).eval()
            for on_batch in foldings
        }
        cases |= {
            "ours, loop": PosteriorPredictive(ours, samples, execution="loop"),
            "ours, auto": PosteriorPredictive(ours, samples, execution="auto"),
        }
        with torch.no_grad():
            seconds = interleaved({name: partial(run, x) for name, run in cases.items()}, options.repeats)
        base = seconds["torch-uncertainty, on_batch=False"]
        rows = [[name, 1000 * value / options.batch, base / value] for name, value in seconds.items()]
        auto = cases["ours, auto"]
        parts.append(
            f"{title}: the same weights, T = {samples}, batch of {options.batch}, width {options.width:g}; "
            f"auto is {auto.choice}: {auto.reason}.\n\n"
            + table(["implementation", "ms/image", "times faster than torch-uncertainty's loop"], rows)
        )
    return "\n\n".join(parts)
