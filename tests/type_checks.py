"""The run-time checks of our annotations: jaxtyping's where there is a shape, beartype's alone where there is none.

jaxtyping binds the arguments of every call, and compiles the checks of a function inside another each time that it is
made: where networks run, both take longer than what they check.
"""

import dataclasses
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf

_SAME_ERROR = BeartypeConf(violation_type=jaxtyping.TypeCheckError)
_with_shapes = jaxtyping.jaxtyped
_bare: set[types.CodeType] = set()
"""functions inside others, made anew at each call, that have no shape"""


def install() -> None:
    """For what jaxtyping's import hook decorates from now on."""
    jaxtyping.jaxtyped = jaxtyped


def jaxtyped(made: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """A function or dataclass with its checks."""
    if made is None:
        return partial(jaxtyped, typechecker=typechecker)
    if isinstance(made, type) and dataclasses.is_dataclass(made) and "__init__" in vars(made):
        made.__init__ = jaxtyped(made.__init__, typechecker=typechecker)  # type: ignore[misc]
        return made
    if not isinstance(made, types.FunctionType):
        return _with_shapes(made, typechecker=typechecker)
    if made.__code__ in _bare:
        return made
    try:
        hints = get_type_hints(made, include_extras=True)
    except Exception:  # e.g. a class that does not exist yet; jaxtyping takes anything for it
        return _with_shapes(made, typechecker=typechecker)
    if any(isinstance(part, type) and issubclass(part, jaxtyping.AbstractArray) for part in _parts([*hints.values()])):
        return _with_shapes(made, typechecker=typechecker)
    if "<locals>" in made.__qualname__:
        _bare.add(made.__code__)
        return made
    return typechecker(made, conf=_SAME_ERROR)


def _parts(hint: Any) -> Iterator[Any]:
    """A hint and what it is made of."""
    yield hint
    for part in hint if isinstance(hint, list) else get_args(hint):
        yield from _parts(part)
