"""The chip of a command or callback: a chip file or the default chip, with changes by single options."""

from dataclasses import dataclass, replace
from typing import Any

from hardware.chip import Chip, RealLayers, Scale
from hardware.chip_file import find_junction, load_chip
from hardware.mapping import Mapping
from hardware.presets import components


@dataclass(frozen=True, kw_only=True)
class ChipOptions:
    """A chip by options; what is left out is as in the chip file, or in the default chip.

    Args:
        chip: chip file, see `scaledrop chip` (default: our default chip).
        rows: inputs of a crossbar (default: 128).
        columns: columns of a crossbar (default: 128).
        columns_per_adc: columns that share a converter (default: 8).
        mapping: how a convolution lies on crossbars (default: unrolled).
        adc: converters, by name; a preset file may add its own (default: isaac).
        adc_bits: bits of the converters (default: what exact sums need).
        scale: scale and BatchNorm in front of a sign folded into two thresholds, or multiplied where kept
            (default: folded).
        skip_bits: bits of a number on a skip (default: 32).
        real_layers: first and last layer: digital, counted as if binary, or excluded (default: digital).
        mtj: junction that makes the random bits, by name or file (default: that of the chip file, sot_80nm where it
            names none; without a file, the paper's module).
        preset: YAML file whose constants replace ours, and whose converters are added.
    """

    chip: str | None = None
    rows: int | None = None
    columns: int | None = None
    columns_per_adc: int | None = None
    mapping: Mapping | None = None
    adc: str | None = None
    adc_bits: int | None = None
    scale: Scale | None = None
    skip_bits: int | None = None
    real_layers: RealLayers | None = None
    mtj: str | None = None
    preset: str | None = None

    def build(self) -> Chip:
        """The chip.

        Raises:
            ValueError: a file, a name or a number that cannot be, or constants beside those of a chip file.
        """
        if self.chip and self.preset:
            raise ValueError("a chip file contains its constants: give --chip or --preset, not both")
        base = load_chip(self.chip).chip if self.chip else Chip(components=components(self.preset))
        crossbar = replace(base.crossbar, **self._given("rows", "columns", "columns_per_adc", "mapping"))
        changed = self._given("adc", "adc_bits", "scale", "skip_bits", "real_layers")
        if self.mtj:
            changed["junction"] = find_junction(self.mtj).build()[0]
        return replace(base, crossbar=crossbar, **changed)

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}
