"""Constants of the hardware model as data: every one has a value, a unit, a source and a status.

They stand in the YAML files of ``hardware/presets``. A user's file overrides what it names and nothing else; a name
that nobody reads, another unit or a missing source is an error, since a wrong constant would go unnoticed.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Status = Literal["paper", "cited", "derived", "assumed"]
FOLDER = Path(__file__).parent / "presets"


class PresetError(ValueError):
    """A preset file does not say what it must."""


@dataclass(frozen=True)
class Constant:
    """A number with its unit and where it comes from."""

    value: float | dict[int, float]
    """number, or a table, e.g. by bits"""
    unit: str
    """unit, e.g. ``pJ``"""
    source: str
    """publication or derivation"""
    status: Status
    """the paper's own, cited from elsewhere, derived from cited ones, or assumed"""


@dataclass(frozen=True)
class Preset:
    """Constants by name; asking for one needs its unit, so that pJ never meet nJ.

    >>> adder = {"adder_energy": Constant(0.21, "pJ", "Aladdin tables", "cited")}
    >>> Preset("mine", adder).number("adder_energy", "nJ")
    Traceback (most recent call last):
    hardware.constants.PresetError: adder_energy is in pJ, not in nJ
    """

    name: str
    """where they come from"""
    constants: Mapping[str, Constant]
    """by name"""

    def number(self, name: str, unit: str) -> float:
        """Value of a constant that is one number.

        Raises:
            PresetError: if it is unknown, has another unit, or is a table.
        """
        value = self._constant(name, unit).value
        if isinstance(value, dict):
            raise PresetError(f"{name} is a table, not one number")
        return value

    def table(self, name: str, unit: str) -> dict[int, float]:
        """Values of a constant by what its table is over; one number is a table of one entry, at 1.

        Raises:
            PresetError: if it is unknown or has another unit.
        """
        value = self._constant(name, unit).value
        return value if isinstance(value, dict) else {1: value}

    def _constant(self, name: str, unit: str) -> Constant:
        constant = self.constants.get(name)
        if constant is None:
            raise PresetError(unknown_name(name, self.constants))
        if constant.unit != unit:
            raise PresetError(f"{name} is in {constant.unit}, not in {unit}")
        return constant


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file."""
    try:
        import yaml
    except ImportError as error:
        raise PresetError("presets are YAML files: pip install pyyaml, or build the objects yourself") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise PresetError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise PresetError(f"{path} must map names to constants")
    return content


def read_constants(entries: Any, where: str) -> dict[str, Constant]:
    """Constants by name, of entries as YAML gives them; ``where`` names the file in an error."""
    if not isinstance(entries, dict):
        raise PresetError(f"{where} must map names to constants")
    return {name: _constant(f"{where}: {name}", entry) for name, entry in entries.items()}


def _constant(where: str, entry: Any) -> Constant:
    fields = {"value", "unit", "source", "status"}
    if not isinstance(entry, dict) or entry.keys() != fields:
        given = sorted(entry) if isinstance(entry, dict) else entry
        raise PresetError(f"{where} needs exactly value, unit, source and status, got {given}")
    if entry["status"] not in get_args(Status):
        raise PresetError(f"{where}: status must be one of {', '.join(get_args(Status))}, got {entry['status']!r}")
    if not str(entry["source"] or "").strip() or not str(entry["unit"] or "").strip():
        raise PresetError(f"{where}: source and unit must not be empty")
    table = entry["value"] if isinstance(entry["value"], dict) else {0: entry["value"]}
    for bits, number in table.items():
        fine = isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < float("inf")
        if not (fine and isinstance(bits, int)):
            raise PresetError(f"{where}: value must be a number, not negative, or such numbers by bits, got {number!r}")
    numbers = {bits: float(number) for bits, number in table.items()}
    value = numbers if isinstance(entry["value"], dict) else numbers[0]
    return Constant(value, str(entry["unit"]), str(entry["source"]), entry["status"])


def check_unit(where: str, given: str, expected: str) -> None:
    """Refuse another unit than the one that is read."""
    if given != expected:
        raise PresetError(f"{where} must be in {expected}, not in {given}: convert the value")


def unknown_name(name: str, known: Iterable[str], kind: str = "constant") -> str:
    """What is wrong with a name, and the nearest one that is known."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f". Known: {', '.join(sorted(known))}"
    return f"unknown {kind} {name!r}{hint}"
