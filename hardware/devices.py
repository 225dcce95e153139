"""Junctions by name: the devices of ``hardware/presets/devices.yaml``, and those of a user's file.

A device has a switching ``law`` and its constants; ``like: NAME`` takes missing values from another device, of the same
file or packaged. An entry with a packaged name and without ``like`` changes that device.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware.constants import (
    FOLDER,
    Constant,
    Preset,
    PresetError,
    convert,
    read_constants,
    read_yaml,
    unknown_name,
)
from hardware.mtj import MTJ, DeviceVariation, NeelBrown, Sigmoid, SwitchingLaw, Table
from hardware.thermal import FreeLayer

YAML = (".yaml", ".yml")
"""Endings of files."""
_SPREADS = ("threshold_cv", "slope_cv", "resistance_cv", "tmr_cv", "cycle_cv")
_OF_EVERY_LAW = {
    "pulse": "ns", "write_resistance": "kOhm", "resistance_p": "kOhm", "tmr": "1", "read_voltage": "V",
    "read_pulse": "ns", "temperature": "K", "max_voltage": "V", "bloch_temperature": "K", "anisotropy_exponent": "1",
    "shape_share": "1", **dict.fromkeys(_SPREADS, "1"),
}  # fmt: skip
_ACTIVATED = {"delta": "1", "critical_voltage": "V", "tau0": "ns"}
DEVICE_UNITS: dict[str, dict[str, str]] = {
    law: {**own, **_OF_EVERY_LAW}
    for law, own in {
        "neel_brown": _ACTIVATED,
        "quadratic": _ACTIVATED,
        "sigmoid": {"threshold": "V", "slope": "/V"},
        "table": {"probability_at_mv": "1"},
    }.items()
}
"""Unit of every constant of a device, by law and name; a table has its probabilities by voltage in mV."""
DEVICE_ABOUT = {
    "delta": "thermal stability E_b / k_B T",
    "critical_voltage": "critical voltage of the write path",
    "tau0": "attempt time",
    "threshold": "voltage at which half of the pulses switch",
    "slope": "logistic slope, four times dp/dV at one half",
    "probability_at_mv": "measured probabilities by voltage in mV",
    "pulse": "write pulse",
    "write_resistance": "resistance of the write path",
    "resistance_p": "resistance of the junction in its parallel state",
    "tmr": "tunnel magnetoresistance of the junction",
    "read_voltage": "voltage of a read of the junction",
    "read_pulse": "read pulse",
    "temperature": "temperature at which the law holds",
    "max_voltage": "largest voltage of the write driver, which a RESET takes",
    "bloch_temperature": "T* of Bloch's law of the magnetization",
    "anisotropy_exponent": "power of the magnetization that the interfacial anisotropy follows",
    "shape_share": "share of the anisotropy that the demagnetizing energy takes back",
    "threshold_cv": "spread of the threshold or critical voltage, device to device",
    "slope_cv": "spread of the steepness, device to device",
    "resistance_cv": "spread of the junction's resistance, device to device",
    "tmr_cv": "spread of the magnetoresistance, device to device",
    "cycle_cv": "spread of the threshold, cycle to cycle of one device",
}
"""What each constant of a device is."""


@dataclass(frozen=True)
class Device:
    """What a file says of a junction."""

    name: str
    law: str
    constants: Mapping[str, Constant]

    def build(self) -> tuple[MTJ, DeviceVariation]:
        """The junction and its spread."""
        return build_device(self.law, self.constants, self.name)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits for the law and the numbers, whatever name and sources they have."""
        numbers = {name: [constant.value, constant.unit] for name, constant in self.constants.items()}
        return hashlib.sha256(json.dumps([self.law, numbers], sort_keys=True).encode()).hexdigest()[:12]


def build_device(law: str, constants: Mapping[str, Constant], name: str) -> tuple[MTJ, DeviceVariation]:
    """A junction and its spread from constants.

    Raises:
        PresetError: an unknown law, a constant that is missing, unknown, in another unit, or out of range.
    """
    if law not in DEVICE_UNITS:
        raise PresetError(f"{name}: {unknown_name(law, DEVICE_UNITS, 'law')}")
    constants, units = _in_our_units(law, constants, name), DEVICE_UNITS[law]
    if missing := units.keys() - constants.keys():
        raise PresetError(
            f"device {name!r} of law {law} lacks {', '.join(sorted(missing))}: say them, or `like: sot_80nm` for "
            "what is as there"
        )
    preset = Preset(name, constants)

    def read(key: str) -> float:
        return preset.number(key, units[key])

    try:
        device = MTJ(
            law=_law(law, preset),
            pulse_ns=read("pulse"),
            write_resistance_kohm=read("write_resistance"),
            resistance_p_kohm=read("resistance_p"),
            tmr=read("tmr"),
            read_voltage_v=read("read_voltage"),
            read_ns=read("read_pulse"),
            temperature_k=read("temperature"),
            max_voltage_v=read("max_voltage"),
            free_layer=FreeLayer(read("bloch_temperature"), read("anisotropy_exponent"), read("shape_share")),
        )
        return device, DeviceVariation(**{cv: read(cv) for cv in _SPREADS})
    except PresetError:
        raise
    except ValueError as error:
        raise PresetError(f"device {name!r}: {error}") from error


