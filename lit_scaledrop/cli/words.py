"""Words of a command line by their flags: ``flag=value`` or ``flag value``."""

from collections.abc import Callable, Iterator, Sequence


def pieces(words: Sequence[str], group: str) -> Iterator[tuple[str, str | None]]:
    """Words with nothing, but a flag, or any flag of a group, with its value: ``flag=value`` or ``flag value``."""
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag != group and not flag.startswith(f"{group}."):
            yield word, None
        else:
            yield word, value if equals else next(rest, "")


def replace_flag(words: Sequence[str], flag: str, by: Callable[[str], list[str]]) -> list[str]:
    """The words with something in place of a flag and its value."""
    return [new for word, value in pieces(words, flag) for new in ([word] if value is None else by(value))]


def last_value(words: Sequence[str], flag: str) -> str | None:
    """Value of the last ``flag=value`` or ``flag value``; ``None`` if there is none.

    >>> last_value(["--a=1", "--b", "2", "--a", "3"], "--a")
    '3'
    """
    values = [value for _, value in pieces(words, flag) if value is not None]
    return values[-1] if values else None


def without(words: Sequence[str], group: str) -> list[str]:
    """The words but for a flag, or the flags of a group, with their values.

    >>> without(["--row", "resnet20/fp", "--evaluation.samples", "5", "--evaluation.quantile=0.2"], "--evaluation")
    ['--row', 'resnet20/fp']
    """
    return replace_flag(words, group, lambda _: [])
