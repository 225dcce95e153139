"""Plausibility checks of a file's description of its images."""

from typing import Any, get_args

from datamodules.own.medical import STORED
from datamodules.own.pairs import SIDES
from datamodules.pictures import Square


def sound_facts(channels: int, mean: Any, std: Any, size: Any, square: Any, window: Any) -> dict[str, bool]:
    """Whether moments of each channel, side of the squares, how they are made, and window can be what is said.

    >>> [name for name, fine in sound_facts(1, [0.5], [0.0], 32, "pad", None).items() if not fine]
    ['std']
    """
    return {
        "mean": are_numbers(mean, channels),
        "std": are_numbers(std, channels) and min(std) > 0,
        "size": type(size) is int and size in SIDES,
        "square": square in get_args(Square),
        "window": window in (None, STORED) or (are_numbers(window, 2) and window[0] < window[1]),
    }


def are_numbers(values: Any, count: int) -> bool:
    """Whether these are so many finite numbers."""
    return (
        isinstance(values, list | tuple)
        and len(values) == count
        and all(type(value) in (int, float) and abs(value) < 1e30 for value in values)
    )
