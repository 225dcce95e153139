"""Mapping, counts, passes and energies, against hand counts, torch's own counter and lit_scaledrop's masks."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hardware.chip import Chip
from hardware.energy import NETWORK, network_energy
from hardware.mapping import Crossbar, MappedLayer
from hardware.passes import LayerUse, passes_of
from hardware.presets import components
from hardware.workload import LayerShape, trace_workload
from lit_scaledrop.chip.energy import keep_masks
from lit_scaledrop.cli.energy import main
from lit_scaledrop.layers.prefix import PrefixTree
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.networks import NETWORKS, build_network, build_segmentation_network
from lit_scaledrop.posterior.execution import shared_passes, trace
from lit_scaledrop.posterior.plans import draw_plan, enumerate_plan

CONVERTERS = tuple(components().converters)
MULTIPLIED = Chip(scale="multiplied")


def energy_report(layers, passes, masks, chip=None, execution="loop"):
    return network_energy(layers, passes_of(layers, passes, masks, execution), chip)


def workload(network: str, method: str = "proposed", width: float = 1.0) -> tuple[nn.Module, list[LayerShape]]:
    channels = 1 if network == "lenet5" else 3
    net = build_network(network, METHODS[method], in_channels=channels, width=width).eval()
    return net, trace_workload(net, (channels, 32, 32))


def test_lenet5_by_hand():
    """LeNet-5 on 128 x 128 crossbars: every count written out."""
    _, layers = workload("lenet5")
    conv, first, second = (MappedLayer(layer, Crossbar()) for layer in layers[1:4])
    assert [layer.mac for layer in layers] == [28 * 28 * 6 * 25, 100 * 16 * 150, 400 * 120, 120 * 84, 84 * 10]
    # 6 channels of 5 x 5 are 150 rows: two tiles of 128 and 22, each converted for 16 channels at 10 x 10 pixels
    assert conv.row_tiles == (128, 22)
    assert (conv.tiles, conv.conversions, conv.partial_sum_additions) == (2, 2 * 1600, 1600)
    assert (conv.word_lines, conv.input_reads, conv.cell_reads) == (150 * 100, 150 * 100, 240_000)
    assert (conv.devices, conv.allocated_devices) == (2 * 2400, 2 * 2 * 128 * 128)
    assert conv.utilization == pytest.approx(2400 / 32768)
    assert (conv.adc_bits, conv.sum_bits, conv.converters) == (8, 9, 2 * 16)
    # 400 = 3 * 128 + 16
    assert first.row_tiles == (128, 128, 128, 16)
    assert (first.tiles, first.conversions, first.partial_sum_additions, first.sum_bits) == (4, 480, 360, 10)
    assert second.row_tiles == (120,)
    assert (second.tiles, second.conversions, second.partial_sum_additions, second.adc_bits) == (1, 84, 0, 7)
    # kernel split: 25 tiles of 6 rows; an input of 6 x 14 x 14 is fetched once
    split = MappedLayer(layers[1], Crossbar(mapping="kernel_split"))
    assert split.row_tiles == (6,) * 25
    assert (split.tiles, split.conversions, split.partial_sum_additions) == (25, 25 * 1600, 24 * 1600)
    assert (split.input_reads, split.adc_bits, split.cell_reads) == (6 * 14 * 14, 3, 240_000)


def test_lenet5_energy_by_hand():
    """T = 10, two of ten passes drop the first scale, five the second, none the third."""
    _, layers = workload("lenet5")
    masks = {f"hidden.{i}.scale": torch.ones(10, 1) for i in (0, 3, 5)}
    masks["hidden.0.scale"][:2] = 0
    masks["hidden.3.scale"][3:8] = 0
    report = energy_report(layers, 10, masks, MULTIPLIED)
    got = {(e.layer, e.component): e for e in report.entries}
    conv = "hidden.0.conv"
    assert got[conv, "ADC"].operations == 10 * 3200
    assert got[conv, "ADC"].energy_pj == pytest.approx(32_000 * 1.67)
    # eight passes multiply; 32 bits by 9 bits of a multiplier of 32 by 32
    assert got[conv, "scale multiplier"].operations == 8 * 1600
    assert got[conv, "scale multiplier"].energy_pj == pytest.approx(12_800 * 12.68 * 9 / 32)
    assert got[conv, "scale memory"].energy_pj == pytest.approx(8 * 16 * 32 * 10 / 64)
    assert got["hidden.3.linear", "scale multiplier"].operations == 5 * 120
    # the classifier reads real numbers: a product and a sum, kept or dropped
    assert got["hidden.5.linear", "affine multiplier"].operations == 10 * 84
    assert got["hidden.5.linear", "affine multiplier"].energy_pj == pytest.approx(840 * 12.68 * 8 / 32)
    assert got["hidden.5.linear", "affine adder"].energy_pj == pytest.approx(840 * 0.21)
    assert got[conv, "adder"].energy_pj == pytest.approx(16_000 * 0.21 * 9 / 32)
    # 0.25 V on the mean conductance of 1 and 2.1 MOhm for 5 ns
    assert got[conv, "crossbar"].energy_pj == pytest.approx(2_400_000 * 0.0625 * (1 + 1 / 2.1) / 2 * 5e-3)
    assert got[conv, "comparator"].energy_pj == pytest.approx(16_000 * 0.0295)
    assert got[conv, "dropout module"].energy_pj == pytest.approx(10 * 0.0225 * 10)
    assert got["stem.0", "digital MAC"].energy_pj == pytest.approx(1_176_000 * 0.3)
    assert got["classifier", "weight memory"].energy_pj == pytest.approx(10 * 840 * 8 * 10 / 64)
    assert got[NETWORK, "averaging"].operations == 100
    # 100 pixels, ten passes: 5 ns of reading, then eight columns one after another at 1.2 GS/s
    assert got[conv, "crossbar"].latency_ns == 10 * 100 * 5
    assert got[conv, "ADC"].latency_ns == pytest.approx(1000 * 8 * 0.8333)
    assert not [e for e in report.entries if e.component in ("skip adder", "prefix buffer")]


@pytest.mark.parametrize("network", NETWORKS)
def test_operations_are_those_of_torch(network):
    net, layers = workload(network)
    example = torch.zeros(1, 1 if network == "lenet5" else 3, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(example)
    assert 2 * sum(layer.mac for layer in layers) == counter.get_total_flops()
    for mapping in ("unrolled", "kernel_split"):
        for layer in layers:
            mapped = MappedLayer(layer, Crossbar(mapping=mapping))
            assert sum(mapped.row_tiles) * layer.groups * (layer.columns // layer.groups) == layer.weights
            assert 0 < mapped.utilization <= 1
            assert mapped.conversions - mapped.partial_sum_additions == layer.outputs


def test_skips_are_counted():
    # ResNet-20 adds one skip for each convolution, ResNet-18 one for each two; LeNet-5 has none
    _, resnet20 = workload("resnet20")
    assert sum(layer.additions for layer in resnet20) == 6 * (16 * 1024 + 32 * 256 + 64 * 64)
    assert all(layer.additions == layer.outputs for layer in resnet20[1:-1])
    _, resnet18 = workload("resnet18")
    assert sum(layer.additions for layer in resnet18) == 2 * (64 * 1024 + 128 * 256 + 256 * 64 + 512 * 16)
    assert not any(layer.additions for layer in workload("lenet5")[1])


@pytest.mark.parametrize("execution", ["loop", "prefix", "shared"])
@pytest.mark.parametrize("adc", CONVERTERS)
@pytest.mark.parametrize("mapping", ["unrolled", "kernel_split"])
def test_energies_add_up(execution, adc, mapping):
    net, layers = workload("resnet20")
    masks = keep_masks(net, draw_plan(net, 5, 1))
    chip = Chip(Crossbar(mapping=mapping), adc)
    report = energy_report(layers, 5, masks, chip, execution)
    for sums in (report.by_component(), report.by_layer()):
        for field in ("energy_pj", "latency_ns", "area_um2"):
            assert sum(getattr(e, field) for e in sums) == pytest.approx(getattr(report, field))
    assert all(e.energy_pj >= 0 and e.latency_ns >= 0 and e.area_um2 >= 0 for e in report.entries)


@pytest.mark.parametrize(("network", "method"), [("resnet20", "proposed"), ("vgg_small", "spatial_spindrop")])
def test_prefixes_are_those_of_shared_execution(network, method):
    net, layers = workload(network, method, 0.25)
    plan = draw_plan(net, 12, 0)
    uses = passes_of(layers, 12, keep_masks(net, plan), "shared")
    work = sum(use.evaluations * layer.mac for use, layer in zip(uses, layers, strict=True))
    with torch.no_grad():
        expected = shared_passes(trace(net, torch.zeros(1, 3, 32, 32)), PrefixTree(net, plan))
    # a draw on a layer's input comes before its product in both
    assert work / sum(layer.mac for layer in layers) == pytest.approx(expected)
    loop = passes_of(layers, 12, keep_masks(net, plan))
    assert all(use.evaluations == use.results == 12 and not use.waiting_outputs for use in loop)
    assert all(a.drops == b.drops for a, b in zip(uses, loop, strict=True))
    assert all(a.draws == b.draws for a, b in zip(uses, loop, strict=True))


def test_sharing_by_hand():
    _, layers = workload("lenet5")
    masks = {
        "hidden.0.scale": torch.tensor([1, 1, 0, 0])[:, None],
        "hidden.3.scale": torch.tensor([1, 0, 1, 1])[:, None],
        "hidden.5.scale": torch.tensor([1, 1, 1, 1])[:, None],
    }
    uses = passes_of(layers, 4, masks, "shared")
    assert [use.evaluations for use in uses] == [1, 1, 2, 3, 3]
    assert [use.results for use in uses] == [1, 2, 3, 3, 3]
    assert [use.scaled for use in uses] == [0, 1, 2, 3, 0]
    assert [use.waiting_outputs for use in uses] == [0, 1, 1, 0, 0]
    report = network_energy(layers, uses)
    buffers = {e.layer: e.operations for e in report.entries if e.component == "prefix buffer"}
    # one bit an output, written and read
    assert buffers == {"hidden.0.conv": 2 * 1600, "hidden.3.linear": 2 * 120}
    assert report.energy_pj < energy_report(layers, 4, masks).energy_pj
    # an element-wise scale that is kept in part multiplies that part
    part = {name: torch.tensor([[1.0, 1, 1, 0]] * 4) for name in masks}
    assert [use.scaled for use in passes_of(layers, 4, part)] == [0, 3, 3, 3, 0]


def test_wrong_masks_are_refused():
    net, layers = workload("lenet5")
    masks = keep_masks(net, draw_plan(net, 3))
    with pytest.raises(ValueError, match="3 passes, not for 4"):
        passes_of(layers, 4, masks)
    with pytest.raises(ValueError, match=r"disagree on hidden\.0\.scale"):
        passes_of(layers, 4)
    with pytest.raises(ValueError, match="at least 1"):
        passes_of(layers, 0, masks)
    with pytest.raises(ValueError, match="enumerated masks"):
        keep_masks(net, enumerate_plan(net))


def test_a_dropped_scale_saves_its_multiplication_and_its_memory():
    net, layers = workload("vgg_small", width=0.25)
    plan = draw_plan(net, 10, 3)
    kept = {name: torch.ones_like(mask) for name, mask in keep_masks(net, plan).items()}
    dropped = {name: torch.zeros_like(mask) for name, mask in kept.items()}
    sums = [
        {e.component: e.energy_pj for e in energy_report(layers, 10, masks, MULTIPLIED).by_component()}
        for masks in (kept, dropped)
    ]
    assert sums[0].keys() - sums[1].keys() == set()
    assert sums[1]["scale multiplier"] == sums[1]["scale memory"] == 0
    same = sums[0].keys() - {"scale multiplier", "scale memory"}
    assert all(sums[0][name] == sums[1][name] for name in same)
    between = energy_report(layers, 10, keep_masks(net, plan), MULTIPLIED).energy_pj
    assert sum(sums[1].values()) < between < sum(sums[0].values())
    # a threshold is read whether it is that of the kept or of the dropped scale
    folded = [energy_report(layers, 10, masks).energy_pj for masks in (kept, dropped)]
    assert folded[0] == folded[1] < between


def test_what_real_layers_are():
    net, layers = workload("lenet5")
    masks = keep_masks(net, draw_plan(net, 10))
    digital, binary, excluded = (
        energy_report(layers, 10, masks, Chip(real_layers=real)) for real in ("digital", "binary", "excluded")
    )
    assert {e.layer for e in digital.entries} - {e.layer for e in excluded.entries} == {"stem.0", "classifier"}
    conversions = next(e for e in binary.by_component() if e.component == "ADC").operations
    assert conversions == 10 * (4704 + 3200 + 480 + 84 + 10)


def test_command(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "120")
    figure = tmp_path / "energy.svg"
    assert main(["lenet5", "--real-layers", "binary", "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    for word in (
        "ADC",
        "hidden.3.linear",
        "total",
        "murmann",
        "0.18 uJ",
        "pJ would match",
        "excluded",
        "TOPS/W",
        "images per second",
    ):
        assert word in out, word
    assert "inside" not in out
    assert "<svg" in figure.read_text()
    preset = tmp_path / "mine.yaml"
    preset.write_text("adder_energy: {value: 0.21, unit: ns, source: me, status: assumed}\n")
    with pytest.raises(ValueError, match=r"must be in pJ \(or fJ, nJ\), not in ns"):
        main(["lenet5", "--preset", str(preset)])
    assert main(["lenet5", "--method", "fp", "--width", "0.5"]) == 0
    assert "T = 1" in capsys.readouterr().out


def test_sources_one_by_one(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    preset = tmp_path / "mine.yaml"
    preset.write_text(LAB + "adder_energy: {value: 0.2, unit: pJ, source: me, status: assumed}\n")
    assert main(["resnet20", "--width", "0.25", "--tornado", "--adc", "lab", "--preset", str(preset)]) == 0
    out = capsys.readouterr().out
    for word in (
        "lab (28 nm, yours)",
        "converter, isaac",
        "multiplier, horowitz",
        "skip, 8 bits",
        "memories, nvmexplorer",
    ):
        assert word in out, word
    assert "adder, horowitz" not in out  # the user has said what an adder takes
    assert main(["lenet5", "--mtj", "sot_80nm"]) == 0
    assert "this junction, which is used here" in capsys.readouterr().out


LAB = """
converters:
  lab:
    node: 28 nm
    energy: {value: {7: 0.8, 8: 0.9}, unit: pJ, status: assumed, source: our converter}
    time: {value: 2.0, unit: ns, status: assumed, source: our converter}
    area: {value: 900, unit: um2, status: assumed, source: our converter}
