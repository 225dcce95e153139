"""One chip in one file: its junction, cells, wires, converters, geometry and constants.

    like: sot_80nm                # a junction, by name or device file, or another chip; the source of all values not
        given
    device: {threshold: 0.92 V, slope: 38 /V}
    cell: {resistance_p: 50 kOhm, conductance_cv: 5 %, stuck_p: 0.05 %}
    wires: {per_cell: 1 Ohm}
    converter: {name: lab, bits: 6, energy: 0.9 pJ, time: 1.2 ns, area: 500 um2, node: 28 nm}
    geometry: {rows: 128, columns: 64, mapping: unrolled}
    arithmetic: {scale: folded, skip_bits: 8}
    constants: {adder_energy: 0.1 pJ}

``device`` is what stands in a device file (:mod:`hardware.devices`), or the name of one; ``constants`` are those of
``components.yaml``, with a unit, or with value, unit, source and status where the source is to be kept.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from hardware.cells import Imperfections
from hardware.chip import Chip
from hardware.chip_fields import CONVERTER, FIELDS, SECTIONS, Field, Part
from hardware.constants import PresetError, convert, parse_quantity, read_yaml, unknown_name
from hardware.crossbar import CROSSBAR_MODEL
from hardware.devices import YAML, Device, device_of, devices, find_device
from hardware.mapping import Crossbar, exact_adc_bits
from hardware.mtj import DeviceVariation
from hardware.presets import components_of

#: a cell's area where its node is given: NVSim's cell file has 57.5 F^2
AREA_F2 = 57.5


@dataclass(frozen=True)
class ChipFile:
    """What a chip file describes."""

    name: str
    """of the file, or of the junction alone"""
    device: Device
    """junction that draws the random bits"""
    chip: Chip
    """how a network is put on it, for counts and energies"""
    cells: Imperfections
    """what is not ideal in its crossbars and converters"""
    given: Mapping[str, str]
    """section and field of what a file says, with that file"""

    @property
    def spread(self) -> DeviceVariation:
        """How junctions differ."""
        return self.device.build()[1]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits for all values, whatever names and sources they have."""
        chip = {key: value for key, value in vars(self.chip).items() if key not in ("components", "junction", "adc")}
        converter = {name: constant.value for name, constant in self.chip.converter.constants.items()}
        constants = {name: constant.value for name, constant in self.chip.components.constants.items()}
        everything = [CROSSBAR_MODEL, self.device.fingerprint, chip, converter, constants, vars(self.cells)]
        text = json.dumps(everything, sort_keys=True, default=vars)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_chip(source: str | Path) -> ChipFile:
    """A chip from a file, or our default one with a junction of ours.

    Args:
        source: a chip file, or a junction: a name of ``devices.yaml``, or a device file.

    Raises:
        PresetError: naming the file, the field and the remedy.
    """
    if Path(source).suffix in YAML and not _describes_devices(Path(source)):
        return _build(_merged(Path(source), ()), str(source))
    return _build({"device": {"like": str(source)}}, str(source))


def find_junction(source: str) -> Device:
    """The junction of a chip file, or one by its name or its device file: :func:`hardware.devices.find_device`.

    Raises:
        PresetError: as they do.
    """
    path = Path(source)
    if path.suffix in YAML and path.is_file() and not _describes_devices(path):
        return load_chip(path).device
    return find_device(source)


def _describes_devices(path: Path) -> bool:
    """Whether a file is one of devices: no name is a section of a chip, and each is of a device of ours or new."""
    if not path.is_file():
        return False
    entries, ours = read_yaml(path), devices()
    new = {name for name, entry in entries.items() if isinstance(entry, dict) and entry.keys() & {"law", "like"}}
    return bool(entries) and not entries.keys() & set(SECTIONS) and all(name in new or name in ours for name in entries)


def _merged(path: Path, asking: tuple[Path, ...]) -> dict[str, dict[str, Any]]:
    """Sections of a file with those of the chip that it is like; a device is a mapping with ``like``."""
    if path.resolve() in asking:
        raise PresetError(f"{path} is like itself, by way of others: one of them must stand alone")
    sections = _sections(path)
    like = str(sections.pop("like", ""))
    base: dict[str, dict[str, Any]] = {"device": {"like": _beside(path, like)}} if like else {}
    if Path(like).suffix in YAML and not _describes_devices(path.parent / like):
        base = _merged(path.parent / like, (*asking, path.resolve()))
        _build(base, str(path.parent / like))  # what is wrong with it is said of the file that says it
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in (*base, *sections)}
    if "like" in sections.get("device", {}):
        merged["device"] = sections["device"]  # another junction, nothing of the former
    return merged


