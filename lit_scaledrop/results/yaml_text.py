"""YAML of bounded size: an alias stands for what it names, and ten lines of aliases of aliases for a billion things."""

from typing import Any

LARGEST = 100_000
"""Values that a text may hold, those that aliases stand for counted each time."""
DEEPEST = 200
"""Collections within one another: the parser in C has no limit of its own, and ends the process."""


def load_yaml(text: str) -> Any:
    """Plain data from YAML, as ``yaml.safe_load`` gives it.

    Raises:
        ValueError: it is no YAML, or holds more than :data:`LARGEST` values, or deeper than :data:`DEEPEST`.
    """
    import yaml

    try:
        require_bounded(text)
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def require_bounded(text: str) -> None:
    """Refuse what is nested too deeply, and aliases that stand for too much, or for what they are part of.

    Raises:
        yaml.YAMLError: that, or no YAML.
    """
    import yaml

    if len(text) <= DEEPEST and "*" not in text:
        return  # most values of flags
    depth, aliases = 0, False
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases = aliases or isinstance(event, yaml.AliasEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep")
    if not aliases:
        return
    rest, number = [yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))], 0
    while rest:
        node, number = rest.pop(), number + 1
        if number > LARGEST:
            raise yaml.YAMLError(f"it holds more than {LARGEST:,} values, counting what aliases stand for")
        children = node if isinstance(node, tuple) else getattr(node, "value", None)
        rest += children if isinstance(children, list | tuple) else ()
