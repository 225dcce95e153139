"""Configuration of a chip: geometry, converters, arithmetic, source of random bits."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from hardware.adc import Adc, Converter
from hardware.draws import BitCost, junction_bit, module_bit
from hardware.mapping import Crossbar, MappedLayer
from hardware.mtj import MTJ
from hardware.presets import Components, components
from hardware.workload import LayerShape

RealLayers = Literal["digital", "binary", "excluded"]
Scale = Literal["folded", "multiplied"]


@dataclass(frozen=True)
class Chip:
    """How a network is put on a chip.

    Raises:
        ValueError: for a choice that there is not, or a converter that the components have not, at once.
    """

    crossbar: Crossbar = field(default_factory=Crossbar)
    """geometry and mapping"""
    adc: str = "isaac"
    """name of the converters"""
    adc_bits: int | None = None
    """bits of the converters; ``None``: as few as exact partial sums need and the converter comes in"""
    scale: Scale = "folded"
    """scale and BatchNorm in front of a sign: two thresholds a channel, kept and dropped, or a product where kept"""
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
    junction: MTJ | None = None
    """device that makes the random bits; ``None``: the paper's module"""
    components: Components = field(default_factory=components, repr=False)
    """constants of the components"""

    def __post_init__(self) -> None:
        for name, choices in (("real_layers", RealLayers), ("scale", Scale)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}")
        if min(self.scale_bits, self.skip_bits, self.real_weight_bits, self.real_mac_units) < 1:
            raise ValueError("scale_bits, skip_bits, real_weight_bits and real_mac_units must be at least 1")
        if self.adc_bits is not None:
            self.converter.require(self.adc_bits)
        else:
            self.converter.at_least(1)

    @property
    def converter(self) -> Converter:
        """The kind of converter.

        Raises:
            PresetError: for an unknown name, with the nearest match.
        """
        return self.components.converter(self.adc)

    @property
    def cell_conductance(self) -> float:
        """Mean conductance of a cell, 1/kOhm: half of them are in either state."""
        low = self.components.number("cell_resistance_p", "kOhm")
        return (1 + 1 / (1 + self.components.number("cell_tmr", "1"))) / 2 / low

    def column_resistance_kohm(self, rows: int) -> float:
        """Resistance of a column of ``rows`` cells."""
        return 1 / (rows * self.cell_conductance)

    def layer_adc(self, layer: LayerShape) -> Adc:
        """Converter of a layer: of the chip's bits, or of those that its tiles need."""
        mapped = MappedLayer(layer, self.crossbar)
        bits = self.adc_bits or self.converter.at_least(mapped.adc_bits)
        volt = self.components.number("cell_read_voltage", "V")
        return self.converter.at(bits, self.column_resistance_kohm(max(mapped.row_tiles)), volt)

    def random_bit(self, p: float) -> BitCost:
        """What a random bit of a drop probability takes."""
        return module_bit(self.components) if self.junction is None else junction_bit(self.junction, p)

    def needs_values(self, layer: LayerShape) -> bool:
        """Whether more than signs see a layer's outputs, so that scale and BatchNorm are a product and a sum."""
        return bool(layer.to_skip or (layer.to_real and self.real_layers != "binary"))
