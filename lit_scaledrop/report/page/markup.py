"""HTML from text: everything that comes from outside goes through `escape`."""

import re
from html import escape as _escape
from typing import Any


def escape(value: Any) -> str:
    """Text as it may stand in an element or in a quoted attribute.

    >>> escape('<script>"&')
    '&lt;script&gt;&quot;&amp;'
    """
    return _escape(str(value), quote=True)


def sentence(text: str) -> str:
    """A sentence of a report, escaped; what stands in backticks is code.

    >>> sentence("run `a<b>`, then c")
    'run <code>a&lt;b&gt;</code>, then c'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def tag(name: str, content: str, **attributes: Any) -> str:
    """An element around HTML; ``_`` at the end of an attribute is dropped, inside it is a hyphen; None leaves it out.

    >>> tag("td", "1", class_="n", data_method="<FP>", hidden=None)
    '<td class="n" data-method="&lt;FP&gt;">1</td>'
    """
    words = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    return f"<{name}{''.join(words)}>{content}</{name}>"


def slug(*words: str) -> str:
    """An id from words.

    >>> slug("cpu", "table3", "VGG-small, T = 10")
    'cpu-table3-VGG-small-T-10'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", " ".join(words)).strip("-")
