"""Griffe's extension: examples in docstrings are code, whatever brackets stand in them."""

import re
from typing import Any

from griffe import Extension

_EXAMPLE = re.compile(r"(?:^[ \t]*>>> .*\n?)(?:^[ \t]*\S.*\n?)*", re.MULTILINE)


class Examples(Extension):
    """Fences around each paragraph that begins with ``>>>``."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(self._fenced, obj.docstring.value)

    @staticmethod
    def _fenced(match: re.Match[str]) -> str:
        indent = " " * (len(match[0]) - len(match[0].lstrip()))
        return f"{indent}```pycon\n{match[0].rstrip()}\n{indent}```\n"
