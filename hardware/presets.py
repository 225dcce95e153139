"""Constants of a chip's components and what others report, from the YAML files of ``hardware/presets``."""

from pathlib import Path

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


def components(override: str | Path | None = None) -> Preset:
    """Component constants of ``components.yaml``, with those of a user's file in their place.

    Raises:
        PresetError: if the file names an unknown constant, another unit than ours, or lacks value, unit, source or
            status.
    """
    ours = read_constants(read_yaml(FOLDER / "components.yaml"), "components.yaml")
    if override is None:
        return Preset("components.yaml", ours)
    theirs = read_constants(read_yaml(Path(override)), str(override))
    for name, constant in theirs.items():
        if name not in ours:
            raise PresetError(f"{override}: {unknown_name(name, ours)}")
        theirs[name] = convert(f"{override}: {name}", constant, ours[name].unit)
    return Preset(f"components.yaml with {override}", {**ours, **theirs})


def published() -> dict[str, Constant]:
    """Energies that the paper reports for a network, by name of the network."""
    return read_constants(read_yaml(FOLDER / "published.yaml"), "published.yaml")
