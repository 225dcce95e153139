r"""Analog-to-digital converters as named entries with energy, time and area, their source and technology node.

An entry gives energy, time and area of a conversion as numbers or tables by bits, or the terms of NeuroSim's formula
for a successive approximation (SAR) converter. Of a table only the bits exist that it names, and from
``continuous_from`` on those between them, where the source is a model of the bits and no list of circuits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hardware.constants import Constant, Preset, PresetError, convert, read_constants, unknown_name

Role = Literal["converter", "bound", "outlier"]
UNITS = {"energy": "pJ", "time": "ns", "area": "um2"}
SAR = {
    "power_per_bit": "uW",
    "power_offset": "uW",
    "power_column": "W.Ohm",
    "column_voltage": "V",
    "step": "ns",
    "area": "um2",
}
"""Terms of NeuroSim's formula with their units."""


@dataclass(frozen=True)
class Adc:
    """What one conversion takes, and the area of a converter."""

    bits: int
    """resolution"""
    energy_pj: float
    time_ns: float
    area_um2: float
    includes_cells: bool = False
    """whether the energy holds the current of the column's cells"""


@dataclass(frozen=True)
class Converter:
    """A kind of converter, of which there are several resolutions."""

    name: str
    """how a chip asks for it"""
    constants: Mapping[str, Constant]
    """energy, time and area, or the terms of NeuroSim's formula"""
    node: str
    """technology node, e.g. ``32 nm``"""
    role: Role = "converter"
    """a converter that a chip can have, a bound that none reaches, or an outlier"""
    continuous_from: int | None = None
    """bits from which a table may be interpolated"""
    yours: bool = field(default=False, compare=False)
    """whether it is from a user's file"""

    @property
    def title(self) -> str:
        """Name with its node, and whose it is."""
        return f"{self.name} ({self.node}{', yours' if self.yours else ''})"

    @property
    def source(self) -> str:
        """Where its energy is from."""
        return self.constants["energy" if "energy" in self.constants else "power_per_bit"].source

    @property
    def most(self) -> int | float:
        """Most bits that it comes in; a formula has no end, and an area says how large a converter is, not which."""
        tables = (c.value for name, c in self.constants.items() if name != "area" and isinstance(c.value, dict))
        return min((max(table) for table in tables), default=math.inf)

    def at_least(self, bits: int) -> int:
        """Fewest bits that it comes in and that are enough.

        Raises:
            PresetError: if it has too few, or ``bits`` is below 1.
        """
        if bits < 1:
            raise PresetError(f"a converter needs at least 1 bit, got {bits}")
        named = [set(c.value) for name, c in self.constants.items() if name != "area" and isinstance(c.value, dict)]
        if not named:
            return bits
        for enough in range(bits, max(map(max, named)) + 1):
            if all(enough in table or self._between(enough, table) for table in named):
                return enough
        raise PresetError(
            f"converter {self.name!r} comes in up to {self.most} bits, not in {bits}: use fewer rows of a crossbar or "
            "fewer bits (adc_bits)"
        )

    def comes_in(self, bits: int) -> bool:
        """Whether there is one of ``bits`` bits."""
        try:
            return self.at_least(bits) == bits
        except PresetError:
            return False

    def require(self, bits: int) -> None:
        """Refuse a resolution that it does not come in.

        Raises:
            PresetError: naming the next one.
        """
        if (enough := self.at_least(bits)) != bits:
            raise PresetError(
                f"converter {self.name!r} is not available with {bits} bits: its source gives neither values nor a "
                f"model for this resolution. Use adc_bits={enough}, or another converter"
            )

    def at(self, bits: int, column_resistance_kohm: float, read_voltage_v: float) -> Adc:
        r"""A converter of ``bits`` bits.

        NeuroSim's formula is $P = (2.1691\,b + 16.693)\,\mu W + 0.100225\,W\Omega / R$ and $E = P (b + 1)\,ns$, with
        $R = R_{col} \cdot 0.5\,V / V_{read}$; the last term is what the cells of the column take.

        Raises:
            PresetError: as :meth:`require`.
        """
        self.require(bits)
        if "energy" in self.constants:
            energy_pj, time_ns, area_um2 = (self._value(name, unit, bits) for name, unit in UNITS.items())
            return Adc(bits, energy_pj, time_ns, area_um2)
        term = Preset(self.name, self.constants).number
        power_uw = term("power_per_bit", "uW") * bits + term("power_offset", "uW")
        # W Ohm / kOhm = 1e-3 W = 1e3 uW
        rescaled_kohm = column_resistance_kohm * term("column_voltage", "V") / read_voltage_v
        power_uw += term("power_column", "W.Ohm") / rescaled_kohm * 1e3
        time_ns = (bits + 1) * term("step", "ns")
        return Adc(bits, power_uw * time_ns * 1e-3, time_ns, self._value("area", "um2", bits), includes_cells=True)

    def _between(self, bits: int, table: set[int]) -> bool:
        return self.continuous_from is not None and self.continuous_from <= bits <= max(table)

    def _value(self, name: str, unit: str, bits: int) -> float:
        """Number, or entry of a table; between two of them geometrically, below the first and above the last these."""
        constant = self.constants[name]
        if not isinstance(constant.value, dict):
            return constant.value
        known = sorted(constant.value)
        upper = next((entry for entry in known if entry >= bits), known[-1])
        if upper <= bits or bits < known[0]:
            return constant.value[upper]
        lower = known[known.index(upper) - 1]
        share = (bits - lower) / (upper - lower)
        return constant.value[lower] ** (1 - share) * constant.value[upper] ** share


