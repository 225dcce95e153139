"""What a prediction costs as T, depth L, batch and width grow: loop against shared, one knob at a time."""

from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.measure import by_group, table
from lit_scaledrop.layers import stochastic_layers
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.methods.method import Method
from lit_scaledrop.posterior.posterior import PosteriorPredictive

TITLE = "Cost against T, L, batch and width"


def tower(method: Method, depth: int, channels: int) -> nn.Module:
    """``depth`` equal hidden convolutions on 16x16 pixels between a stem and a classifier."""
    hidden: list[nn.Module] = []
    for _ in range(depth):
        hidden += [method.conv_block(channels, channels, 3, padding=1), nn.Hardtanh()]
    stem = nn.Conv2d(3, channels, 3, padding=1)
    return nn.Sequential(stem, *hidden, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)).eval()


def base(small: bool) -> dict[str, int]:
    """The point around which one knob at a time is turned."""
    return {"T": 4, "L": 2, "batch": 2, "channels": 4} if small else {"T": 20, "L": 6, "batch": 32, "channels": 64}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every knob and its values."""
    knobs = {"T": (5, 10, 20, 50, 100), "L": (2, 4, 6, 12, 24), "batch": (1, 8, 32, 128), "channels": (16, 64, 128)}
    if metafunc.config.getoption("small"):
        knobs = {"T": (2, 4), "L": (1, 2)}
    metafunc.parametrize(("knob", "value"), [(knob, value) for knob, values in knobs.items() for value in values])


def bench_scaling(interleaved: Any, options: Any, knob: str, value: int) -> None:
    """Loop and shared in turns at one point."""
    point = {**base(options.small), knob: value}
    torch.manual_seed(0)
    network = tower(get_method("proposed").with_scale(p=0.2), point["L"], point["channels"])
    assert len(stochastic_layers(network)) == point["L"]
    x = torch.randn(point["batch"], 3, 16, 16)
    loop = PosteriorPredictive(network, point["T"], execution="loop")
    shared = PosteriorPredictive(network, point["T"], execution="shared")
    fixtures = interleaved({"loop": lambda: loop(x), "shared": lambda: shared(x)})
    fixtures["shared"].extra_info["work"] = shared.passes(x)


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """One row for each value of a knob."""
    rows = []
    for cases in by_group(results):
        loop, shared = cases["loop"]["median"], cases["shared"]["median"]
        knob, value = (cases["loop"]["params"][name] for name in ("knob", "value"))
        rows.append([
            f"{knob} = {value}", cases["shared"]["extra_info"]["work"], 1000 * loop, 1000 * shared, loop / shared
        ])  # fmt: skip
    around = ", ".join(f"{name} = {value}" for name, value in base(options.small).items())
    header = ["one knob changed", "work in passes", "loop, ms", "shared, ms", "times faster"]
    return f"A tower of equal binary convolutions, p = 0.2, around {around}.\n\n{table(header, rows)}"
