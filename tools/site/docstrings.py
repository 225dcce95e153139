"""Griffe's extension: examples in docstrings are code, whatever brackets stand in them, and formulas are drawn."""

import re
from typing import Any

from griffe import Extension

from tools.site.assemble import on_page_markdown

_EXAMPLE = re.compile(r"(?:^[ \t]*>>> .*\n?)(?:^[ \t]*\S.*\n?)*", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*=+(?: +=+)+\n(?:[ \t]*\S.*\n)*[ \t]*=+(?: +=+)+$", re.MULTILINE)


class Examples(Extension):
    """Fences around each paragraph that begins with ``>>>``, and around tables of ``===``; MathML for formulas."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring:
            value = _TABLE.sub(lambda table: f"\n```text\n{table[0]}\n```\n", obj.docstring.value)
            obj.docstring.value = on_page_markdown(_EXAMPLE.sub(self._fenced, value))

    @staticmethod
    def _fenced(match: re.Match[str]) -> str:
        indent = " " * (len(match[0]) - len(match[0].lstrip()))
        return f"{indent}```pycon\n{match[0].rstrip()}\n{indent}```\n"
