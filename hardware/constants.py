"""Constants of the hardware model as data: every one has a value, a unit, a source and a status.

They are in the YAML files of ``hardware/presets``. A user's file overrides only what it names; an unused name, another
unit or a missing source is an error, since a wrong constant would go unnoticed.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

Status = Literal["paper", "cited", "derived", "assumed", "given"]
"""The paper's own, cited from elsewhere, derived from cited ones, assumed, or given by a user's file."""
FOLDER = Path(__file__).parent / "presets"
#: quantity that a unit measures, and its size in the first unit of the quantity
_SCALES = {
    "1": ("share", 1.0), "%": ("share", 1e-2),
    "V": ("voltage", 1.0), "mV": ("voltage", 1e-3), "uV": ("voltage", 1e-6),
    "/V": ("inverse voltage", 1.0), "/mV": ("inverse voltage", 1e3),
    "uA": ("current", 1.0), "mA": ("current", 1e3), "nA": ("current", 1e-3),
    "ns": ("time", 1.0), "ps": ("time", 1e-3), "us": ("time", 1e3), "ms": ("time", 1e6), "s": ("time", 1e9),
    "kOhm": ("resistance", 1.0), "Ohm": ("resistance", 1e-3), "MOhm": ("resistance", 1e3),
    "pJ": ("energy", 1.0), "fJ": ("energy", 1e-3), "nJ": ("energy", 1e3),
    "mW": ("power", 1.0), "uW": ("power", 1e-3),
    "um2": ("area", 1.0), "nm2": ("area", 1e-6), "mm2": ("area", 1e6),
    "nm": ("length", 1.0), "um": ("length", 1e3),
    "K": ("temperature", 1.0), "W.Ohm": ("W.Ohm", 1.0),
}  # fmt: skip


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
    """what kind of source that is"""


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


_LARGEST, _DEEPEST = 100_000, 200  # values of a YAML file, collections within one another


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file."""
    try:
        import yaml
    except ImportError as error:
        raise PresetError("presets are YAML files: pip install pyyaml, or build the objects yourself") from error
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise PresetError(f"{path} cannot be read: it is no file")
        text = path.read_text(encoding="utf-8")
        _require_bounded(text)
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, PresetError):
            raise
        raise PresetError(f"{path} is no YAML: {error}") from error
    except OSError as error:
        raise PresetError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict):
        raise PresetError(f"{path} must map names to constants")
    return content


def _require_bounded(text: str) -> None:
    """Refuse what is nested without end, and aliases of aliases that stand for more than any machine holds.

    Raises:
        ValueError: it is, or it holds too much.
    """
    import yaml

    depth, aliases = 0, False
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases = aliases or isinstance(event, yaml.AliasEvent)
        if depth > _DEEPEST:  # the parser in C has no limit of its own, and ends the process
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
    rest, number = [yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))] if aliases else [], 0
    while rest:
        node, number = rest.pop(), number + 1
        if number > _LARGEST:
            raise ValueError(f"it holds more than {_LARGEST:,} values, counting what aliases stand for")
        children = node if isinstance(node, tuple) else getattr(node, "value", None)
        rest += children if isinstance(children, list | tuple) else ()


def read_constants(entries: Any, where: str) -> dict[str, Constant]:
    """Constants by name, of entries as YAML gives them; ``where`` names the file in an error."""
    if not isinstance(entries, dict):
        raise PresetError(f"{where} must map names to constants")
    return {name: _constant(f"{where}: {name}", entry) for name, entry in entries.items()}


def _constant(where: str, entry: Any) -> Constant:
    if isinstance(entry, int | float | str) and not isinstance(entry, bool):
        return parse_quantity(where, entry)
    fields = {"value", "unit", "source", "status"}
    if not isinstance(entry, dict) or entry.keys() != fields:
        given = sorted(entry) if isinstance(entry, dict) else entry
        raise PresetError(
            f"{where} needs a number with its unit, e.g. '0.894 V', or value, unit, source and status, got {given}"
        )
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


def parse_quantity(where: str, text: Any) -> Constant:
    """A number with its unit, written as one, e.g. ``0.894 V``, ``44.6 /V`` or ``5 %``; without a unit it is a ratio.

    Raises:
        PresetError: for something else, a negative number, or a unit that nothing is measured in.

    >>> quantity = parse_quantity("lab.yaml: pulse", "750 ps")
    >>> quantity.value, quantity.unit, convert("lab.yaml: pulse", quantity, "ns").value
    (750.0, 'ps', 0.75)
    """
    number, _, unit = str(text).strip().partition(" ")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise PresetError(f"{where} must be a number, not negative, with its unit, e.g. '0.894 V', got {text!r}")
    unit = unit.strip().replace("\N{GREEK SMALL LETTER MU}", "u").replace("\N{MICRO SIGN}", "u") or "1"
    unit = unit.replace("\N{GREEK CAPITAL LETTER OMEGA}", "Ohm").replace("ohm", "Ohm")
    if unit not in _SCALES:
        raise PresetError(f"{where}: {unknown_name(unit, _SCALES, 'unit')}")
    return Constant(value, unit, where.partition(": ")[0], "given")


def convert(where: str, constant: Constant, unit: str) -> Constant:
    """The same constant in another unit of the same quantity.

    Raises:
        PresetError: if it is a unit of another quantity.
    """
    if constant.unit == unit:
        return constant
    (given, factor), (wanted, target) = (_SCALES.get(each, (each, 1.0)) for each in (constant.unit, unit))
    if given != wanted:
        others = [name for name, (quantity, _) in _SCALES.items() if quantity == wanted and name != unit]
        also = f" (or {', '.join(others)})" if others else ""
        bare = "must be in {}{}, not in {}" if constant.unit != "1" else "needs its unit, {}{}: {} is a mere number"
        raise PresetError(
            f"{where} " + bare.format(unit, also, constant.unit if constant.unit != "1" else constant.value)
        )
    scale, value = factor / target, constant.value
    scaled = {bits: number * scale for bits, number in value.items()} if isinstance(value, dict) else value * scale
    return replace(constant, value=scaled, unit=unit)


def unknown_name(name: object, known: Iterable[str], kind: str = "constant") -> str:
    """What is wrong with a name, and the nearest one that is known."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f". Known: {', '.join(sorted(known))}"
    return f"unknown {kind} {name!r}{hint}"