def _sections(path: Path) -> dict[str, Any]:
    """What one file says, each section but ``like`` a mapping."""
    if not path.is_file():
        raise PresetError(f"there is no chip file {path}: `scaledrop chip new {path}` writes one to start from")
    sections = read_yaml(path)
    for name in sections:
        if name not in SECTIONS:
            raise PresetError(f"{path}: {unknown_name(name, SECTIONS, 'section')}")
    if isinstance(sections.get("device"), str):
        sections["device"] = {"like": sections["device"]}
    for name, content in sections.items():
        if name != "like" and not isinstance(content, dict):
            raise PresetError(f"{path}: {name} must map names to values, got {content!r}")
    if "like" in sections.get("device", {}):
        sections["device"]["like"] = _beside(path, str(sections["device"]["like"]))
    return sections


def _beside(path: Path, like: str) -> str:
    """A device's name as it is, a device file by its place beside the file that names it."""
    return str(path.parent / like) if Path(like.partition(":")[0]).suffix in YAML else like


def _build(sections: Mapping[str, Mapping[str, Any]], where: str) -> ChipFile:
    device = device_of({"like": "sot_80nm", **sections.get("device", {})}, f"{where}: device")
    values: dict[Part, dict[str, Any]] = {part: {} for part in get_args(Part)}
    given = {f"device.{name}": where for name in sections.get("device", {}) if name != "like"}
    for section, fields in FIELDS.items():
        for name, entry in sections.get(section, {}).items():
            elsewhere = {"converter": CONVERTER, "cell": ("node",)}.get(section, ())
            if name in elsewhere:
                continue
            if name not in fields:
                raise PresetError(f"{where}: {section}: {unknown_name(name, (*elsewhere, *fields), 'field')}")
            field, place = fields[name], f"{where}: {section}: {name}"
            value = _value(field, entry, place)
            given[f"{section}.{name}"] = where
            values[field.part][field.key] = value
    of_cells, others = values["constant"] | _area(sections.get("cell", {}), where), sections.get("constants", {})
    if twice := of_cells.keys() & others.keys():
        raise PresetError(f"{where}: {', '.join(twice)} of constants is also given by cell: give it once")
    constants = {**others, **of_cells}
    own = _converter(sections, where)
    components = components_of({**constants, **({"converters": own} if own else {})}, where)
    converter = str(sections.get("converter", {}).get("name", Chip.adc))
    junction, _ = device.build()
    said = {"converter.name": "name" in sections.get("converter", {}), "cell.area": "node" in sections.get("cell", {})}
    said |= {f"constants.{name}": True for name in sections.get("constants", {})}
    given |= {name: where for name, there in said.items() if there}
    try:
        chip = Chip(
            Crossbar(**values["crossbar"]), converter, components=components, junction=junction, **values["chip"]
        )
        electrical = ("resistance_p_kohm", "cell_resistance_p", "kOhm"), ("tmr", "cell_tmr", "1")
        values["cells"] |= {key: components.number(name, unit) for key, name, unit in electrical}
        values["cells"]["adc_bits"] = chip.adc_bits or chip.converter.at_least(exact_adc_bits(chip.crossbar.rows))
        cells = Imperfections(**values["cells"])
    except ValueError as error:
        raise PresetError(f"{where}: {error}") from error
    return ChipFile(where, device, chip, cells, given)


def _value(field: Field, entry: Any, where: str) -> Any:
    if isinstance(field.unit, tuple):
        if entry not in field.unit:
            raise PresetError(f"{where} must be one of {', '.join(field.unit)}, got {entry!r}")
        return entry
    if field.unit is bool:
        if not isinstance(entry, bool):
            raise PresetError(f"{where} must be true or false, got {entry!r}")
        return entry
    if field.unit is int:
        if isinstance(entry, bool) or not isinstance(entry, int) or entry < 1:
            raise PresetError(f"{where} must be a whole number, at least 1, got {entry!r}")
        return entry
    if field.part == "constant":
        return entry  # read with the other constants of components.yaml
    return convert(where, parse_quantity(where, entry), str(field.unit)).value


def _area(cell: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Area of a device where the file gives its node in place of it."""
    if "node" not in cell:
        return {}
    if "area" in cell:
        raise PresetError(f"{where}: cell: give area or node, from which it follows, not both")
    node = _nanometres(cell["node"], f"{where}: cell: node")
    source = f"{AREA_F2:g} F^2 (NVSim sample_STTRAM.cell) at F = {node:g} nm, of {where}"
    area = {"value": AREA_F2 * node**2 * 1e-6, "unit": "um2", "source": source, "status": "derived"}
    return {"cell_area": area}


def _converter(sections: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """The file's own converter by its name, if it describes one; a name alone is one of ours."""
    said = sections.get("converter", {})
    own = {name: said[name] for name in CONVERTER[1:] if name in said}
    if not own:
        return {}
    if "name" not in said or own.keys() != {*CONVERTER[1:]}:
        lacking = ", ".join(name for name in CONVERTER if name not in said)
        raise PresetError(f"{where}: your own converter needs a name, energy, time, area and node; it lacks {lacking}")
    node = _nanometres(own["node"], f"{where}: converter: node")
    return {str(said["name"]): {**own, "node": f"{node:g} nm"}}


def _nanometres(node: Any, where: str) -> float:
    read = convert(where, parse_quantity(where, node), "nm").value
    assert not isinstance(read, dict)
    return read