"""


def test_bad_chips_are_refused():
    with pytest.raises(ValueError, match="unknown converter 'isac'; did you mean 'isaac'"):
        Chip(adc="isac")
    with pytest.raises(ValueError, match=r"is not available with 3 bits.*adc_bits=4"):
        Chip(adc="mnsim", adc_bits=3)
    with pytest.raises(ValueError, match="scale_bits"):
        Chip(scale_bits=0)
    with pytest.raises(ValueError, match="rows"):
        Crossbar(rows=0)


def test_groups_have_tiles_of_their_own():
    layer = trace_workload(nn.Sequential(nn.Conv2d(8, 4, 3, groups=4)), (8, 5, 5))[0]
    mapped = MappedLayer(layer, Crossbar(16, 16))
    assert (layer.in_channels, layer.rows, layer.groups) == (8, 18, 4)
    assert mapped.row_tiles == (16, 2)
    assert (mapped.tiles, mapped.conversions) == (8, 2 * 4 * 9)
    assert mapped.word_lines == 18 * 4 * 9
    use = LayerUse(1, 1)
    assert network_energy([replace(layer, binary=True)], [use]).energy_pj > 0


def segmentation(network: str, method: str = "proposed", size: int = 32) -> list[LayerShape]:
    net = build_segmentation_network(network, SEGMENTATION_METHODS[method], width=0.125, image_size=size)
    return trace_workload(net, (3, size, size))


def test_codes_are_signs_bit_by_bit():
    """A sum of weights times codes, from reads with signs: what the counts of layers with several bits stand for."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(0, 2, (5, 40), generator=generator).mul(2).sub(1).double()
    codes = torch.randint(0, 16, (40, 7), generator=generator)
    signs = torch.stack([codes.bitwise_right_shift(bit).bitwise_and(1).mul(2).sub(1) for bit in range(4)]).double()
    reads = sum(2**bit * (weight @ signs[bit]) for bit in range(4))
    assert torch.equal((reads + 15 * weight.sum(1, keepdim=True)) / 2, weight @ codes.double())
    assert reads.abs().max() <= 40 * 15 < 2 ** (MappedLayer(layer_of_codes(40), Crossbar()).sum_bits - 1)


