"""Energy, latency and area of a network on a chip: operation counts times component constants.

Binary layers run on crossbars; sums of their tiles are added, multiplied by the scale where it is kept, and compared
with BatchNorm's threshold. Layers that are not binary, in a binary network the first and the last, are digital with
8-bit numbers (``real_layers="digital"``), or counted as if they were binary (``"binary"``), or left out
(``"excluded"``): the paper does not say which it did. A skip is added behind the scale; what is concatenated behind a
layer, and the places that an unpooling needs, wait in a buffer. Word lines that are off, because the input is padded or
dropped, are counted as on. Latency: layers one after another, all tiles of a layer at once, columns of a converter one
after another; digital blocks behind a converter keep pace with it and add nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from hardware.adc import Adc, AdcModel, build_adc
from hardware.constants import Preset
from hardware.mapping import Crossbar, MappedLayer
from hardware.passes import LayerUse
from hardware.workload import LayerShape

RealLayers = Literal["digital", "binary", "excluded"]
#: name of what belongs to no single layer
NETWORK = "(network)"
#: width of the digital blocks that the constants are for, and of real activations
WORD = 32
#: bits of the place of a maximum in its 2x2 square
PLACE_BITS = 2


@dataclass(frozen=True)
class Chip:
    """How a network is put on a chip."""

    crossbar: Crossbar = field(default_factory=Crossbar)
    """geometry and mapping"""
    adc: AdcModel = "isaac"
    """model of the converters"""
    adc_bits: int | None = None
    """bits of the converters; ``None``: as many as exact partial sums need"""
    scale_bits: int = 32
    """bits of a scale; the paper's SRAM has 32"""
    skip_bits: int = 32
    """bits of a number on a skip connection; ours, the paper gives none"""
    real_layers: RealLayers = "digital"
    """layers that are not binary: digital, as if binary, or excluded"""
    real_weight_bits: int = 8
    """bits of a weight of a digital layer"""
    real_mac_units: int = 256
    """multiply-accumulate units of a digital layer"""

    def __post_init__(self) -> None:
        if self.real_layers not in get_args(RealLayers):
            raise ValueError(f"real_layers must be one of {', '.join(get_args(RealLayers))}, got {self.real_layers!r}")
        if min(self.scale_bits, self.skip_bits, self.real_weight_bits, self.real_mac_units) < 1:
            raise ValueError("scale_bits, skip_bits, real_weight_bits and real_mac_units must be at least 1")


@dataclass(frozen=True)
class Entry:
    """What one component of one layer takes for all passes over one image."""

    layer: str
    """module name"""
    component: str
    """what it is"""
    operations: float
    """how often it is used"""
    energy_pj: float
    """energy, pJ"""
    latency_ns: float = 0.0
    """time, ns"""
    area_um2: float = 0.0
    """area, um2"""


@dataclass(frozen=True)
class EnergyReport:
    """Breakdown of a network's cost for one image."""

    entries: tuple[Entry, ...]
    """one for each layer and component"""

    @property
    def energy_pj(self) -> float:
        """Energy an image, pJ."""
        return math.fsum(entry.energy_pj for entry in self.entries)

    @property
    def latency_ns(self) -> float:
        """Time an image, ns."""
        return math.fsum(entry.latency_ns for entry in self.entries)

    @property
    def area_um2(self) -> float:
        """Area, um2."""
        return math.fsum(entry.area_um2 for entry in self.entries)

    def by_component(self) -> list[Entry]:
        """Sums over the layers, in the order in which a signal passes the components."""
        return self._sums(lambda entry: entry.component)

    def by_layer(self) -> list[Entry]:
        """Sums over the components, in the order of the layers."""
        return self._sums(lambda entry: entry.layer)

    def _sums(self, key: Callable[[Entry], str]) -> list[Entry]:
        sums: dict[str, Entry] = {}
        for entry in self.entries:
            old = sums.get(key(entry), Entry(entry.layer, entry.component, 0.0, 0.0))
            sums[key(entry)] = Entry(
                old.layer,
                old.component,
                old.operations + entry.operations,
                old.energy_pj + entry.energy_pj,
                old.latency_ns + entry.latency_ns,
                old.area_um2 + entry.area_um2,
            )
        return list(sums.values())


