"""What a picture goes through before a network sees it, as a file says it: checked before it is believed."""

from typing import Any, get_args

from datamodules.own.medical import STORED
from datamodules.own.pairs import SIDES
from datamodules.pictures import Square
from lit_scaledrop.modules.base import LitNetwork


def odd_fact(images: Any, module: LitNetwork) -> str:
    """What is wrong with the facts that a file has of the pictures of its network; empty if nothing is.

    Args:
        images: ``mean`` and ``std`` of each channel, ``class_names``, ``name``, and where they are there ``border``,
            ``size``, ``square`` and ``window``.
        module: what they are for.
    """
    if not isinstance(images, dict):
        return f"it says {images!r} of them"
    channels, classes = module.hparams["in_channels"], module.hparams["num_classes"]
    names, size, window = images.get("class_names"), images.get("size", 32), images.get("window")
    sound = {
        "mean": _numbers(images.get("mean"), channels),
        "std": _numbers(images.get("std"), channels) and min(images["std"]) > 0,
        "class_names": isinstance(names, list | tuple)
        and len(names) == classes
        and all(isinstance(name, str) for name in names),
        "name": isinstance(images.get("name"), str),
        "size": type(size) is int and size in SIDES,
        "square": images.get("square", "crop") in get_args(Square),
        "window": window in (None, STORED) or (_numbers(window, 2) and window[0] < window[1]),
    }
    sound["border"] = sound["size"] and images.get("border", 0) in range(size // 2)
    return next((f"{name} is {str(images.get(name))[:60]!r}" for name, fine in sound.items() if not fine), "")


def _numbers(values: Any, count: int) -> bool:
    """Whether these are so many finite numbers."""
    return (
        isinstance(values, list | tuple)
        and len(values) == count
        and all(type(value) in (int, float) and abs(value) < 1e30 for value in values)
    )
