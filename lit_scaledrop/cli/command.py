"""A command is a function: its signature is the parser, its docstring the help.

Parameters in front of ``*`` are positional, those behind it flags (``in_channels`` is ``--in-channels``, ``from_`` is
``--from``), required where they have no default. ``Literal`` gives choices, ``bool`` a switch, ``list[T]`` several
values; a dataclass stands for the flags of its fields, and a default of it for theirs. ``Annotated[T, ...]`` adds the
function that reads a value, and other spellings of the flag. ``*words`` takes whatever is not known.
"""

import argparse
import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser

APPEND = "append"
"""Mark of a flag that may be repeated, instead of one with several values."""
_MISSING = (inspect.Parameter.empty, dataclasses.MISSING)


class UsageError(ValueError):
    """Flags that do not go together; told with the usage of the command."""


def call(
    function: Callable[..., Any],
    argv: Sequence[str],
    prog: str,
    usage: str | None = None,
    without: Sequence[str] = (),
    known: Mapping[str, Iterable[str]] | None = None,
) -> Any:
    """Call a function with what a command line says.

    Args:
        function: the command; a ``partial`` has arguments that the command line does not give.
        argv: what follows its name.
        prog: how it is called in messages, e.g. ``scaledrop energy``.
        usage: the line of the help, where the generated one says too little.
        without: fields of dataclasses that are no flags.
        known: values of a parameter that its help lists, where they are not in its type.

    >>> def double(number: int, *, times: int = 2, loud: bool = False) -> str:
    ...     "Double a number."
    ...     return f"{number * times}{'!' * loud}"
    >>> call(double, ["3", "--times", "4", "--loud"], "double")
    '12!'
    """
    documented = function.func if isinstance(function, partial) else function
    about = docstring_parser.parse_from_object(documented)
    parser = argparse.ArgumentParser(prog, usage, about.description, allow_abbrev=False)
    parameters = inspect.signature(function).parameters
    hints, texts = get_type_hints(documented, include_extras=True), _texts(documented, known)
    groups: dict[str, list[str]] = {}
    # a dataclass makes these defaults itself
    own = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
    factories = {field.name for field in own if field.default_factory is not dataclasses.MISSING}
    for name, parameter in parameters.items():
        if dataclasses.is_dataclass(kind := hints[name]):
            inner, theirs = get_type_hints(kind, include_extras=True), _texts(kind, known)
            fields = [field for field in dataclasses.fields(kind) if field.name not in (*hints, *without)]
            for field in fields:
                default = getattr(parameter.default, field.name, field.default)
                _add(parser, field.name, inner[field.name], default, theirs.get(field.name, ""), flag=True)
            groups[name] = [field.name for field in fields]
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            default = argparse.SUPPRESS if name in factories else parameter.default
            _add(parser, name, kind, default, texts.get(name, ""), flag=parameter.kind is parameter.KEYWORD_ONLY)
    takes_rest = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    parsed, rest = parser.parse_known_args(argv) if takes_rest else (parser.parse_args(argv), [])
    given = vars(parsed)
    for name, members in groups.items():
        told, default = {member: given.pop(member) for member in members}, parameters[name].default
        given[name] = hints[name](**told) if default in _MISSING else dataclasses.replace(default, **told)
    positional = [given.pop(p.name) for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    try:
        return function(*positional, *rest, **given)
    except UsageError as error:
        parser.error(str(error))


def _add(parser: argparse.ArgumentParser, name: str, hint: Any, default: Any, text: str, flag: bool) -> None:
    more: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *more = get_args(hint)  # type: ignore[assignment]
    kind, several = _kind(hint)
    required = default in _MISSING
    options: dict[str, Any] = {"help": text.replace("%", "%%")}
    if APPEND in more:
        options["action"] = "append"
    elif several:
        options["nargs"] = "+"
    elif not flag and not required:
        options["nargs"] = "?"
    if get_origin(kind) is Literal:
        options |= {"choices": get_args(kind), "type": type(get_args(kind)[0])}
    elif kind is bool:
        options["action"] = "store_true"
    else:
        options["type"] = next(filter(callable, more), kind)
    if not required:
        options["default"] = list(default) if isinstance(default, tuple) else default
        if default not in (argparse.SUPPRESS, None, ()) and default is not False and "default" not in text:
            options["help"] += " (default: %(default)s)"
    if flag:
        spellings = [word for word in more if isinstance(word, str) and word != APPEND]
        flags = ["--" + name.rstrip("_").replace("_", "-"), *spellings]
        parser.add_argument(*flags, dest=name, required=required, **options)
    else:
        parser.add_argument(name, **options)


def _kind(hint: Any) -> tuple[Any, bool]:
    """Type of one value, and whether there may be several.

    >>> _kind(int | None), _kind(list[str]), _kind(tuple[float, ...] | None)
    ((<class 'int'>, False), (<class 'str'>, True), (<class 'float'>, True))
    """
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) in (list, tuple):
        return get_args(hint)[0], True
    return hint, False


def _texts(documented: Any, known: Mapping[str, Iterable[str]] | None) -> dict[str, str]:
    """What the docstrings of a function or of a class's attributes say of each name, with the values that are known."""
    parsed = docstring_parser.parse_from_object(documented)
    texts = {p.arg_name: " ".join((p.description or "").split()).removesuffix(".") for p in parsed.params}
    return texts | {
        name: f"{texts[name]}: {', '.join(values)}" for name, values in (known or {}).items() if name in texts
    }
