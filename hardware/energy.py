"""Energy, latency and area of a network on a chip: operation counts times component constants.

Binary layers run on crossbars; sums of their tiles are added and go to what stands behind the layer
(:mod:`hardware.outputs`). Layers that are not binary, in a binary network the first and the last, are digital with
8-bit numbers (``real_layers="digital"``; their BatchNorm is in their weights), or counted as if they were binary
(``"binary"``), or left out (``"excluded"``): the paper does not say which it did. Word lines that are off, because the
input is padded or dropped, are counted as on. Latency: layers one after another, all tiles of a layer at once, columns
of a converter one after another; digital blocks behind a converter keep pace with it and add nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hardware.breakdown import EnergyReport, Entry
from hardware.chip import Chip
from hardware.mapping import MappedLayer
from hardware.memory import read_pj
from hardware.outputs import WORD, drop_pj, entry_of, output_entries
from hardware.passes import LayerUse
from hardware.workload import LayerShape

NETWORK = "(network)"
"""name of what belongs to no single layer"""


def network_energy(layers: Sequence[LayerShape], uses: Sequence[LayerUse], chip: Chip | None = None) -> EnergyReport:
    """Energy, latency and area for one image, and the energy's standard deviation where uses are expectations.

    Args:
        layers: of :func:`hardware.workload.trace_workload`.
        uses: of :func:`hardware.passes.expected_passes` or ``passes_of`` for the same layers.
        chip: how they are put on a chip.
    """
    chip, variance = chip or Chip(), 0.0
    entries, left_out = list[Entry](), set[str]()
    for layer, use in zip(layers, uses, strict=True):
        if layer.binary or chip.real_layers == "binary":
            entries += _crossbar_entries(layer, use, chip)
        elif chip.real_layers == "digital":
            entries += _digital_entries(layer, use, chip)
        else:
            left_out.add(layer.name)
            continue
        if layer.skip_of in left_out:  # and so is the buffer in which it waits
            use = replace(use, skip_waits=False)
        entries += output_entries(layer, use, chip)
        # drops of one layer are independent of those of another, and the energy is linear in their number
        each = drop_pj(layer, use, chip)
        variance += sum(drops * more**2 for drops, more in zip(use.drops_variance, each, strict=True))
    entries += _network_entries(layers, uses, chip)
    return EnergyReport(tuple(entry for entry in entries if entry.operations or entry.area_um2), variance**0.5)


def _crossbar_entries(layer: LayerShape, use: LayerUse, chip: Chip) -> Iterable[Entry]:
    mapped, number = MappedLayer(layer, chip.crossbar), chip.components.number
    adc, read_ns = chip.layer_adc(layer), number("cell_read_time", "ns")
    times, steps = use.evaluations, use.evaluations * layer.positions * layer.input_bits
    # V^2 ns / kOhm = 1 pJ; a converter whose energy holds the column's current has these as well
    cell_pj = 0.0 if adc.includes_cells else number("cell_read_voltage", "V") ** 2 * read_ns * chip.cell_conductance
    shared = min(chip.crossbar.columns_per_adc, layer.columns)
    adder_pj = number("adder_energy", "pJ") * mapped.sum_bits / WORD
    adders = mapped.converters if mapped.partial_sum_additions else 0
    yield entry_of(layer, "input fetch", times * mapped.input_reads, number("input_bit_energy", "pJ"))
    yield entry_of(layer, "word lines", times * mapped.word_lines, number("word_line_energy", "pJ"))
    array = entry_of(layer, "crossbar", times * mapped.cell_reads, cell_pj, steps * read_ns)
    yield replace(array, area_um2=mapped.allocated_devices * number("cell_area", "um2"))
    conversions = entry_of(layer, "ADC", times * mapped.conversions, adc.energy_pj, steps * shared * adc.time_ns)
    yield replace(conversions, area_um2=mapped.converters * adc.area_um2)
    sums = entry_of(layer, "adder", times * mapped.partial_sum_additions, adder_pj)
    yield replace(sums, area_um2=adders * number("adder_area", "um2") * mapped.sum_bits / WORD)


def _digital_entries(layer: LayerShape, use: LayerUse, chip: Chip) -> Iterable[Entry]:
    number, capacity = chip.components.number, layer.weights * chip.real_weight_bits
    macs = use.evaluations * layer.mac
    latency_ns = macs / chip.real_mac_units * number("real_mac_time", "ns")
    yield entry_of(layer, "digital MAC", macs, number("real_mac_energy", "pJ"), latency_ns)
    weights = entry_of(layer, "weight memory", use.evaluations * capacity, read_pj(capacity, chip.components))
    yield replace(weights, area_um2=capacity * number("sram_area", "um2"))


def _network_entries(layers: Sequence[LayerShape], uses: Sequence[LayerUse], chip: Chip) -> Iterable[Entry]:
    """What serves layer after layer, and the mean over the passes."""
    number = chip.components.number
    if chip.real_layers == "digital" and not all(layer.binary for layer in layers):
        area_um2 = chip.real_mac_units * number("real_mac_area", "um2")
        yield Entry(NETWORK, "digital MAC", 0.0, 0.0, area_um2=area_um2)
    modules = max((layer.random_bits for layer in layers), default=0)
    yield Entry(NETWORK, "dropout module", 0.0, 0.0, area_um2=modules * number("module_area", "um2"))
    passes = uses[-1].results
    if passes > 1:
        sums, adder_pj = passes * layers[-1].outputs, number("adder_energy", "pJ")
        area_um2 = layers[-1].columns * number("adder_area", "um2")
        yield Entry(NETWORK, "averaging", float(sums), sums * adder_pj, area_um2=area_um2)
