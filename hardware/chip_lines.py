"""Explains a chip file value by value, and writes a template."""

from collections.abc import Iterator
from dataclasses import dataclass

from hardware.chip_fields import FIELDS
from hardware.chip_file import ChipFile
from hardware.constants import Constant
from hardware.devices import DEVICE_ABOUT, devices

_CONVERSION = {"energy": "energy of a conversion", "time": "time of a conversion", "area": "area of a converter"}


@dataclass(frozen=True)
class Line:
    """One value of a chip, as it is explained."""

    name: str
    """section and field"""
    value: str
    """with its unit"""
    source: str
    about: str = ""
    given: bool = False
    """whether the file, or one that it is like, says it"""


def explain(described: ChipFile) -> list[Line]:
    """Every value of a chip with unit and source, and whether a file says it."""
    return [*_device_lines(described), *_chip_lines(described)]


def _device_lines(described: ChipFile) -> Iterator[Line]:
    said, law = described.given, described.device.law
    ours = [known.constants for known in devices().values()]
    yield Line("device.law", law, "hardware/switching.py", "how likely a write pulse switches", "device.law" in said)
    for name, constant in described.device.constants.items():
        about = DEVICE_ABOUT.get(name, "")
        # of a device file of one's own as well, which the chip file is like
        given = f"device.{name}" in said or all(known.get(name) != constant for known in ours)
        yield Line(f"device.{name}", _shown(constant), constant.source, about, given)


def _chip_lines(described: ChipFile) -> Iterator[Line]:
    chip, cells, given, converter = described.chip, described.cells, described.given, described.chip.converter
    for section, fields in FIELDS.items():
        if section == "converter":
            about = f"kind of converters, {converter.node}"
            yield Line("converter.name", converter.name, converter.source, about, "converter.name" in given)
            for name, constant in converter.constants.items():
                about = _CONVERSION.get(name, "")
                yield Line(f"converter.{name}", _shown(constant), constant.source, about, converter.yours)
        for name, field in fields.items():
            said = f"{section}.{name}"
            if field.part == "constant":
                constant = chip.components.constants[field.key]
                yield Line(said, _shown(constant), constant.source, field.about, said in given)
                continue
            value = getattr({"cells": cells, "crossbar": chip.crossbar, "chip": chip}[field.part], field.key)
            unit = "" if not isinstance(field.unit, str) or field.unit == "1" else f" {field.unit}"
            shown = "what exact sums need" if value is None else f"{str(value).lower()}{unit}"
            yield Line(said, shown, given.get(said, "default"), field.about, said in given)
    for name, constant in chip.components.constants.items():
        if f"constants.{name}" in given:
            yield Line(f"constants.{name}", _shown(constant), constant.source, "", True)


def _shown(constant: Constant) -> str:
    def text(value: float) -> str:
        return f"{value:g}" if constant.unit == "1" else f"{value:g} {constant.unit}"

    if isinstance(constant.value, dict):
        return ", ".join(f"{key}: {text(value)}" for key, value in constant.value.items())
    return text(constant.value)


def template(chip: ChipFile, like: str) -> str:
    """A chip file that says nothing new yet: every field with its value, commented out."""
    text = [f"# A chip like {like}: uncomment what differs. `scaledrop chip check` explains it.", f"like: {like}"]
    section = ""
    for line in explain(chip):
        head, _, name = line.name.partition(".")
        if head == "converter" and name not in ("name", *FIELDS["converter"]):
            continue  # of one of ours; one's own is described below
        if head != section:
            section = head
            text += ["", f"# {section}:"]
        value = chip.cells.adc_bits if line.name == "converter.bits" else line.value
        text.append(f"#   {name}: {value}" + (f"  # {line.about}" if line.about else ""))
        if line.name == "converter.bits":
            text.append("#   # one of your own: name: lab, energy: 0.9 pJ, time: 1.2 ns, area: 500 um2, node: 28 nm")
    return "\n".join([*text, "", "# constants:  # of hardware/presets/components.yaml, e.g. adder_energy: 0.1 pJ", ""])
