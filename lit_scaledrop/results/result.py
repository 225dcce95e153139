"""The record of a run: one JSON file per run, `<results>/<profile>/<study>/<id>.json`, schema 2.

The file is the result of record; trackers only mirror it. Everything a table prints beside a number (data, epochs,
device, commit, command) is in it. Files of schema 1 are read, too.
"""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, get_origin, get_type_hints

from lit_scaledrop.results import schema1
from lit_scaledrop.results.glossary import TOPOLOGIES
from lit_scaledrop.results.measurement import Coordinate, Measurement
from lit_scaledrop.results.reading import parse_json
from lit_scaledrop.results.schema import (
    Data,
    EvaluationRecord,
    Provenance,
    Training,
    check_curve,
    check_group,
    check_type,
)

SCHEMA = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
ID = re.compile(r"[0-9a-f]{12}")
"""The name of a run."""


class ResultError(RuntimeError):
    """A result that cannot be written, read or trusted; the message names the file and the remedy."""


class InvalidResultError(ResultError):
    """Content that is no result: half-written, a missing key, a wrong type, a number that is not finite."""


@dataclass(frozen=True)
class Result:
    """One finished run.

    Raises:
        InvalidResultError: a key is missing, a value has the wrong type, or a number is not finite.
    """

    id: str
    """12 hexadecimal digits, the hash of the resolved configuration."""
    study: str
    """What the run is for, e.g. `table3`; a folder name."""
    profile: str
    """`quick`, `cpu` or `paper`; a folder name."""
    network: str
    """Key of `NETWORKS`, e.g. `resnet20`."""
    method: str
    """Key of `METHODS`, e.g. `mc_dropout_htanh`."""
    label: str
    """The method's name in the paper's tables, e.g. `MC-Dropout (HTanh)`."""
    bits_w: int
    """Bits per weight."""
    bits_a: int
    """Bits per activation."""
    bayesian: bool
    """Whether predictions are averaged over stochastic passes."""
    seed: int
    """Seed of initialization, data order and dropout."""
    data: Data
    """This and the next two are empty where nothing was trained (Table VII)."""
    training: Training
    evaluation: EvaluationRecord
    measurements: list[Measurement]
    config: dict[str, Any]
    """The resolved configuration of the run."""
    provenance: Provenance
    schema: int = SCHEMA
    """Version of this layout."""

    def __post_init__(self) -> None:
        try:
            for name, kind in _TYPES.items():
                check_type(name, getattr(self, name), kind)
            trained = bool(self.data or self.training or self.evaluation)
            for name in _GROUPS if trained else ("provenance",):
                check_group(name, getattr(self, name), _GROUPS[name])
            check_curve(self.training.get("curve", {}))
            if trained and not {"val_acc", "val_iou", "monitored"} & self.training.keys():
                _fail("training.val_acc, training.val_iou or training.monitored is missing")
        except ValueError as error:
            raise InvalidResultError(str(error)) from error
        _check_names(self)
        if trained and self.evaluation["checkpoint"] not in ("best", "last"):
            _fail(f"evaluation.checkpoint must be 'best' or 'last', not {self.evaluation['checkpoint']!r}")
        if not self.measurements:
            _fail("measurements is empty: evaluate the run before writing its result")
        _check_once(self.measurements)

    @property
    def topology(self) -> str:
        """The network's name in the paper's tables, e.g. `ResNet-20`; the key where that has none."""
        return TOPOLOGIES.get(self.network, self.network)

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers that have no coordinates, by name: what a training ends with."""
        return self.at()

    def at(self, **coordinates: Coordinate) -> dict[str, float]:
        """The numbers by name that were measured at these coordinates, and no others; empty if there are none."""
        return next((one.metrics for one in self.measurements if one.at == coordinates), {})

    def path(self, results_dir: Path | str) -> Path:
        """Where this result lives under `results_dir`."""
        return result_path(results_dir, self.profile, self.study, self.id)

    def to_json(self) -> str:
        """Indented JSON with sorted keys, ending in a newline.

        Raises:
            InvalidResultError: some value is not finite or no JSON type.
        """
        record = {**vars(self), "measurements": [one.record() for one in self.measurements]}
        try:
            text = json.dumps(record, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise InvalidResultError(f"only finite numbers and JSON's types fit a result: {error}") from error
        return text + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """The inverse of `to_json`; reads schema 1 as well.

        Raises:
            ResultError: the schema number is not one that this release reads.
            InvalidResultError: not JSON, or not a result.
        """
        try:
            record = parse_json(text)
        except ValueError as error:
            raise InvalidResultError(f"not JSON: {error}") from error
        if not isinstance(record, dict):
            _fail("the file holds no JSON object")
        theirs = record.get("schema")
        if theirs not in (1, SCHEMA):
            raise ResultError(f"written in schema {theirs!r}, this release reads 1 and {SCHEMA}: upgrade lit-scaledrop")
        try:
            if theirs == 1 and isinstance(record.get("metrics"), dict):
                record |= {"schema": SCHEMA, "measurements": schema1.measurements(record.pop("metrics"))}
            names = {field.name for field in fields(cls)}
            if record.keys() != names:
                _fail(f"fields missing or unknown: {sorted(names ^ record.keys())}")
            check_type("measurements", record["measurements"], list)
            return cls(**{**record, "measurements": [Measurement.of(one) for one in record["measurements"]]})
        except ValueError as error:
            raise InvalidResultError(str(error)) from error


_GROUPS: dict[str, type] = {
    "data": Data,
    "training": Training,
    "evaluation": EvaluationRecord,
    "provenance": Provenance,
}
_TYPES: dict[str, type] = {
    name: dict if name in _GROUPS else get_origin(kind) or kind for name, kind in get_type_hints(Result).items()
}


def bad_folder_name(name: str) -> str:
    """What is wrong with the name of a study or profile, which is a folder's; empty if nothing is.

    >>> bad_folder_name("table3"), bad_folder_name("my study")
    ('', "must be a plain folder name (letters without accents, digits, _ . -; not first), not 'my study'")
    """
    if _NAME.fullmatch(name):
        return ""
    return f"must be a plain folder name (letters without accents, digits, _ . -; not first), not {name!r}"


def result_path(results_dir: Path | str, profile: str, study: str, id: str) -> Path:
    """The file of a run.

    >>> result_path("results", "quick", "table3", "0123456789ab").as_posix()
    'results/quick/table3/0123456789ab.json'
    """
    return Path(results_dir) / profile / study / f"{id}.json"


def _check_names(result: Result) -> None:
    if not ID.fullmatch(result.id):
        _fail(f"id must be 12 hexadecimal digits, not {result.id!r}")
    for name in ("study", "profile"):
        if problem := bad_folder_name(getattr(result, name)):
            _fail(f"{name} {problem}")
    for name in ("network", "method", "label"):
        if not (word := getattr(result, name)).isprintable() or word.startswith(tuple("=+-@")):
            _fail(f"{name} must be words, no formula and without control characters, not {word!r}")


def _check_once(measurements: list[Measurement]) -> None:
    seen: set[tuple[object, ...]] = set()
    for one in measurements:
        for place in ((*sorted(one.at.items()), metric) for metric in one.metrics):
            if place in seen:
                _fail(f"{place[-1]} was measured twice at {dict(one.at)}")
            seen.add(place)


def _fail(message: str) -> NoReturn:
    raise InvalidResultError(message)
