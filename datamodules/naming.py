"""Finding a thing by its name, or saying which name was probably meant."""

import difflib
from collections.abc import Iterable


def lookup(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is known.

    Raises:
        ValueError: Otherwise, with the nearest match and all that are known.

    >>> lookup("corruption", "fogg", ["fog", "snow"])
    Traceback (most recent call last):
    ValueError: unknown corruption 'fogg'; did you mean 'fog'? known are fog, snow
    """
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r};{hint} known are {', '.join(names)}")
