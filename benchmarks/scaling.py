"""What a prediction costs as T, depth L, batch and width grow: loop against shared, one knob at a time."""

from typing import Any

import torch
from torch import nn

from benchmarks.measure import interleaved, table
from lit_scaledrop.layers import stochastic_layers
from lit_scaledrop.methods import Method, get_method
from lit_scaledrop.posterior import PosteriorPredictive


def tower(method: Method, depth: int, channels: int) -> nn.Module:
    """``depth`` equal hidden convolutions on 16x16 pixels between a stem and a classifier."""
    hidden: list[nn.Module] = []
    for _ in range(depth):
        hidden += [method.conv_block(channels, channels, 3, padding=1), nn.Hardtanh()]
    stem = nn.Conv2d(3, channels, 3, padding=1)
    return nn.Sequential(stem, *hidden, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)).eval()


def run(options: Any) -> str:
    """Markdown: every knob around T = 20, L = 6, batch 32, 64 channels, p = 0.2."""
    base = {"T": 20, "L": 6, "batch": 32, "channels": 64}
    knobs = {"T": (5, 10, 20, 50, 100), "L": (2, 4, 6, 12, 24), "batch": (1, 8, 32, 128), "channels": (16, 64, 128)}
    if options.small:
        base, knobs = {"T": 4, "L": 2, "batch": 2, "channels": 4}, {"T": (2, 4), "L": (1, 2)}
    method, rows = get_method("proposed").with_scale(p=0.2), []
    for knob, values in knobs.items():
        for value in values:
            point = {**base, knob: value}
            torch.manual_seed(0)
            network = tower(method, point["L"], point["channels"])
            assert len(stochastic_layers(network)) == point["L"]
            x = torch.randn(point["batch"], 3, 16, 16)
            loop = PosteriorPredictive(network, point["T"], execution="loop")
            shared = PosteriorPredictive(network, point["T"], execution="shared")
            seconds = interleaved({"loop": lambda: loop(x), "shared": lambda: shared(x)}, options.repeats)  # noqa: B023
            rows.append([
                f"{knob} = {value}", shared.passes(x), 1000 * seconds["loop"], 1000 * seconds["shared"],
                seconds["loop"] / seconds["shared"],
            ])  # fmt: skip
    around = ", ".join(f"{name} = {value}" for name, value in base.items())
    header = ["one knob changed", "work in passes", "loop, ms", "shared, ms", "times faster"]
    return f"A tower of equal binary convolutions, p = 0.2, around {around}.\n\n{table(header, rows)}"
