"""Words in messages: the nearest known name, and nouns with their number."""

import difflib
import re
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


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    r"""Text for a terminal: what moves the cursor, changes colours or turns the direction becomes a question mark.

    >>> plain("a\x1b[2Jb\n")
    'a?[2Jb\n'
    """
    return _CONTROL.sub("?", text.encode(errors="replace").decode())


def one_line(text: str) -> str:
    r"""The same on one line, for a cell of a table or a note; ``<`` and ``|`` mean nothing in it to Markdown.

    >>> one_line("x\n# Title <img src=y> | z")
    'x # Title &lt;img src=y> \\| z'
    """
    return " ".join(plain(text).split()).replace("<", "&lt;").replace("|", "\\|")


def cell(text: str) -> str:
    """Text for a cell of a CSV file that a spreadsheet must not take for a formula, of characters that UTF-8 has.

    >>> cell("=cmd|x.png"), cell("-1.png"), cell("a.png")
    ("'=cmd|x.png", "'-1.png", 'a.png')
    """
    text = plain(text).replace("\n", "?").replace("\t", "?")
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "epoch"), count(45000, "image")
    ('1 epoch', '45,000 images')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
