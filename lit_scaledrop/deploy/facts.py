"""The preprocessing of images stored in a file, validated before use."""

from typing import Any

from datamodules.own.facts import sound_facts
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
    square, moments = images.get("square", "crop"), (images.get("mean"), images.get("std"))
    sound = sound_facts(channels, *moments, size, square, window) | {
        "class_names": isinstance(names, list | tuple)
        and len(names) == classes
        and all(isinstance(name, str) for name in names),
        "name": isinstance(images.get("name"), str),
    }
    sound["border"] = sound["size"] and images.get("border", 0) in range(size // 2)
    return next((f"{name} is {str(images.get(name))[:60]!r}" for name, fine in sound.items() if not fine), "")
