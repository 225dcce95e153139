"""Schema 2 of results: their groups and required fields. Other keys are kept."""

import math
import shlex
from collections.abc import Mapping
from types import UnionType
from typing import Any, NotRequired, TypedDict, get_args, get_origin, get_type_hints


class Data(TypedDict):
    """What a run was trained and tested on."""

    name: str
    fingerprint: str
    stand_in: bool
    """whether it is a stand-in for the paper's data"""
    source: str
    train: int
    """images of the split, as the next two"""
    val: int
    test: int


class Training(TypedDict):
    """How a network was trained."""

    epochs: int
    seconds: float
    best_epoch: int
    """counted from 0"""
    device: str
    precision: str
    compiled: bool
    val_acc: NotRequired[float]
    """best metric of the validation split, a fraction: this or one of the next two"""
    val_iou: NotRequired[float]
    monitored: NotRequired[dict[str, float]]
    """the same by its name, of a module that is not ours and chooses by another one"""
    world_size: NotRequired[int]
    logged: NotRequired[dict[str, float]]
    """last epoch's means: loss terms, validation, and what callbacks log"""
    curve: NotRequired[dict[str, list[Any]]]
    """columns `epoch`, counted from 1, `val_acc` or `val_iou`, `loss_task`"""


class EvaluationRecord(TypedDict):
    """How the posterior was evaluated."""

    samples: int
    """passes T"""
    seed: int
    """of the masks"""
    execution: str
    checkpoint: str
    """`best` or `last`"""
    seconds: float
    scheme: NotRequired[str]
    uncovered: NotRequired[float]
    """probability of the masks that exact execution left out"""
    variation: NotRequired[dict[str, Any] | None]
    on_chip: NotRequired[dict[str, Any]]
    """chip file with its fingerprint, and number of the finished chip; absent: the digital network"""
    quantile: NotRequired[float]
    """of the OOD rule, as the next two"""
    threshold: NotRequired[float]
    interpolation: NotRequired[str]
    limit: NotRequired[int | None]
    """most images of each part of a probe"""
    images: NotRequired[int]
    """of the test set, or of the split"""
    split: NotRequired[str]
    """`validation` where no test image was measured"""
    parts: NotRequired[list[str]]
    absent: NotRequired[dict[str, str]]
    """why parts were not measured"""
    suites: NotRequired[dict[str, dict[str, Any]]]
    """title, kind, source, fingerprint and number of images"""
    weights: NotRequired[str]
    """digest of the networks"""


class Provenance(TypedDict):
    """By which code and command a run was made, and when (ISO 8601, UTC)."""

    commit: str
    dirty: bool
    command: str
    started: str
    finished: str
    versions: dict[str, str]
    setting: NotRequired[str]
    """hash of the configuration without its seed"""


def check_group(name: str, values: Mapping[str, Any], group: type) -> None:
    """Check that a group has its keys, and numbers, words and switches where they are due.

    Raises:
        ValueError: naming the key.
    """
    for key, kind in get_type_hints(group).items():
        if key in values:
            some, *none = get_args(kind) if isinstance(kind, UnionType) else (kind,)
            if not (none and values[key] is None):
                check_type(f"{name}.{key}", values[key], get_origin(some) or some)
        elif key in group.__required_keys__:  # type: ignore[attr-defined]
            raise ValueError(f"{name}.{key} is missing")


def check_type(name: str, value: Any, kind: type) -> None:
    """Check one value.

    Raises:
        ValueError: it has another type, or is not finite.
    """
    # bool is an int to Python, never to us; an int may stand for a float
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be of type {kind.__name__}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}: a result holds finite numbers only; find out why the run diverged")


def check_curve(curve: Mapping[str, Any]) -> None:
    """Check that the columns of a learning curve are of one length, epochs and finite numbers.

    Raises:
        ValueError: naming the column.
    """
    epochs = curve.get("epoch", [])
    for name, column in curve.items():
        if not isinstance(column, list) or not isinstance(epochs, list) or len(column) != len(epochs):
            raise ValueError(f"training.curve.{name} is no column of its epochs")
        for value in column:
            if name == "epoch" or value is not None:
                check_type(f"training.curve.{name}", value, int if name == "epoch" else float)


def odd_settings(config: Mapping[str, Any], command: str) -> str:
    """What of a result's configuration no table could read, in words; empty if nothing is."""
    try:
        shlex.split(command)
    except ValueError as error:
        return f"provenance.command: {error}"
    for group in ("model", "data", "trainer", "evaluation"):
        settings = config.get(group)
        if settings is not None and not isinstance(settings, dict):
            return f"config.{group} has no settings, it is {settings!r}"
        if not isinstance((settings or {}).get("init_args") or {}, dict):
            return f"config.{group}.init_args is {(settings or {})['init_args']!r}"
    return ""
