"""Look-up by name, with a suggestion for misspelt names."""

import difflib
from collections.abc import Iterable


def lookup(kind: str, name: str, known: Iterable[str], shown: Iterable[str] | None = None) -> str:
    """Return ``name`` if it is known.

    Args:
        kind: What it is the name of, for the message.
        name: What was asked for.
        known: All names.
        shown: What the message lists; None lists all names.

    Raises:
        ValueError: If the name is unknown; the message has the nearest match.

    >>> lookup("corruption", "fogg", ["fog", "snow"])
    Traceback (most recent call last):
    ValueError: unknown corruption 'fogg'; did you mean 'fog'? known are fog, snow
    """
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r};{hint} known are {', '.join(names if shown is None else shown)}")