def read_converters(entries: Any, where: str, yours: bool = False) -> dict[str, Converter]:
    """Converters by name, of entries as YAML gives them.

    Args:
        entries: name to an entry with ``node``, perhaps ``role`` and ``continuous_from``, and either energy, time and
            area or the terms of NeuroSim's formula, each with value, unit, source and status.
        where: names the file in an error.
        yours: whether the file is a user's.

    Raises:
        PresetError: naming the entry and what it lacks.
    """
    if not isinstance(entries, dict):
        raise PresetError(f"{where} must map names of converters to entries")
    return {str(name): _converter(str(name), entry, f"{where}: {name}", yours) for name, entry in entries.items()}


def _converter(name: str, entry: Any, where: str, yours: bool) -> Converter:
    if not isinstance(entry, dict):
        raise PresetError(f"{where} needs node, energy, time and area, got {entry!r}")
    about = {key: entry[key] for key in ("node", "role", "continuous_from") if key in entry}
    constants = read_constants({key: value for key, value in entry.items() if key not in about}, where)
    units = SAR if constants.keys() & (SAR.keys() - UNITS.keys()) else UNITS
    for key in constants.keys() - units.keys():
        raise PresetError(f"{where}: {unknown_name(key, (*units, 'node', 'role', 'continuous_from'), 'entry')}")
    if missing := [key for key in ("node", *units) if key not in {*constants, *about}]:
        raise PresetError(f"{where} lacks {', '.join(missing)}")
    for key, constant in constants.items():
        constants[key] = convert(f"{where}: {key}", constant, units[key])
        if constant.value == {}:
            raise PresetError(f"{where}: {key} is a table without entries")
    if about.get("role", "converter") not in get_args(Role):
        raise PresetError(f"{where}: role must be one of {', '.join(get_args(Role))}, got {about['role']!r}")
    start = about.get("continuous_from")
    if start is not None and (not isinstance(start, int) or isinstance(start, bool) or start < 1):
        raise PresetError(f"{where}: continuous_from must be a number of bits, at least 1, got {start!r}")
    return Converter(name, constants, str(about["node"]), about.get("role", "converter"), start, yours)