def _in_our_units(law: str, constants: Mapping[str, Constant], where: str) -> dict[str, Constant]:
    units = DEVICE_UNITS[law]
    for key in constants:
        if key not in units:
            raise PresetError(f"{where}: {unknown_name(key, units)} (law {law})")
    return {key: convert(f"{where}: {key}", constant, units[key]) for key, constant in constants.items()}


def _law(law: str, preset: Preset) -> SwitchingLaw:
    pulse = preset.number("pulse", "ns")
    if law == "sigmoid":
        return Sigmoid(preset.number("threshold", "V"), preset.number("slope", "/V"), pulse)
    if law == "table":
        points = preset.constants["probability_at_mv"].value
        if not isinstance(points, dict):
            raise PresetError(f"{preset.name}: probability_at_mv has a probability for each voltage, e.g. {{840: 0.1}}")
        return Table(tuple(mv / 1000 for mv in sorted(points)), tuple(points[mv] for mv in sorted(points)), pulse)
    delta, critical_v, tau0_ns = (preset.number(key, unit) for key, unit in _ACTIVATED.items())
    return NeelBrown(delta, critical_v, tau0_ns, "quadratic" if law == "quadratic" else "linear")


def devices(override: str | Path | None = None) -> dict[str, Device]:
    """Devices of ``devices.yaml`` by name, and those of a user's file, which may change ours.

    Raises:
        PresetError: an entry is not what :func:`build_device` needs, or ``like`` names no device.
    """
    known = dict(_ours())
    if override is None:
        return known
    if not Path(override).is_file():
        raise PresetError(f"there is no device file {override}")
    return {**known, **_resolved(read_yaml(Path(override)), str(override), known)}


@functools.cache
def _ours() -> dict[str, Device]:
    path = FOLDER / "devices.yaml"
    return _resolved(read_yaml(path), path.name, {})


def _resolved(entries: Mapping[str, Any], where: str, known: Mapping[str, Device]) -> dict[str, Device]:
    """Devices of one file, with what they take from others."""
    done: dict[str, Device] = {}

    def resolve(name: str, asking: tuple[str, ...]) -> Device:
        if name in done:
            return done[name]
        label = f"{where}: {name}"
        if name in asking:
            raise PresetError(f"{where}: {' is like '.join((*asking, name))}: one of them must stand alone")
        entry = entries[name]
        if not isinstance(entry, dict):
            raise PresetError(f"{label} must map names to constants")
        base, like = known.get(name), entry.get("like")
        if like is not None and like != name:
            if like not in entries and like not in known:
                raise PresetError(f"{label}: {unknown_name(like, [*entries, *known], 'device')}")
            base = resolve(like, (*asking, name)) if like in entries else known[like]
        law = str(entry.get("law", base.law if base else ""))
        if law not in DEVICE_UNITS:
            raise PresetError(f"{label} has law {law!r}: say `law: NAME`, one of {', '.join(DEVICE_UNITS)}")
        own = read_constants({key: value for key, value in entry.items() if key not in ("law", "like")}, label)
        theirs = base.constants if base else {}
        taken = {key: constant for key, constant in theirs.items() if key in DEVICE_UNITS[law]}
        done[name] = Device(name, law, _in_our_units(law, {**taken, **own}, label))
        build_device(law, done[name].constants, label)
        return done[name]

    return {name: resolve(name, ()) for name in entries}


def device_of(entry: Mapping[str, Any], where: str) -> Device:
    """A device as an entry of a file describes it.

    Args:
        entry: as in a device file; ``like`` may also be a device file itself, ``lab.yaml`` or ``lab.yaml:name``.
        where: names the file in an error.

    Raises:
        PresetError: as :func:`find_device`.
    """
    known, like = devices(), str(entry.get("like", ""))
    if Path(like.partition(":")[0]).suffix in YAML:
        known[like] = find_device(like)
    return _resolved({"device": entry}, where, known)["device"]


def find_device(name: str, override: str | Path | None = None) -> Device:
    """A device by its name, or by a file and its name: ``sot_80nm``, ``lab.yaml`` (of one device), ``lab.yaml:name``.

    Args:
        name: of the device.
        override: a file that has it or changes ours, where ``name`` names none.

    Raises:
        PresetError: for an unknown device, with the nearest match, or a file that does not say which.
    """
    file, _, inner = name.rpartition(":") if not name.endswith(YAML) else (name, "", "")
    if file:
        if override is not None:
            raise PresetError(f"{name} names a file already, beside {override}")
        override, name = file, inner
        if not name:
            names = list(read_yaml(Path(file))) if Path(file).is_file() else [""]
            if len(names) != 1:
                raise PresetError(f"{file} has {len(names)} devices: say which, {file}:{names[0] if names else 'NAME'}")
            name = str(names[0])
    known = devices(override)
    if name not in known:
        raise PresetError(f"{unknown_name(name, known, 'device')} A device of your own: FILE.yaml or FILE.yaml:NAME")
    return known[name]


def load_device(name: str, override: str | Path | None = None) -> tuple[MTJ, DeviceVariation]:
    """A device of :func:`find_device` with its spread.

    Raises:
        PresetError: as :func:`find_device` and :func:`build_device`.
    """
    return find_device(name, override).build()