def layer_of_codes(rows: int, bits: int = 4) -> LayerShape:
    return LayerShape("layer", rows, 8, 6, True, inputs=rows, input_bits=bits, output_bits=bits)


def test_inputs_of_four_bits_by_hand():
    one, four = (MappedLayer(layer_of_codes(300, bits), Crossbar()) for bits in (1, 4))
    # 300 rows on three tiles, 8 outputs at 6 pixels: each bit is a read of its own, joined by shifting and adding
    assert (four.word_lines, four.cell_reads, four.conversions) == (4 * 300 * 6, 4 * 300 * 48, 4 * 3 * 48)
    assert (four.conversions, four.tiles, four.adc_bits) == (4 * one.conversions, one.tiles, one.adc_bits)
    assert (one.partial_sum_additions, four.partial_sum_additions) == (2 * 48, 11 * 48)
    assert (one.sum_bits, four.sum_bits) == (10, 14)  # up to 300 and to 4500, with a sign
    layers = [four.shape]
    report = network_energy(layers, passes_of(layers, 1))
    single = network_energy([one.shape], passes_of([one.shape], 1))
    time_ns = {entry.component: entry.latency_ns for entry in report.entries}
    assert time_ns["ADC"] == 4 * next(entry.latency_ns for entry in single.entries if entry.component == "ADC")
    assert next(e.operations for e in report.entries if e.component == "comparator") == 4 * 48


