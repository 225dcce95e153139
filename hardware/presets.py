"""Constants of a chip's components and alternative sources, from the YAML files of ``hardware/presets``."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hardware.adc import Converter, read_converters
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


@dataclass(frozen=True)
class Components(Preset):
    """Constants of the components by name, the converters, and what other sources say of a constant."""

    converters: Mapping[str, Converter]
    alternatives: Mapping[str, Mapping[str, Mapping[str, Constant]]]
    """by what is in question and by source: constants that take the place of ours"""

    def converter(self, name: str) -> Converter:
        """A converter by its name.

        Raises:
            PresetError: for an unknown one, with the nearest match.
        """
        if name not in self.converters:
            raise PresetError(unknown_name(name, self.converters, "converter"))
        return self.converters[name]

    def with_alternative(self, question: str, source: str) -> "Components":
        """The same with what another source says."""
        return replace(self, constants={**self.constants, **self.alternatives[question][source]})

    def values(self) -> dict[str, Any]:
        """Values of all constants, those of the converters with dots: what numbers follow from, without words."""
        flat = {
            f"{c.name}.{name}": constant for c in self.converters.values() for name, constant in c.constants.items()
        }
        return {name: constant.value for name, constant in {**self.constants, **flat}.items()}


def components(override: str | Path | None = None) -> Components:
    """Component constants of ``components.yaml``, with those of a user's file in their place.

    Args:
        override: YAML file of constants; its ``converters`` are added to ours, or stand for those of the same name.

    Raises:
        PresetError: if the file names an unknown constant, another unit than ours, or lacks value, unit, source or
            status.
    """
    return _ours() if override is None else components_of(read_yaml(Path(override)), str(override))


def components_of(entries: Mapping[str, Any], where: str) -> Components:
    """Our components with those of entries, as YAML gives them, in their place.

    Raises:
        PresetError: as :func:`components`; ``where`` names the file.
    """
    ours, rest = _ours(), dict(entries)
    converters = read_converters(rest.pop("converters", {}), f"{where}: converters", yours=True)
    theirs = read_constants(rest, where)
    for name, constant in theirs.items():
        if name not in ours.constants:
            raise PresetError(f"{where}: {unknown_name(name, (*ours.constants, 'converters'))}")
        theirs[name] = convert(f"{where}: {name}", constant, ours.constants[name].unit)
    # what a user has said is no longer in question
    questions = {
        question: open_
        for question, known in ours.alternatives.items()
        if (open_ := {source: new for source, new in known.items() if not new.keys() & theirs.keys()})
    }
    name, constants = f"components.yaml with {where}", {**ours.constants, **theirs}
    return Components(name, constants, {**ours.converters, **converters}, questions)


@functools.cache
def _ours() -> Components:
    entries = read_yaml(FOLDER / "components.yaml")
    converters = read_converters(entries.pop("converters"), "components.yaml: converters")
    questions = entries.pop("alternatives")
    constants = read_constants(entries, "components.yaml")
    alternatives = {
        question: {
            source: _alternative(new, f"components.yaml: {question}: {source}", constants)
            for source, new in known.items()
        }
        for question, known in questions.items()
    }
    return Components("components.yaml", constants, converters, alternatives)


def _alternative(entries: Any, where: str, constants: Mapping[str, Constant]) -> dict[str, Constant]:
    found = read_constants(entries, where)
    return {name: convert(f"{where}: {name}", constant, constants[name].unit) for name, constant in found.items()}


def published() -> dict[str, Constant]:
    """Energies that the paper reports for a network, by name of the network."""
    return read_constants(read_yaml(FOLDER / "published.yaml"), "published.yaml")
