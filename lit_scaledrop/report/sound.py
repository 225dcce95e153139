"""Makes a table or figure from valid results: invalid ones are named and left out."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from lit_scaledrop.results.result import Result

Made = TypeVar("Made")
_MANY = 100
_ODD = (LookupError, AttributeError, TypeError)  # of a configuration that has not what it should


def from_sound(make: Callable[[list[Result]], Made], results: Sequence[Result], say: Callable[[str], object]) -> Made:
    """Make something from results, and once more without those that stop it.

    Raises:
        ValueError: what `make` says, or that nothing can be made from any of them.
    """
    try:
        return make([*results])
    except _ODD as error:
        odd = {result.id: why for result in results if (why := _why(make, result))}
        odd = odd or _stranger(make, results, _words(error))
        sound = [result for result in results if result.id not in odd]
        if not odd or not sound:
            raise ValueError(f"nothing can be made of the results: {_words(error)}") from error
    for id, why in odd.items():
        say(f"left out: result {id} does not have the configuration of such a run: {why}")
    return make(sound)


def _why(make: Callable[[list[Result]], Made], result: Result) -> str:
    try:
        make([result])
    except _ODD as error:
        return _words(error)
    except ValueError:
        return ""
    return ""


def _stranger(make: Callable[[list[Result]], Made], results: Sequence[Result], why: str) -> dict[str, str]:
    """The one that goes alone, but with no others: without it they go; none where there are too many to try."""
    for place, result in enumerate(results if 2 < len(results) <= _MANY else ()):
        with suppress(*_ODD, ValueError):
            make([*results[:place], *results[place + 1 :]])
            return {result.id: why}
    return {}


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {error}"
