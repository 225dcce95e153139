"""The record of a run: one JSON file per run, `<results>/<profile>/<study>/<id>.json`, schema 1.

The file is the result of record; trackers only mirror it. It is written once, atomically, after the run has
been evaluated, so that *an existing, valid file is a finished run*: sweeps skip it and tables read it.
Everything a table prints beside a number (data, epochs, device, commit, command) is in the same file.
"""

import json
import logging
import math
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, get_origin

from lit_scaledrop.results.glossary import METRICS

SCHEMA = 1
_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FRACTIONS = tuple(name for name, entry in METRICS.items() if entry.unit == "1")

# Keys every group must have; more are welcome and survive reading and writing (forward compatible). What is counted on
# a topology, without a trained network, has no data, training and evaluation: all three are empty.
_REQUIRED = {
    "data": "name:str fingerprint:str stand_in:bool source:str train:int val:int test:int",
    "training": "epochs:int seconds:float best_epoch:int val_acc|val_iou:float device:str precision:str compiled:bool",
    "evaluation": "samples:int seed:int execution:str checkpoint:str seconds:float",
    "provenance": "commit:str dirty:bool command:str started:str finished:str versions:dict",
}
_KINDS = {"str": str, "bool": bool, "int": int, "float": float, "dict": dict}


class ResultError(RuntimeError):
    """A result that cannot be written, read or trusted; the message names the file and the remedy."""


class InvalidResultError(ResultError):
    """Content that is no result: half-written, a missing key, a wrong type, a number that is not finite."""


@dataclass(frozen=True)
class Result:
    """One finished run.

    The groups `data`, `training`, `evaluation`, `metrics`, `config` and `provenance` are plain dictionaries
    with required keys (see `_REQUIRED`); further keys are kept as they are. The first three are empty where nothing was
    trained (Table VII).

    Raises:
        InvalidResultError: a key is missing, a value has the wrong type, or a metric is not finite.
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
    data: dict[str, Any]
    """name, fingerprint, stand_in, source, and the sizes train, val, test (images)."""
    training: dict[str, Any]
    """epochs, best_epoch (counted from 0), seconds, device, precision, compiled, val_acc or val_iou (fraction), curve
    (columns `epoch`, counted from 1, `val_acc` or `val_iou`, `loss_task`; results before it have none) ..."""
    evaluation: dict[str, Any]
    """samples (passes T), seed (of the masks), execution, checkpoint (`best` or `last`), seconds."""
    metrics: dict[str, Any]
    """Finite numbers by name, e.g. `cls/acc`, or `svhn/ood/rate` of a probe; fractions, not percent; NLL in nats."""
    config: dict[str, Any]
    """The resolved configuration of the run."""
    provenance: dict[str, Any]
    """commit, dirty, command, started and finished (ISO 8601, UTC), versions."""
    schema: int = SCHEMA
    """Version of this layout."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), _TYPES[field.name])
        trained = bool(self.data or self.training or self.evaluation)
        for group in _REQUIRED if trained else ("provenance",):
            _check_group(group, getattr(self, group))
        if not re.fullmatch(r"[0-9a-f]{12}", self.id):
            _fail(f"id must be 12 hexadecimal digits, not {self.id!r}")
        for name in ("study", "profile"):
            if not _NAME.fullmatch(getattr(self, name)):
                _fail(f"{name} must be a plain folder name, not {getattr(self, name)!r}")
        if trained and self.evaluation["checkpoint"] not in ("best", "last"):
            _fail(f"evaluation.checkpoint must be 'best' or 'last', not {self.evaluation['checkpoint']!r}")
        _check_metrics(self.metrics)

    def path(self, results_dir: Path | str) -> Path:
        """Where this result lives under `results_dir`."""
        return result_path(results_dir, self.profile, self.study, self.id)

    def to_json(self) -> str:
        """Indented JSON with sorted keys, ending in a newline.

        Raises:
            InvalidResultError: some value is not finite or no JSON type.
        """
        try:
            text = json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise InvalidResultError(f"only finite numbers and JSON's types fit a result: {error}") from error
        return text + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """The inverse of `to_json`.

        Raises:
            ResultError: the schema number is not the one this release reads.
            InvalidResultError: not JSON, or not a result.
        """
        try:
            record = json.loads(text)
        except ValueError as error:
            raise InvalidResultError(f"not JSON: {error}") from error
        if not isinstance(record, dict):
            _fail("the file holds no JSON object")
        if record.get("schema") != SCHEMA:
            theirs = record.get("schema")
            raise ResultError(f"written in schema {theirs!r}, this release reads {SCHEMA}: upgrade lit-scaledrop")
        names = {field.name for field in fields(cls)}
        if record.keys() != names:
            _fail(f"fields missing or unknown: {sorted(names ^ record.keys())}")
        return cls(**record)


