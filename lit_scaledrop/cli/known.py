"""Flags of `fit` and its relatives that their parser knows only when a class is named, and names of their values."""

import argparse
import inspect
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

import datamodules
from lit_scaledrop.cli.flags import PACKAGED, SPEEDS
from lit_scaledrop.cli.own import OWN_FLAGS
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.modules.segmenter import LitSegmenter
from lit_scaledrop.networks import NETWORKS, SEGMENTATION_NETWORKS


def known_flags(parser: argparse.ArgumentParser) -> set[str]:
    """Flags of a command, those of the model and the data included."""
    return {flag for flag in parser._option_string_actions if flag.startswith("--")} | class_flags().keys()


def class_flags() -> dict[str, Iterable[str]]:
    """The words that stand for others, and the flags of models and data, each with its values where they have names.

    >>> class_flags()["--model.mask"]
    ('vector', 'element')
    """
    sets: list[type] = [*datamodules.DATAMODULES.values(), *datamodules.SEGMENTATION_DATAMODULES.values()]
    flags: dict[str, Iterable[str]] = dict.fromkeys(("--row", "--variation", "--budget", *OWN_FLAGS, *SPEEDS), ())
    classes: dict[str, list[type]] = {"model": [LitClassifier, LitSegmenter], "data": sets}
    for group, members in classes.items():
        for member in members:
            for base in member.__mro__[:3]:
                for name, parameter in inspect.signature(base).parameters.items():
                    flags[f"--{group}.{name}"] = _names(parameter.annotation)
    profiles = sorted({path.name.partition(".")[0] for path in (PACKAGED / "profile").glob("*.yaml")})
    return flags | {
        "--profile": profiles,
        "--dataset": datamodules.SEGMENTATION_DATAMODULES,
        "--data": [module.__name__ for module in sets],
        "--model.network": [*NETWORKS, *SEGMENTATION_NETWORKS],
        "--model.method": METHODS | SEGMENTATION_METHODS,
    }


def _names(hint: Any) -> tuple[str, ...]:
    """Words of a ``Literal``, also within a union."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return tuple(map(str, parts))
    return next((found for part in parts if (found := _names(part))), ())
