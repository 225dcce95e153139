"""Rows of Table III on the command line, ``--row NETWORK/METHOD``: a sweep's grid is a product, the table is not."""

import itertools

from lit_scaledrop.methods import METHODS, lookup
from lit_scaledrop.networks import NETWORKS


def expand_rows(words: list[str]) -> list[str]:
    """Replace each ``--row NETWORK/METHOD`` (two words) by the two flags that it stands for.

    Raises:
        ValueError: for a row that is none, or an unknown network or method, with the nearest match.

    >>> expand_rows(["fit", "--row", "resnet20/proposed"])
    ['fit', '--model.network=resnet20', '--model.method=proposed']
    """
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word == "--row" else None
        if value is None:
            expanded.append(word)
            continue
        network, slash, method = value.partition("/")
        if not slash:
            raise ValueError(f"--row takes NETWORK/METHOD, e.g. resnet20/proposed, not {value!r}")
        expanded.append(f"--model.network={lookup('network', network, NETWORKS)}")
        expanded.append(f"--model.method={lookup('method', method, METHODS)}")
    return expanded


def last_value(words: list[str], flag: str) -> str | None:
    """Value of the last ``flag=value`` or ``flag value``; ``None`` if there is none.

    >>> last_value(["--a=1", "--b", "2", "--a", "3"], "--a")
    '3'
    """
    found = None
    for word, after in itertools.zip_longest(words, words[1:]):
        if word == flag:
            found = after
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found
