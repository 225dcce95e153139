"""Results as files: written once, when a run has been evaluated, so that *an existing, valid file is a finished run*.

Sweeps skip it and tables read it.
"""

import logging
import os
from pathlib import Path

from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.reading import read_text
from lit_scaledrop.results.result import ID, InvalidResultError, Result, ResultError
from lit_scaledrop.results.schema import odd_settings

_log = logging.getLogger(__name__)


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
        result = Result.from_json(read_text(path))
        if ID.fullmatch(path.stem) and result.id != path.stem:
            raise InvalidResultError(f"it is that of run {result.id}")
        return result
    except OSError as error:
        raise ResultError(
            f"cannot read {path}: {error.strerror or error}; move it away and repeat the run that writes it"
        ) from error
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
        _log.warning("%s: %s. Renamed to %s; the run is repeated.", path, error.__cause__, aside.name)
        return False
    return True