def network_energy(
    layers: Sequence[LayerShape], uses: Sequence[LayerUse], chip: Chip | None = None, preset: Preset | None = None
) -> EnergyReport:
    """Energy, latency and area for one image.

    Args:
        layers: of :func:`hardware.workload.trace_workload`.
        uses: of :func:`hardware.passes.passes_of` for the same layers.
        chip: how they are put on a chip.
        preset: component constants, by default those of ``components.yaml``.
    """
    from hardware.presets import components

    chip, preset = chip or Chip(), preset or components()
    entries: list[Entry] = []
    for layer, use in zip(layers, uses, strict=True):
        if layer.binary or chip.real_layers == "binary":
            entries += _crossbar_entries(layer, use, chip, preset)
        elif chip.real_layers == "digital":
            entries += _digital_entries(layer, use, chip, preset)
        else:
            continue
        entries += _output_entries(layer, use, chip, preset)
    entries += _network_entries(layers, uses, chip, preset)
    return EnergyReport(tuple(entry for entry in entries if entry.operations or entry.area_um2))


def column_resistance_kohm(rows: int, preset: Preset) -> float:
    """Resistance of a column of ``rows`` cells, half of them in LRS and half in HRS."""
    return preset.number("cell_resistance_p", "kOhm") / (rows * _mean_conductance(preset))


def _mean_conductance(preset: Preset) -> float:
    """Mean of both states, in units of the parallel one's."""
    return (1 + 1 / (1 + preset.number("cell_tmr", "1"))) / 2


def _crossbar_entries(layer: LayerShape, use: LayerUse, chip: Chip, preset: Preset) -> Iterable[Entry]:
    mapped, read_ns = MappedLayer(layer, chip.crossbar), preset.number("cell_read_time", "ns")
    adc = layer_adc(layer, chip, preset)
    times, steps = use.evaluations, use.evaluations * layer.positions * layer.input_bits
    volt, kohm = preset.number("cell_read_voltage", "V"), preset.number("cell_resistance_p", "kOhm")
    # V^2 ns / kOhm = 1 pJ
    cell_pj = volt**2 * read_ns * _mean_conductance(preset) / kohm
    shared = min(chip.crossbar.columns_per_adc, layer.columns)
    adder_pj = preset.number("adder_energy", "pJ") * mapped.sum_bits / WORD
    adders = mapped.converters if mapped.partial_sum_additions else 0
    yield _entry(layer, "input fetch", times * mapped.input_reads, preset.number("input_bit_energy", "pJ"))
    yield _entry(layer, "word lines", times * mapped.word_lines, preset.number("word_line_energy", "pJ"))
    array = _entry(layer, "crossbar", times * mapped.cell_reads, cell_pj, steps * read_ns)
    yield replace(array, area_um2=mapped.allocated_devices * preset.number("cell_area", "um2"))
    conversions = _entry(layer, "ADC", times * mapped.conversions, adc.energy_pj, steps * shared * adc.time_ns)
    yield replace(conversions, area_um2=mapped.converters * adc.area_um2)
    sums = _entry(layer, "adder", times * mapped.partial_sum_additions, adder_pj)
    yield replace(sums, area_um2=adders * preset.number("adder_area", "um2") * mapped.sum_bits / WORD)


def layer_adc(layer: LayerShape, chip: Chip, preset: Preset) -> Adc:
    """Converter of a layer: of the chip's bits, or of those that its tiles need."""
    mapped = MappedLayer(layer, chip.crossbar)
    bits = chip.adc_bits or mapped.adc_bits
    return build_adc(chip.adc, bits, column_resistance_kohm(max(mapped.row_tiles), preset), preset)


def _digital_entries(layer: LayerShape, use: LayerUse, chip: Chip, preset: Preset) -> Iterable[Entry]:
    macs, bits = use.evaluations * layer.mac, use.evaluations * layer.weights * chip.real_weight_bits
    latency_ns = macs / chip.real_mac_units * preset.number("real_mac_time", "ns")
    yield _entry(layer, "digital MAC", macs, preset.number("real_mac_energy", "pJ"), latency_ns)
    weights = _entry(layer, "weight memory", bits, preset.number("sram_energy", "pJ"))
    yield replace(weights, area_um2=layer.weights * chip.real_weight_bits * preset.number("sram_area", "um2"))


