"""The record of a run: one JSON file per run, `<results>/<profile>/<study>/<id>.json`, schema 2.

The file is the result of record; trackers only mirror it. It is written once, atomically, after the run has
been evaluated, so that *an existing, valid file is a finished run*: sweeps skip it and tables read it.
Everything a table prints beside a number (data, epochs, device, commit, command) is in the same file. Files of schema 1
are read, too.
"""

import contextlib
import errno
import glob
import json
import logging
import os
import re
import secrets
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, get_origin, get_type_hints

from lit_scaledrop.results import schema1
from lit_scaledrop.results.glossary import TOPOLOGIES
from lit_scaledrop.results.measurement import Coordinate, Measurement
from lit_scaledrop.results.schema import (
    Data,
    EvaluationRecord,
    Provenance,
    Training,
    check_group,
    check_type,
    odd_settings,
)

SCHEMA = 2
_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ID = re.compile(r"[0-9a-f]{12}")


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
            record = json.loads(text)
        except ValueError as error:
            raise InvalidResultError(f"not JSON: {error}") from error
        except RecursionError as error:
            raise InvalidResultError("its JSON is nested too deeply") from error
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
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a folder; or a pipe, which would be waited for
            raise ResultError("is no file; move it away and repeat the run that writes it")
        result = Result.from_json(path.read_text(encoding="utf-8"))
        if _ID.fullmatch(path.stem) and result.id != path.stem:
            _fail(f"it is that of run {result.id}")
        return result
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
        if odd := odd_settings(result.config, result.provenance["command"]):
            problems.append(f"{path} is no valid result ({odd}); delete it and repeat the run that writes it")
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
            file.write(content.encode(errors="replace") if isinstance(content, str) else content)
            file.flush()
            _sync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _tidy(path)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise  # else a file system that has none, some FUSE and 9p


def _tidy(path: Path) -> None:
    """Remove what processes that were killed have left beside a file, an hour ago or earlier."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def _check_names(result: Result) -> None:
    if not _ID.fullmatch(result.id):
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
