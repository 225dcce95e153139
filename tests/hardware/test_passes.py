"""Use of layers in T passes: prefixes by hand, expectation and spread over all masks by brute force and Monte Carlo."""

import itertools
import math

import pytest
import torch
from torch import nn

from hardware.chip import Chip
from hardware.devices import load_device
from hardware.energy import network_energy
from hardware.passes import expected_passes, passes_of
from hardware.workload import LayerShape, trace_workload
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network

P = {"a": 0.3, "b": 0.6}
CHIPS = {
    "folded": Chip(),
    "multiplied": Chip(scale="multiplied"),
    "junction": Chip(scale="multiplied", junction=load_device("sot_80nm")[0]),
}


def small(width: int = 1) -> list[LayerShape]:
    """A real layer, two binary ones whose scales drop, and a real one."""
    scale = {"scaled": True, "behind_bits": width}
    return [
        LayerShape("first", 9, 4, 16, False, 16),
        LayerShape("one", 36, 5, 4, True, 64, behind="a", **scale),
        LayerShape("two", 20, 6, 1, True, 20, behind="b", **scale),
        LayerShape("last", 6, 3, 1, False, 6, to_real=3),
    ]


@pytest.mark.parametrize("execution", ["loop", "prefix"])
@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_expectation_and_spread_are_those_of_all_masks(chip, execution):
    layers, passes = small(), 3
    mean, square, total = 0.0, 0.0, 0.0
    for bits in itertools.product((0.0, 1.0), repeat=2 * passes):
        masks = {"a": torch.tensor(bits[:passes])[:, None], "b": torch.tensor(bits[passes:])[:, None]}
        likely = math.prod(1 - P[n] if keep else P[n] for n, mask in masks.items() for keep in mask.flatten().tolist())
        energy = network_energy(layers, passes_of(layers, passes, masks, execution, P), chip).energy_pj
        mean, square, total = mean + likely * energy, square + likely * energy**2, total + likely
    report = network_energy(layers, expected_passes(layers, passes, P, execution), chip)
    assert total == pytest.approx(1)
    assert report.energy_pj == pytest.approx(mean, rel=1e-12)
    assert report.deviation_pj == pytest.approx(math.sqrt(max(0, square - mean**2)), rel=1e-5, abs=1e-3)


def test_spread_of_a_layer_with_bits_in_front_and_behind():
    """A bit in front costs its draw alone; one behind saves the product of its scale as well."""
    layer, chip = LayerShape("both", 36, 5, 4, True, 64, front="a", front_bits=2, behind="b", behind_bits=1,
                             scaled=True), CHIPS["junction"]  # fmt: skip
    energies, weights = [], []
    for bits in itertools.product((0.0, 1.0), repeat=3):
        masks = {"a": torch.tensor([bits[:2]]), "b": torch.tensor([bits[2:]])}
        flat = [("a", bits[0]), ("a", bits[1]), ("b", bits[2])]
        weights.append(math.prod(1 - P[name] if keep else P[name] for name, keep in flat))
        energies.append(network_energy([layer], passes_of([layer], 1, masks, "loop", P), chip).energy_pj)
    mean = sum(w * e for w, e in zip(weights, energies, strict=True))
    spread = math.sqrt(sum(w * (e - mean) ** 2 for w, e in zip(weights, energies, strict=True)))
    report = network_energy([layer], expected_passes([layer], 1, P), chip)
    assert report.energy_pj == pytest.approx(mean, rel=1e-12)
    assert report.deviation_pj == pytest.approx(spread, rel=1e-9)


def test_element_wise_masks_by_monte_carlo():
    layers, passes, chip = small(4), 5, CHIPS["multiplied"]
    generator = torch.Generator().manual_seed(0)
    energies = []
    for _ in range(800):
        uniform = torch.rand(2, passes, 4, generator=generator)
        masks = {name: (uniform[place] >= p).float() for place, (name, p) in enumerate(P.items())}
        energies.append(network_energy(layers, passes_of(layers, passes, masks), chip).energy_pj)
    drawn = torch.tensor(energies, dtype=torch.float64)
    report = network_energy(layers, expected_passes(layers, passes, P), chip)
    assert float(drawn.mean()) == pytest.approx(report.energy_pj, abs=4 * report.deviation_pj / 800**0.5)
    assert float(drawn.std()) == pytest.approx(report.deviation_pj, rel=0.1)


def test_prefix_by_hand():
    layers = small()
    uses = expected_passes(layers, 10, P, "prefix")
    assert [use.evaluations for use in uses] == [1, 10, 10, 10]
    # the outputs of the first layer, 64 bits, are written once and read in each pass
    assert [(use.waiting_outputs, use.output_reads) for use in uses] == [(1, 10), (0, 0), (0, 0), (0, 0)]
    entry = next(e for e in network_energy(layers, uses).entries if e.component == "prefix buffer")
    assert (entry.layer, entry.operations) == ("first", 11 * 64)
    assert entry.energy_pj == pytest.approx(11 * 64 * 10 / 64)
    # a skip sees real numbers, which wait as words
    skip = [layers[0], *layers[1:]]
    skip[0] = LayerShape("first", 9, 4, 16, False, 16, to_skip=64)
    entry = next(e for e in network_energy(skip, uses).entries if e.component == "prefix buffer")
    assert entry.operations == 11 * 64 * 32
    assert not any(use.waiting_outputs for use in expected_passes(layers, 1, P, "prefix"))