@pytest.mark.parametrize("network", ["unet", "segnet"])
def test_layers_of_segmentation_networks(network):
    layers = segmentation(network)
    assert not layers[0].binary
    assert not layers[-1].binary
    assert {layer.input_bits for layer in layers[1:-1]} == {4}
    assert {layer.output_bits for layer in layers} == {4}
    net = build_segmentation_network(network, SEGMENTATION_METHODS["proposed"], width=0.125, image_size=32).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    assert 2 * sum(layer.mac for layer in layers) == counter.get_total_flops()


def test_what_waits_in_segmentation_networks():
    # widths 8, 16, 32, 64 of the encoder at 32, 16, 8 and 4 pixels a side wait for the decoder
    sizes = [8 * 32 * 32, 16 * 16 * 16, 32 * 8 * 8, 64 * 4 * 4]
    assert [layer.joined for layer in segmentation("unet") if layer.joined] == sizes[::-1]
    # places of what five poolings leave, 8, 16, 32, 64 and 64 maps of 16 to 1 pixels a side
    places = [8 * 16 * 16, 16 * 8 * 8, 32 * 4 * 4, 64 * 2 * 2, 64]
    assert [layer.places for layer in segmentation("segnet") if layer.places] == places[::-1]
    layers = segmentation("segnet")
    report = network_energy(
        layers, passes_of(layers, 1, dict.fromkeys((x.behind for x in layers if x.behind), torch.ones(1, 1)))
    )
    kept = {entry.component: entry.operations for entry in report.by_component()}
    assert kept["feature buffer"] == 2 * 2 * sum(places)
    # in full precision what waits has 32 bits
    layers = segmentation("unet", "fp")
    kept = {entry.component: entry.operations for entry in network_energy(layers, passes_of(layers, 1)).by_component()}
    assert kept["feature buffer"] == 2 * 32 * sum(sizes)


def test_the_command_takes_segmentation_networks(capsys):
    assert main(["segnet", "--width", "0.125", "--image-size", "32", "--passes", "2"]) == 0
    assert "one 3x32x32 image" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown network 'u-net'; did you mean 'unet'"):
        main(["u-net"])
