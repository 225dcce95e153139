"""Users' networks: built by a class or a function that a setting names."""

import importlib
import inspect
from typing import Any

from torch import nn

from lit_scaledrop.methods.method import Method

OWN = Method("Own network", "not of this package", activation="relu")
"""In the place of a row of the tables, where a network is built of none."""


def is_own(name: str) -> bool:
    """Whether a network's name is the import path of what builds it."""
    return "." in name


def imported(kind: str, path: str) -> Any:
    """A class or function of the user's.

    Raises:
        ValueError: it cannot be imported.
    """
    home, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(home), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{kind} {path!r} cannot be imported ({error}): give MODULE.NAME of a class or function in the current "
            f"folder or an installed package"
        ) from error


def own_network(path: str, arguments: dict[str, Any]) -> tuple[nn.Module, bool]:
    """Build a network by a class or function that takes ``num_classes``.

    Args:
        path: ``package.module.name``, importable, e.g. from the current folder.
        arguments: what it may take by name: ``num_classes``, ``in_channels``, ``width``, ``image_size``, ``method``.

    Returns:
        The network, and whether it is built of the method.

    Raises:
        ValueError: it cannot be imported, does not take ``num_classes``, or makes no module.
    """
    build = imported("network", path)
    try:
        known = inspect.signature(build).parameters
    except (TypeError, ValueError):
        known = {}  # type: ignore[assignment]
    if "num_classes" not in known:
        raise ValueError(f"network {path!r} must take the keyword argument num_classes, and may take in_channels")
    network = build(**{key: value for key, value in arguments.items() if key in known})
    if not isinstance(network, nn.Module):
        raise ValueError(f"network {path!r} returns a {type(network).__name__}, not a torch.nn.Module")
    return network, "method" in known
