"""Words in messages: the nearest known name, and nouns with their number."""

import difflib
from collections.abc import Iterable


def lookup(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is among ``known``.

    Raises:
        ValueError: if it is not; the message has the nearest match and the whole list.

    >>> lookup("method", "proposd", ["fp", "proposed"])
    Traceback (most recent call last):
    ValueError: unknown method 'proposd'; did you mean 'proposed'? Known: fp, proposed
    """
    known = sorted(known)
    if name in known:
        return name
    raise ValueError(f"unknown {kind} {name!r}{nearest(name, known, '.', 0.4)} Known: {', '.join(known)}")


def nearest(name: str, known: Iterable[str], otherwise: str = "", cutoff: float = 0.6) -> str:
    """The end of a message about an unknown name, or another one where no name is like it.

    >>> nearest("evalaute", ["fit", "evaluate"])
    "; did you mean 'evaluate'?"
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else otherwise


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "epoch"), count(45000, "image")
    ('1 epoch', '45,000 images')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
