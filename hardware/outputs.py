r"""Operations after a layer: scale and BatchNorm, skip, threshold, random bits, and the buffers of its outputs.

In front of a sign, scale and BatchNorm are a threshold, $\operatorname{sign}(A x + B)$ of a whole number x. With
``scale="folded"`` a channel has two threshold words, one for a scale that is kept and one for a dropped one. With
``"multiplied"`` it has one, and a scale that is read and multiplied where it is kept. Where a skip or a layer with real
inputs sees the outputs, $A x + B$ is a product and a sum, whether a scale is kept or dropped, and of methods without
one. The words that a pass needs are read from a memory, of all methods alike; where passes take turns with several sets
of a normalization, it holds the words of all of them, those of a digital layer too, whose weights hold one set only.
A skip is added behind that; what is concatenated behind a layer, and the places that an unpooling needs, wait in a
buffer. Each memory is priced by its own capacity.
"""

from collections.abc import Iterable
from dataclasses import replace

from hardware.breakdown import Entry
from hardware.chip import Chip
from hardware.mapping import MappedLayer
from hardware.memory import read_pj, write_pj
from hardware.passes import LayerUse
from hardware.workload import LayerShape

WORD = 32
"""width of the digital blocks that the constants are for, and of real activations"""
PLACE_BITS = 2
"""bits of the place of a maximum in its 2x2 square"""


def output_entries(layer: LayerShape, use: LayerUse, chip: Chip) -> Iterable[Entry]:
    """Entries of everything behind the products of a layer."""
    number, units = chip.components.number, _units(layer, chip)
    yield from _scale_entries(layer, use, chip)
    if layer.additions:
        kept = layer.additions * chip.skip_bits
        yield _sums(layer, "skip adder", use.results * layer.additions, chip.skip_bits, chip)
        yield _buffer(layer, "skip buffer", kept, 0 if use.skip_waits else use.results, use.results, chip)
    # a code of k bits is found among its thresholds by halving, k comparisons
    comparisons = use.results * layer.outputs * layer.output_bits
    compared = entry_of(layer, "comparator", comparisons, number("comparator_energy", "pJ"))
    yield replace(compared, area_um2=units * number("comparator_area", "um2"))
    features = layer.joined * (layer.output_bits if layer.binary else WORD) + layer.places * PLACE_BITS
    yield _buffer(layer, "feature buffer", features, use.results, use.results, chip)
    yield from _draw_entries(layer, use, chip)
    # what only signs see waits as their bits, real numbers as words, as sums do that passes compare differently
    width_in = layer.input_bits if layer.binary else WORD
    words = layer.additions or chip.needs_values(layer) or layer.norm_sets > 1
    width_out = chip.skip_bits if words else layer.output_bits
    for wait, reads, bits in (
        (use.waiting_inputs, use.waiting_inputs, layer.inputs * width_in),
        (use.waiting_outputs, use.output_reads, layer.outputs * width_out),
    ):
        if wait:
            yield _buffer(layer, "prefix buffer", bits, wait, reads, chip)


def drop_pj(layer: LayerShape, use: LayerUse, chip: Chip) -> tuple[float, float]:
    """How much more a pass takes for each random bit in front, and behind, that drops something.

    It is negative where dropping saves: a scale, which the bits behind drop.
    """
    bit = chip.random_bit(use.probability)
    extra = bit.dropped_pj - bit.kept_pj
    if not (layer.scaled and layer.behind_bits):
        return extra, extra
    kept, dropped = (
        sum(entry.energy_pj for entry in _scale_entries(layer, replace(use, scaled=scaled), chip))
        for scaled in (1.0, 0.0)
    )
    return extra, extra - (kept - dropped) / layer.behind_bits


