"""Escapes untrusted text for a terminal, Markdown and spreadsheets."""

import re

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    r"""Text for a terminal: what moves the cursor, changes colours or turns the direction becomes a question mark.

    >>> plain("a\x1b[2Jb\n")
    'a?[2Jb\n'
    """
    return _CONTROL.sub("?", text.encode(errors="replace").decode())


def one_line(text: str) -> str:
    r"""The same on one line, for a cell of a table or a note; tags and ``|`` mean nothing in it to Markdown.

    >>> one_line("x\n# Title <img src=y> | z")
    'x # Title &lt;img src=y> \\| z'
    """
    return without_tags(" ".join(plain(text).split())).replace("|", "\\|")


def without_tags(text: str) -> str:
    """Text whose tags Markdown shows and does not obey.

    >>> without_tags("<script>, p < 0.05")
    '&lt;script>, p < 0.05'
    """
    return _TAG.sub("&lt;", text)


def cell(text: str) -> str:
    """Text for a cell of a CSV file that a spreadsheet must not take for a formula, of characters that UTF-8 has.

    >>> cell("=cmd|x.png"), cell("-1.png"), cell("a.png")
    ("'=cmd|x.png", "'-1.png", 'a.png')
    """
    text = plain(text).replace("\n", "?").replace("\t", "?")
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
