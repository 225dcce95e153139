"""``DATA.yaml``: content of a user's folder when first read, its statistics, and the splits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.own.facts import sound_facts
from datamodules.own.folders import PARTS, require_apart
from datamodules.own.medical import Window
from datamodules.own.pairs import Row
from datamodules.pictures import Square

# in C where it is there: a folder may have a hundred thousand files
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_DEEPEST = 10  # lists within maps within lists of parts


@dataclass(frozen=True)
class OwnData:
    """The pictures of a folder, in parts, and what they are for a network."""

    name: str
    images: str
    """folder of the pictures, as seen from the folder of the file"""
    masks: str | None
    class_names: tuple[str, ...]
    channels: int
    size: int
    square: Square
    window: Window | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """of the images with their labels or masks, in order"""
    parts: dict[str, list[Row]]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits for all of it but how folders are called and where they are."""
        plain = asdict(self) | {"name": "", "images": "", "masks": ""}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def rows(self) -> list[Row]:
        """All files, part by part."""
        return [row for part in PARTS for row in self.parts[part]]

    @property
    def facts(self) -> dict[str, Any]:
        """What a picture goes through beside its normalization, for checkpoints and predictions."""
        window = list(self.window) if isinstance(self.window, tuple) else self.window
        return {"size": self.size, "square": self.square, "window": window}

    def to_yaml(self) -> str:
        """The text of the file; a line or a few for a picture."""
        settings = {
            field.name: list(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in fields(self)
            if field.name != "parts"
        }
        parts = {part: [_plain(row) for row in rows] for part, rows in self.parts.items()}
        how: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "default_flow_style": None, "width": 1000}
        return yaml.dump(settings | parts, Dumper=_SafeDumper, **how)


def load_own(file: Path) -> OwnData:
    """Read a description.

    Raises:
        DatasetNotFoundError: There is no such file.
        DatasetCorruptError: It is something else, or parts a group.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        text = file.read_text(encoding="utf-8")
        _require_flat(text)
        plain = yaml.load(text, _SafeLoader)
        if not isinstance(plain, dict) or not plain.keys() >= set(PARTS):
            raise ValueError(f"it has no {', '.join(PARTS)}")
        parts = {part: [_row(row) for row in plain.pop(part)] for part in PARTS}
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        if odd := {field.name for field in fields(OwnData)} ^ {*plain, "parts"}:
            raise ValueError(f"missing or unknown: {', '.join(sorted(map(str, odd)))}")
        if problem := _problem(plain, [row for rows in parts.values() for row in rows]):
            raise ValueError(problem)
        own = OwnData(**plain, parts=parts)
    except OSError as error:
        raise DatasetNotFoundError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise DatasetCorruptError(f"{file} is not a description of images written by `fit --images`: {said}") from error
    require_apart(own.parts)
    return own


def _require_flat(text: str) -> None:
    """Refuse aliases, which may stand for anything, and a depth that would end the process in the parser in C.

    Raises:
        ValueError: there are some, or it is as deep.
    """
    depth = 0
    for event in yaml.parse(text, _SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases")
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")


def _problem(plain: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The first field that does not say what it must, in words; empty if there is none."""
    channels, masks, names = plain["channels"], plain["masks"], plain["class_names"]
    sound = {
        **{name: isinstance(plain[name], str) for name in ("name", "images", "fingerprint")},
        "masks": masks is None or isinstance(masks, str),
        "class_names": _are_words(names) and len(names) > 1,
        "channels": channels in (1, 3),
        **sound_facts(channels, *(plain[name] for name in ("mean", "std", "size", "square", "window"))),
    }
    for name, fine in sound.items():
        if not fine:
            return f"{name} is {str(plain[name])[:80]!r}"
    for row in rows:
        if not _are_words((row.image, *row.masks)) or not (row.masks if masks else row.label in names):
            return f"{row.image!r} has {'no mask' if masks else f'no class that there is: {row.label!r}'}"
    return ""


def _are_words(values: Any) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) for value in values)


def _plain(row: Row) -> dict[str, Any]:
    what = {"masks": list(row.masks)} if row.masks else {"class": row.label}
    return {"image": row.image, **what, **({} if row.group == row.image else {"group": row.group})}


def _row(plain: dict[str, Any]) -> Row:
    image, masks = plain["image"], plain.get("masks", [])
    if not isinstance(masks, list):
        raise ValueError(f"the masks of {image} are no list")
    return Row(image, tuple(masks), str(plain.get("group", image)), str(plain.get("class", "")))