def test_a_skip_that_waits_is_written_once():
    """A ResNet-20's stem is its first skip: with the prefix once its words wait in one buffer, read twice a pass."""
    layers = trace_workload(build_network("resnet20", METHODS["proposed"], width=0.25), (3, 32, 32))
    assert [layer.skip_of for layer in layers if layer.skip_of] == [layers[0].name]
    probabilities = {layer.behind: 0.2 for layer in layers if layer.behind}
    energy = {}
    for how, writes in (("loop", 10), ("prefix", 0)):
        report = network_energy(layers, expected_passes(layers, 10, probabilities, how))
        operations = {(e.layer, e.component): e.operations for e in report.entries}
        energy[how] = report.energy_pj
        # 4 channels of 32 x 32 words
        assert operations[layers[1].name, "skip buffer"] == (writes + 10) * 4 * 1024 * 32
        assert operations.get((layers[0].name, "prefix buffer"), 0) == (0 if writes else 11 * 4 * 1024 * 32)
        # what is a sum already is written and read in each pass
        assert operations[layers[2].name, "skip buffer"] == 20 * 4 * 1024 * 32
    assert energy["prefix"] < energy["loop"]
    # where the stem is left out, its buffer is too
    left_out = network_energy(
        layers, expected_passes(layers, 10, probabilities, "prefix"), Chip(real_layers="excluded")
    )
    operations = {(e.layer, e.component): e.operations for e in left_out.entries}
    assert (layers[0].name, "prefix buffer") not in operations
    assert operations[layers[1].name, "skip buffer"] == 20 * 4 * 1024 * 32


def test_dropout_of_what_comes_out_repeats_what_follows():
    net = build_network("lenet5", METHODS["mc_dropout_irnet"], in_channels=1)
    layers = trace_workload(net, (1, 32, 32))
    uses = expected_passes(layers, 10, {"features": 0.5}, "prefix")
    assert [use.evaluations for use in uses] == [1, 1, 1, 1, 10]
    assert [use.output_reads for use in uses] == [0, 0, 0, 10, 0]
    spin = trace_workload(build_network("lenet5", METHODS["spindrop"], in_channels=1), (1, 32, 32))
    uses = expected_passes(spin, 10, {layer.front: 0.1 for layer in spin if layer.front}, "prefix")
    assert [use.evaluations for use in uses] == [1, 10, 10, 10, 10]


def test_prefix_lies_between():
    from lit_scaledrop.chip.energy import estimate_energy

    net = build_network("vgg_small", METHODS["proposed"], width=0.25)
    energy = {how: estimate_energy(net, (3, 32, 32), execution=how).report() for how in ("loop", "prefix", "shared")}
    assert energy["shared"].energy_pj < energy["prefix"].energy_pj < energy["loop"].energy_pj


def test_what_has_no_closed_form_and_wrong_names():
    with pytest.raises(ValueError, match="depends on the masks"):
        expected_passes(small(), 3, P, "shared")
    with pytest.raises(ValueError, match="drop probabilities must be those"):
        expected_passes(small(), 3, {"a": 0.1})


class Tail(nn.Module):
    """What stands behind two layers: pooling, a norm and a clip; or a skip; a bias that is no activation."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.one, self.two, self.skip = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), skip
        self.norm, self.bias, self.last = nn.BatchNorm2d(2), nn.Parameter(torch.ones(1, 2, 8, 8)), nn.Linear(32, 3)

    def forward(self, x):
        first = self.one(x).clamp(-1, 1)
        second = self.norm(self.two(first)) + self.bias
        second = second + first if self.skip else second
        return self.last(nn.functional.max_pool2d(second, 2).flatten(1))


def test_the_trace_knows_who_sees_an_output():
    found = {}
    for skip in (False, True):
        layers = trace_workload(Tail(skip), (2, 8, 8), is_binary=lambda layer: isinstance(layer, nn.Conv2d))
        found[skip] = [(layer.to_skip, layer.to_real, layer.additions) for layer in layers]
    # without a skip the second layer's outputs, pooled to 32, are all that a real layer reads; a parameter is no skip
    assert found[False] == [(0, 0, 0), (0, 32, 0), (0, 3, 0)]
    assert found[True] == [(128, 0, 0), (128, 0, 128), (0, 3, 0)]


@pytest.mark.parametrize(("network", "counted"), [("resnet20", 18), ("resnet18", 8)])
def test_affines_in_front_of_skips(network, counted):
    """BatchNorm in front of a skip is a product and a sum for every output, with a scale and without one."""
    for method in ("proposed", "irnet"):
        layers = trace_workload(build_network(network, METHODS[method]), (3, 32, 32))
        affine = [layer for layer in layers if layer.binary and layer.to_skip]
        assert len(affine) == counted
        probabilities = {layer.behind: 0.2 for layer in layers if layer.behind}
        report = network_energy(layers, expected_passes(layers, 1, probabilities))
        operations = {e.component: e.operations for e in report.by_component()}
        outputs = sum(layer.outputs for layer in affine)
        assert operations["affine multiplier"] == operations["affine adder"] == outputs
