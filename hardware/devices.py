"""Junctions by name: the device sets of ``hardware/presets/devices.yaml``, and those of a user's file."""

from pathlib import Path

from hardware.constants import FOLDER, Preset, PresetError, convert, read_constants, read_yaml, unknown_name
from hardware.mtj import MTJ, DeviceVariation


def devices(override: str | Path | None = None) -> dict[str, Preset]:
    """Device sets of ``devices.yaml`` by name; a user's file overrides constants of a device or adds whole devices.

    Raises:
        PresetError: as :func:`components`, or if a new device lacks a constant.
    """
    ours = {name: read_constants(entry, name) for name, entry in read_yaml(FOLDER / "devices.yaml").items()}
    units = {name: constant.unit for name, constant in next(iter(ours.values())).items()}
    theirs = {} if override is None else read_yaml(Path(override))
    for name, entry in theirs.items():
        new = read_constants(entry, f"{override}: {name}")
        for key, constant in new.items():
            if key not in units:
                raise PresetError(f"{override}: {name}: {unknown_name(key, units)}")
            new[key] = convert(f"{override}: {name}: {key}", constant, units[key])
        ours[name] = {**ours.get(name, {}), **new}
        missing = units.keys() - ours[name].keys()
        if missing:
            raise PresetError(f"{override}: new device {name!r} lacks {', '.join(sorted(missing))}")
    return {name: Preset(name, constants) for name, constants in ours.items()}


def load_device(name: str, override: str | Path | None = None) -> tuple[MTJ, DeviceVariation]:
    """A device of :func:`devices` with its variation.

    Raises:
        PresetError: for an unknown device, with the nearest match.
    """
    known = devices(override)
    if name not in known:
        raise PresetError(unknown_name(name, known, "device"))
    read = known[name].number
    write_kohm = read("write_resistance", "kOhm")
    device = MTJ(
        delta=read("delta", "1"),
        critical_current_ua=read("critical_voltage", "V") / write_kohm * 1e3,
        tau0_ns=read("tau0", "ns"),
        pulse_ns=read("pulse", "ns"),
        write_resistance_kohm=write_kohm,
        resistance_p_kohm=read("resistance_p", "kOhm"),
        tmr=read("tmr", "1"),
        read_voltage_v=read("read_voltage", "V"),
        read_ns=read("read_pulse", "ns"),
        temperature_k=read("temperature", "K"),
        max_drive=read("max_drive", "1"),
    )
    names = ("delta_cv", "critical_cv", "resistance_cv", "tmr_cv", "cycle_cv")
    return device, DeviceVariation(**{cv: read(cv, "1") for cv in names})
