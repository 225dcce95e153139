"""YAML of bounded size: an alias stands for what it names, and ten lines of aliases of aliases for a billion things."""

from typing import Any

LARGEST = 100_000
"""Values that a text may hold, those that aliases stand for counted each time."""


def load_yaml(text: str) -> Any:
    """Plain data from YAML, as ``yaml.safe_load`` gives it.

    Raises:
        ValueError: it is no YAML, or holds more than :data:`LARGEST` values.
    """
    import yaml

    try:
        require_bounded(text)
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def require_bounded(text: str) -> None:
    """Refuse aliases that stand for too much, or for what they are part of.

    Raises:
        yaml.YAMLError: that, or no YAML.
    """
    import yaml

    if "*" not in text:
        return
    rest, number = [yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))], 0
    while rest:
        node, number = rest.pop(), number + 1
        if number > LARGEST:
            raise yaml.YAMLError(f"it holds more than {LARGEST:,} values, counting what aliases stand for")
        children = node if isinstance(node, tuple) else getattr(node, "value", None)
        rest += children if isinstance(children, list | tuple) else ()