def _output_entries(layer: LayerShape, use: LayerUse, chip: Chip, preset: Preset) -> Iterable[Entry]:
    """Scale, skip, threshold, dropout bits and buffer behind a layer."""
    mapped, sram_pj = MappedLayer(layer, chip.crossbar), preset.number("sram_energy", "pJ")
    units = max(1, layer.columns // chip.crossbar.columns_per_adc)
    if layer.scaled:
        share = chip.scale_bits * mapped.sum_bits / WORD**2
        row_bits, area = layer.columns * chip.scale_bits, units * preset.number("multiplier_area", "um2") * share
        memory = _entry(layer, "scale memory", use.scaled * row_bits, sram_pj)
        yield replace(memory, area_um2=row_bits * preset.number("sram_area", "um2"))
        yield _entry(layer, "multiplexer", use.results * chip.scale_bits, preset.number("multiplexer_energy", "pJ"))
        products = use.scaled * layer.outputs
        product = _entry(layer, "scale multiplier", products, preset.number("multiplier_energy", "pJ") * share)
        yield replace(product, area_um2=area)
    if layer.additions:
        share, kept = chip.skip_bits / WORD, layer.additions * chip.skip_bits
        skip = _entry(layer, "skip adder", use.results * layer.additions, preset.number("adder_energy", "pJ") * share)
        yield replace(skip, area_um2=units * preset.number("adder_area", "um2") * share)
        buffer = _entry(layer, "skip buffer", 2 * use.results * kept, sram_pj)
        yield replace(buffer, area_um2=kept * preset.number("sram_area", "um2"))
    # a code of k bits is found among its thresholds by halving, k comparisons
    comparisons = use.results * layer.outputs * layer.output_bits
    compared = _entry(layer, "comparator", comparisons, preset.number("comparator_energy", "pJ"))
    yield replace(compared, area_um2=units * preset.number("comparator_area", "um2"))
    features = layer.joined * (layer.output_bits if layer.binary else WORD) + layer.places * PLACE_BITS
    buffer = _entry(layer, "feature buffer", 2 * use.results * features, sram_pj)
    yield replace(buffer, area_um2=features * preset.number("sram_area", "um2"))
    cycle_ns = preset.number("module_cycle", "ns")
    draw_pj = preset.number("module_power", "mW") * cycle_ns
    # one set of modules serves all layers, so a layer's bits come in one cycle
    passes = use.draws // layer.random_bits if layer.random_bits else 0
    yield _entry(layer, "dropout module", use.draws, draw_pj, passes * cycle_ns)
    # activations of a binary layer wait as their bits, those of a real layer or of a skip as words
    width_in, width_out = (layer.input_bits, layer.output_bits) if layer.binary else (WORD, WORD)
    width_out = chip.skip_bits if layer.additions else width_out
    bits_in, bits_out = layer.inputs * width_in, layer.outputs * width_out
    waiting = use.waiting_inputs * bits_in + use.waiting_outputs * bits_out
    capacity = bool(use.waiting_inputs) * bits_in + bool(use.waiting_outputs) * bits_out
    buffer = _entry(layer, "prefix buffer", 2 * waiting, sram_pj)
    yield replace(buffer, area_um2=capacity * preset.number("sram_area", "um2"))


def _network_entries(
    layers: Sequence[LayerShape], uses: Sequence[LayerUse], chip: Chip, preset: Preset
) -> Iterable[Entry]:
    """What serves layer after layer, and the mean over the passes."""
    if chip.real_layers == "digital" and not all(layer.binary for layer in layers):
        area_um2 = chip.real_mac_units * preset.number("real_mac_area", "um2")
        yield Entry(NETWORK, "digital MAC", 0.0, 0.0, area_um2=area_um2)
    modules = max((layer.random_bits for layer in layers), default=0)
    area_um2 = modules * preset.number("module_area", "um2")
    yield Entry(NETWORK, "dropout module", 0.0, 0.0, area_um2=area_um2)
    passes = uses[-1].results
    if passes > 1:
        sums, adder_pj = passes * layers[-1].outputs, preset.number("adder_energy", "pJ")
        area_um2 = layers[-1].columns * preset.number("adder_area", "um2")
        yield Entry(NETWORK, "averaging", float(sums), sums * adder_pj, area_um2=area_um2)


def _entry(
    layer: LayerShape, component: str, operations: int | float, each_pj: float, latency_ns: float = 0.0
) -> Entry:
    return Entry(layer.name, component, float(operations), operations * each_pj, float(latency_ns))
