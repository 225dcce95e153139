"""Counts of dropout modules equal the bits which the methods really draw; random bits of a junction."""

import pytest

from hardware.dropout_modules import ModuleCount, dropout_cost, modules_and_draws
from hardware.presets import components
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


def test_the_authors_count_of_spindrop():
    """K K C_in: nine times the feature maps of VGG-small, 1,152 to 4,608; LeNet-5's first kernel has 25 elements."""
    layers = trace_workload(build_network("vgg_small", METHODS["spindrop"]), (3, 32, 32))
    kernel, maps = (
        [count.modules for count in modules_and_draws(layers, scheme)]
        for scheme in ("spindrop_kernel", "spatial_spindrop")
    )
    assert kernel == [1152, 1152, 2304, 2304, 4608]
    assert kernel == [9 * count for count in maps]
    lenet5 = trace_workload(build_network("lenet5", METHODS["spindrop"], in_channels=1), (1, 32, 32))
    assert [count.modules for count in modules_and_draws(lenet5, "spindrop_kernel")] == [150, 400, 120]
