"""The dropout module: probabilities, and counts that equal the bits which the methods really draw."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.devices import load_device
from hardware.mtj import DeviceVariation, DriveError, current_for_probability, delta_sensitivity
from hardware.presets import components
from hardware.spin_scale_drop import (
    DeviceProbability,
    GaussianProbability,
    ModuleCount,
    dropout_cost,
    modules_and_draws,
)
from hardware.workload import trace_workload
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import NETWORKS, build_network

SCHEMES = {
    "proposed": "scale_dropout",
    "spindrop": "spindrop",
    "spatial_spindrop": "spatial_spindrop",
    "spinbayes": "spinbayes",
    "mc_dropout_relu": "mc_dropout",
    "mc_dropout_irnet": "mc_dropout",
    "mc_dropconnect": "dropconnect",
    "fp": "none",
    "irnet": "none",
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=100)
@given(
    p=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    sigma=st.floats(0, 1e6, allow_subnormal=False),
    within=st.sampled_from(["clipped", "truncated"]),
    seed=st.integers(0, 2**31),
)
def test_a_probability_stays_one(p, sigma, within, seed):
    wanted = torch.tensor(p, dtype=torch.float64)
    got = GaussianProbability(sigma, within).probability(wanted, seeded(seed))
    assert got.shape == wanted.shape
    assert bool(((got >= 0) & (got <= 1)).all())
    if sigma == 0:
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("within", ["clipped", "truncated"])
def test_gaussian_moments(within):
    n, p, sigma = 50_000, 0.1, 0.1
    got = GaussianProbability(sigma, within).probability(torch.full((n,), p), seeded())
    a = (0 - p) / sigma
    density, below = math.exp(-(a**2) / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-a / math.sqrt(2))
    if within == "clipped":
        mean = p * (1 - below) + sigma * density
        assert (got == 0).double().mean().item() == pytest.approx(below, abs=5 * math.sqrt(below / n))
    else:
        mean = p + sigma * density / (1 - below)
        assert not bool((got == 0).any())
    assert abs(got.mean().item() - mean) < 5 * sigma / math.sqrt(n)


def test_device_probabilities():
    device, variation = load_device("sot_80nm")
    small = DeviceVariation(delta_cv=0.01)
    wanted = torch.full((20_000,), 0.3)
    got = DeviceProbability(device, small).probability(wanted, seeded())
    current = current_for_probability(device, 0.3)
    spread = abs(delta_sensitivity(device, current).item()) * device.delta * 0.01
    assert got.std().item() == pytest.approx(spread, rel=0.03)
    assert abs(got.mean().item() - 0.3) < 5 * spread / math.sqrt(len(wanted)) + spread**2
    # a finished chip has one device: the same at every use, another on another chip
    mixed = torch.tensor([0.3, 0.3, 0.0, 1.0])
    chips = [DeviceProbability(device, variation).manufacture(seeded(seed)) for seed in (0, 1)]
    one, other = (chip.probability(mixed, seeded(9)) for chip in chips)
    assert one[0] == one[1] != other[0]
    assert one[2:].tolist() == [0.0, 1.0]
    # drives were chosen at room temperature; below the critical current heat helps
    hot = DeviceProbability(device, DeviceVariation(), temperature_k=400.0)
    assert (hot.probability(torch.tensor([0.1, 0.2]), seeded()) > torch.tensor([0.1, 0.2])).all()
    with pytest.raises(DriveError, match="reaches"):
        DeviceProbability(device, small).probability(torch.tensor([1e-5]), seeded())


def test_wrong_probabilities_are_refused():
    with pytest.raises(ValueError, match="sigma"):
        GaussianProbability(-0.1)
    for bad in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            GaussianProbability(0.1).probability(torch.tensor([bad]), seeded())


@pytest.mark.parametrize("method", SCHEMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_modules_are_the_bits_that_are_drawn(network, method):
    net = build_network(network, METHODS[method], width=0.25)
    layers = trace_workload(net, (3, 32, 32))
    counts = modules_and_draws(layers, SCHEMES[method])
    drawn = {name: layer.draw(1)[0].numel() for name, layer in stochastic_layers(net).items()}
    reported = {name: layer.random_bits for name, layer in stochastic_layers(net).items()}
    assert sorted(count.draws for count in counts) == sorted(drawn.values()) == sorted(reported.values())
    # the trace saw the same, at the layer that the module belongs to
    traced = {layer.name: layer.random_bits for layer in layers if layer.random_bits}
    if SCHEMES[method] != "mc_dropout":
        assert traced == {count.layer: count.draws for count in counts}
    assert sum(traced.values()) == sum(drawn.values())


def test_element_masks():
    net = build_network("vgg_small", METHODS["proposed"].with_scale(mask="element"), width=0.25)
    counts = modules_and_draws(trace_workload(net, (3, 32, 32)), "scale_dropout_element")
    assert [count.draws for count in counts] == [layer.random_bits for layer in stochastic_layers(net).values()]


def test_cost_with_and_without_reuse():
    counts = [ModuleCount("a", 3, 3), ModuleCount("b", 5, 5)]
    preset = components()
    once, each = (dropout_cost(counts, preset, reuse) for reuse in (True, False))
    assert (once.modules, each.modules, once.draws, each.draws) == (5, 8, 8, 8)
    assert once.power_mw == pytest.approx(5 * 0.0225)
    assert each.area_um2 == 8 * preset.number("module_area", "um2")
    # 0.0225 mW for 10 ns
    assert once.energy_pj == each.energy_pj == pytest.approx(8 * 0.225)
    assert once.latency_ns == 20.0
    # the paper's module: one for a whole network
    layers = trace_workload(build_network("resnet18", METHODS["proposed"], width=0.125), (3, 32, 32))
    cost = dropout_cost(modules_and_draws(layers, "scale_dropout"), preset)
    assert (cost.modules, cost.draws, cost.power_mw) == (1, 16, 0.0225)
    assert dropout_cost([], preset).modules == 0


def test_schemes_for_binary_layers():
    layers = trace_workload(build_network("lenet5", METHODS["fp"]), (3, 32, 32))
    with pytest.raises(ValueError, match="has none"):
        modules_and_draws(layers, "spindrop")