_TYPES: dict[str, Any] = {field.name: get_origin(field.type) or field.type for field in fields(Result)}


def result_path(results_dir: Path | str, profile: str, study: str, id: str) -> Path:
    """The file of a run.

    >>> result_path("results", "quick", "table3", "0123456789ab").as_posix()
    'results/quick/table3/0123456789ab.json'
    """
    return Path(results_dir) / profile / study / f"{id}.json"


def write_result(result: Result, results_dir: Path | str, *, overwrite: bool = False) -> Path:
    """Write a result where `Result.path` says; the file appears whole or not at all.

    Raises:
        ResultError: the folder cannot be written, or another finished result is there and `overwrite` is off.
        InvalidResultError: the result holds something that is not finite or not JSON.
    """
    path, text = result.path(results_dir), result.to_json()
    Result.from_json(text)  # dictionaries may have changed since they were checked
    if not overwrite and is_finished(path):
        if path.read_text(encoding="utf-8") == text:
            return path
        raise ResultError(
            f"{path} already holds a finished result of this configuration; "
            "delete it first, or write with overwrite=True"
        )
    try:
        write_atomic(path, text)
    except OSError as error:
        reason = error.strerror or error
        raise ResultError(f"cannot write {path}: {reason}; choose a results folder you can write") from error
    return path


def read_result(path: Path | str) -> Result:
    """Read one result.

    Raises:
        InvalidResultError: the file is half-written or no result; the message says what to delete.
        ResultError: the file cannot be opened, or was written by another release.
    """
    try:
        return Result.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror or error}") from error
    except (InvalidResultError, UnicodeDecodeError) as error:
        raise InvalidResultError(
            f"{path} is no valid result ({error}); delete it and repeat the run that writes it"
        ) from error
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error


def load_results(results_dir: Path | str, profile: str, study: str) -> tuple[list[Result], list[str]]:
    """All results of one profile and study, ordered by id, and what was wrong with the other files."""
    results, problems = [], []
    for path in sorted((Path(results_dir) / profile / study).glob("*.json")):
        if path.name.endswith(".failed.json"):  # see failures.py
            continue
        try:
            result = read_result(path)
        except ResultError as error:
            problems.append(str(error))
            continue
        if result.path(results_dir) != path:
            problems.append(f"{path} belongs at {result.path(results_dir)}; move it there or delete it")
        else:
            results.append(result)
    return results, problems


def is_finished(path: Path | str, *, move_broken: bool = True) -> bool:
    """Whether `path` holds a valid result.

    A broken file counts as not finished: with `move_broken`, it is reported on the log and moved aside to
    `<name>.json.broken` (or `.broken2` ...), so that the run can be repeated and nothing is lost.

    Raises:
        ResultError: the file is there but cannot be opened, or was written by another release.
    """
    path = Path(path)
    if not os.path.exists(path):  # unlike Path.exists, False also where the folder may not be entered
        return False
    try:
        read_result(path)
    except InvalidResultError as error:
        if not move_broken:
            return False
        aside, n = path.with_name(f"{path.name}.broken"), 1
        while aside.exists():
            aside, n = path.with_name(f"{path.name}.broken{n + 1}"), n + 1
        path.rename(aside)
        _log.warning("%s: %s. Moved aside to %s; the run is repeated.", path, error.__cause__, aside.name)
        return False
    return True


def write_atomic(path: Path | str, content: str | bytes) -> None:
    """Write UTF-8 text or bytes so that readers see the old file or the new one, never a part, even after a power cut.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # random: two machines may have processes of one number
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fail(message: str) -> NoReturn:
    raise InvalidResultError(message)


def _check_group(group: str, values: dict[str, Any]) -> None:
    """Each required key, or one of those that a bar parts, has its type."""
    for key, _, kind in (entry.partition(":") for entry in _REQUIRED[group].split()):
        found = [name for name in key.split("|") if name in values]
        if not found:
            _fail(f"{group}.{key.replace('|', ' or ')} is missing")
        for name in found:
            _check_type(f"{group}.{name}", values[name], _KINDS[kind])


def _check_type(name: str, value: Any, kind: type) -> None:
    # bool is an int to Python, never to us; an int may stand for a float
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        _fail(f"{name} must be of type {kind.__name__}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        _fail(f"{name} is {value}: a result holds finite numbers only; find out why the run diverged")


def _check_metrics(metrics: Mapping[str, Any]) -> None:
    if not metrics:
        _fail("metrics is empty: evaluate the run before writing its result")
    for name, value in metrics.items():
        _check_type(name, value, float)
        if name.endswith(_FRACTIONS) and not 0 <= value <= 1:
            _fail(f"{name} is {value}, but must be a fraction between 0 and 1, not percent")