def _scale_entries(layer: LayerShape, use: LayerUse, chip: Chip) -> Iterable[Entry]:
    """Product and sum, thresholds, or scales, with their memory and the choice between kept and dropped."""
    digital = not (layer.binary or chip.real_layers == "binary")
    if digital and layer.norm_sets == 1:
        return  # BatchNorm is in the weights of a digital layer
    sum_bits = WORD if digital else MappedLayer(layer, chip.crossbar).sum_bits
    versions = (2 if layer.scaled else 1) * layer.norm_sets
    if chip.needs_values(layer):
        words, values = 2 * layer.columns * chip.scale_bits, use.results * max(layer.to_skip, layer.to_real)
        yield _memory(layer, "affine memory", use.results * words, versions * words, chip)
        if layer.scaled:
            yield _choice(layer, use, 2 * chip.scale_bits, chip)
        yield _products(layer, "affine multiplier", values, sum_bits, chip)
        yield _sums(layer, "affine adder", values, chip.skip_bits, chip)
        return
    # a code of k bits has 2^k - 1 thresholds; a bit says on which side of one its +1 is
    word = (2**layer.output_bits - 1) * (sum_bits + 1)
    stored = (versions if chip.scale == "folded" else layer.norm_sets) * layer.columns * word
    yield _memory(layer, "threshold memory", use.results * layer.columns * word, stored, chip)
    if layer.scaled and chip.scale == "folded":
        yield _choice(layer, use, word, chip)
    elif layer.scaled:
        words = (1 + layer.biased) * layer.columns * chip.scale_bits
        yield _memory(layer, "scale memory", use.scaled * words, words, chip)
        yield _choice(layer, use, (1 + layer.biased) * chip.scale_bits, chip)
        yield _products(layer, "scale multiplier", use.scaled * layer.outputs, sum_bits, chip)
        if layer.biased:
            yield _sums(layer, "bias adder", use.scaled * layer.outputs, chip.scale_bits, chip)


def _draw_entries(layer: LayerShape, use: LayerUse, chip: Chip) -> Iterable[Entry]:
    """Random bits; one set of modules serves all layers, so a layer's bits come in one cycle."""
    if use.draws:
        bit, passes = chip.random_bit(use.probability), use.draws // layer.random_bits
        energy_pj = (use.draws - use.drops) * bit.kept_pj + use.drops * bit.dropped_pj
        yield Entry(layer.name, "dropout module", float(use.draws), energy_pj, passes * bit.cycle_ns)


def entry_of(
    layer: LayerShape, component: str, operations: int | float, each_pj: float, latency_ns: float = 0.0
) -> Entry:
    """Operations of one kind in a layer."""
    return Entry(layer.name, component, float(operations), operations * each_pj, float(latency_ns))


def _units(layer: LayerShape, chip: Chip) -> int:
    """Digital blocks of a kind: one for each converter."""
    return max(1, layer.columns // chip.crossbar.columns_per_adc)


def _products(layer: LayerShape, component: str, operations: int | float, sum_bits: int, chip: Chip) -> Entry:
    share = chip.scale_bits * sum_bits / WORD**2
    entry = entry_of(layer, component, operations, chip.components.number("multiplier_energy", "pJ") * share)
    area_um2 = _units(layer, chip) * chip.components.number("multiplier_area", "um2") * share
    return replace(entry, area_um2=area_um2)


def _sums(layer: LayerShape, component: str, operations: int | float, width: int, chip: Chip) -> Entry:
    entry = entry_of(layer, component, operations, chip.components.number("adder_energy", "pJ") * width / WORD)
    area_um2 = _units(layer, chip) * chip.components.number("adder_area", "um2") * width / WORD
    return replace(entry, area_um2=area_um2)


def _choice(layer: LayerShape, use: LayerUse, width: int, chip: Chip) -> Entry:
    return entry_of(layer, "multiplexer", use.results * width, chip.components.number("multiplexer_energy", "pJ"))


def _memory(layer: LayerShape, component: str, read_bits: int | float, capacity: int, chip: Chip) -> Entry:
    entry = entry_of(layer, component, read_bits, read_pj(capacity, chip.components))
    return replace(entry, area_um2=capacity * chip.components.number("sram_area", "um2"))


def _buffer(layer: LayerShape, component: str, bits: int, writes: int, reads: int, chip: Chip) -> Entry:
    """A set of numbers of ``bits`` bits, written and read so many times."""
    energy_pj = bits * (writes * write_pj(bits, chip.components) + reads * read_pj(bits, chip.components))
    area_um2 = bits * chip.components.number("sram_area", "um2")
    return Entry(layer.name, component, float((writes + reads) * bits), energy_pj, area_um2=area_um2)
