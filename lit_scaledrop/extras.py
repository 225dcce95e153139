"""Packages that only one part needs, the extras: which one lacks where something is missing, and how to install it."""

import importlib
import re
from typing import Any

_PROJECTS = {"sklearn": "scikit-learn"}  # modules that are not called like what is installed
_MAINTAINERS = ("all", "bench", "browser", "dev")


def extra(module: str, what: str, otherwise: str = "") -> Any:
    """Import a module of an extra.

    Args:
        module: its name.
        what: what asks for it.
        otherwise: what to do instead, at the end of the message.

    Raises:
        ModuleNotFoundError: it is missing; the one line says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        lacks = f"{what} needs {needed(module) or f'{module}: pip install {module}'}{otherwise}"
        raise ModuleNotFoundError(lacks, name=module) from error


def needed(module: str) -> str:
    """The extra that a module is of, and how it is installed; empty for what is of none."""
    name = module.partition(".")[0]
    project = _PROJECTS.get(name, name.replace("_", "-"))
    found = {extra: wanted for extra, wanted in extras().items() if project in wanted}
    if not found:
        return ""
    wanted = next(iter(found.values()))
    # what several have is installed alone
    lines = wanted.values() if len(found) == 1 else [wanted[project]]
    names = " or ".join(f"`{name}`" for name in found)
    return f"the extra {names}: pip install {' '.join(map(repr, lines))}"


def extras() -> dict[str, dict[str, str]]:
    """Requirements of each extra by project, as the installed package says them; none of a bare source."""
    from importlib import metadata

    try:
        lines = metadata.requires("lit-scaledrop") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        if (match := re.match(r"(([\w.-]+)[^;]*); extra == .(\w+).$", line)) and match[3] not in _MAINTAINERS:
            found.setdefault(match[3], {})[match[2].lower()] = match[1].strip()
    return found
