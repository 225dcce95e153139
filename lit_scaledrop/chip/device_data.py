"""Measured switching curves of junctions from a CSV file: numbers of pulses and of switching events by voltage."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardware.constants import Constant, PresetError, convert
from lit_scaledrop.naming import nearest
from lit_scaledrop.results.reading import read_text

#: columns that are measured in something, by the unit that they are read in
_QUANTITIES = {"voltage": "V", "current": "uA", "pulse": "ns", "temperature": "K"}
_UNITS = {
    "voltage": ("v", "mv", "uv"), "current": ("ua", "ma", "na"), "pulse": ("ns", "ps", "us"), "temperature": ("k",),
}  # fmt: skip
_SPELLING = {"v": "V", "mv": "mV", "uv": "uV", "ua": "uA", "ma": "mA", "na": "nA", "k": "K"}
COLUMNS = (
    *(f"{name}_{unit}" for name, units in _UNITS.items() for unit in units),
    "switched", "shots", "probability", "device",
)  # fmt: skip


class CurveError(ValueError):
    """A file of switching counts that cannot be used."""


@dataclass(frozen=True)
class Point:
    """One setting of one device: how many of its pulses switched."""

    voltage_v: float
    """write voltage, V"""
    switched: int
    shots: int
    pulse_ns: float | None = None
    """length of the pulses, ns, if the file says it"""
    temperature_k: float | None = None
    """temperature, K, if the file says it"""


def read_curves(path: Path, write_resistance_kohm: float) -> dict[str, list[Point]]:
    """Points of each device of a file, by voltage.

    Args:
        path: CSV with a header; lines that begin with ``#`` are comments. Columns: ``voltage_v`` or ``current_ua`` (or
            in another unit), ``shots``, ``switched`` or ``probability``, and, if wanted, ``pulse_ns``,
            ``temperature_k`` and ``device``.
        write_resistance_kohm: what turns a current into a voltage.

    Raises:
        CurveError: no such file, a column that is missing, unknown or double, or a count that cannot be.
    """
    try:
        lines = read_text(path).removeprefix("\ufeff").splitlines()
    except OSError as error:
        raise CurveError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CurveError(f"{path} is not UTF-8 text: save it as CSV from your program ({error})") from error
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if len(kept) < 2:
        raise CurveError(f"{path} needs a header and a line for each voltage")
    (_, header), *rows = kept
    names = [name.lower() for name in _cells(f"{path}, header", header)]
    drive = _check_columns(path, names)
    found: dict[str, list[Point]] = {}
    for number, line in rows:
        where = f"{path}, line {number}"
        cells = _cells(where, line)
        if len(cells) != len(names):
            raise CurveError(f"{where} has {len(cells)} values for {len(names)} columns")
        given = dict(zip(names, cells, strict=True))
        read = {name: _quantity(where, given, name) for name in _QUANTITIES}
        size = read[drive]
        assert size is not None
        shots = _number(where, "shots", given["shots"])
        switched = (
            _number(where, "switched", given["switched"])
            if "switched" in given
            else shots * _number(where, "probability", given["probability"])
        )
        if shots != round(shots) or shots < 1:
            raise CurveError(f"{where}: shots must be a number of pulses, at least 1, not {given['shots']}")
        if abs(switched - round(switched)) > 0.01 or not 0 <= switched <= shots + 0.01:
            raise CurveError(f"{where}: {switched:g} of {shots:g} pulses cannot have switched")
        voltage = size if drive == "voltage" else size * write_resistance_kohm * 1e-3
        point = Point(voltage, round(switched), round(shots), read["pulse"], read["temperature"])
        found.setdefault(given.get("device", ""), []).append(point)
    return {device: sorted(points, key=lambda point: point.voltage_v) for device, points in found.items()}


def _cells(where: str, line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line]))]
    except csv.Error as error:
        raise CurveError(f"{where} is not a line of a CSV file: {error}") from error


def _check_columns(path: Path, names: list[str]) -> str:
    """What drives the device, ``voltage`` or ``current``."""
    for name in names:
        if name not in COLUMNS:
            raise CurveError(f"{path}: unknown column {name!r}{nearest(name, COLUMNS)}")
    if len(set(names)) < len(names):
        raise CurveError(f"{path} has a column twice: {', '.join(names)}")
    kinds = [name.rpartition("_")[0] for name in names]
    drives = [kind for kind in kinds if kind in ("voltage", "current")]
    if len(drives) != 1:
        raise CurveError(f"{path} needs one column of the drive, voltage_v or current_ua, but has {len(drives)}")
    if max(kinds.count("pulse"), kinds.count("temperature")) > 1:
        raise CurveError(f"{path} says pulse or temperature in two units")
    if "shots" not in names or ("switched" in names) == ("probability" in names):
        raise CurveError(
            f"{path} needs the columns shots and either switched or probability, but has {', '.join(names)}"
        )
    return drives[0]


def _quantity(where: str, given: Mapping[str, str], kind: str) -> float | None:
    column = next((name for name in given if name.rpartition("_")[0] == kind), None)
    if column is None:
        return None
    unit = column.rpartition("_")[2]
    value = _number(where, column, given[column])
    if value < 0 or (value == 0 and kind in ("pulse", "temperature")):
        raise CurveError(f"{where}: {column} cannot be {value:g}")
    try:
        scaled = convert(where, Constant(value, _SPELLING.get(unit, unit), where, "given"), _QUANTITIES[kind]).value
    except PresetError as error:
        raise CurveError(str(error)) from error
    assert isinstance(scaled, float)
    return scaled


def _number(where: str, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise CurveError(f"{where}: {column} is a number, not {text!r}")
    return number
