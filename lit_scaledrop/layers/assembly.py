"""Operations that a network is lowered to, in their order, numbered, and joined to routines between PyTorch's steps."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from lit_scaledrop.layers.bits import Geometry, Maps, Operation
from lit_scaledrop.layers.recording import Recording, Step


@dataclass(eq=False)
class Lowered:
    """Operations that follow each other, with the slots that they take and give, and what the latter hold for a row."""

    operations: list[Operation]
    shapes: list[Maps | Geometry]
    takes: list[int]
    gives: list[int]
    inputs: list[int]
    outputs: list[int]
    given: list[tuple[int, ...]]


@dataclass(eq=False)
class Part:
    """An operation that is still to be numbered.

    Attributes:
        make: makes it of numbers.
        x: slot that it takes, or ``(slot, step)`` of bits.
        out: likewise what it makes.
        skip: likewise what is added.
        steps: of numbers, in whose place it is.
    """

    make: Callable[..., Operation]
    x: Any
    out: Any
    skip: Any = None
    steps: tuple[int, ...] = ()


def as_maps(shape: tuple[int, ...] | None) -> Maps:
    """Shape of maps, or of features, which are maps of one pixel.

    >>> as_maps((7,)), as_maps((7, 2, 3))
    ((7, 1, 1), (7, 2, 3))
    """
    channels, height, width, *_ = *(shape or (0,)), 1, 1
    return channels, height, width


def assembled(
    recording: Recording, parts: Mapping[int, list[Part]], taken: Set[int], geometries: Mapping[Any, Geometry]
) -> list[Step | Lowered]:
    """Steps and, in the place of others, operations.

    Args:
        recording: of a network.
        parts: by the number of the step where they stand.
        taken: steps in whose place there are parts, or nothing.
        geometries: of the convolutions that take bits, by these.
    """
    made: list[Step | list[Part]] = []
    for number, step in enumerate(recording.steps):
        if parts.get(number):
            if made and isinstance(made[-1], list):
                made[-1].extend(parts[number])
            else:
                made.append(list(parts[number]))
        elif number not in taken:
            made.append(step)
    made = [one for each in made for one in _worthwhile(recording, each)]
    inside = {part.out: place for place, each in enumerate(made) if isinstance(each, list) for part in each}
    wanted = {recording.output}
    for place, each in enumerate(made):
        if isinstance(each, Step):
            wanted.update(each.takes)
        else:
            used = {slot for part in each for slot in (part.x, part.skip) if slot is not None}
            wanted.update(slot for slot in used if inside.get(slot) != place)
    return [each if isinstance(each, Step) else _numbered(recording, each, wanted, geometries) for each in made]


def _worthwhile(recording: Recording, each: Step | list[Part]) -> Sequence[Step | list[Part]]:
    """What runs; operations on numbers alone are left to PyTorch."""
    if isinstance(each, Step) or not all(part.steps for part in each):
        return [each]
    return [recording.steps[number] for number in sorted(number for part in each for number in part.steps)]


def _numbered(recording: Recording, parts: list[Part], wanted: Set[Any], geometries: Mapping[Any, Geometry]) -> Lowered:
    number: dict[Any, int] = {}
    made = {part.out for part in parts}
    for part in parts:
        for slot in (part.x, part.skip, part.out):
            if slot is not None and slot not in number:
                number[slot] = len(number)
    takes = [slot for slot in number if slot not in made]
    gives = [part.out for part in parts if part.out in wanted]
    operations = []
    for part in parts:
        skip = {} if part.skip is None else {"skip": number[part.skip]}
        operations.append(part.make(number[part.x], number[part.out], **skip))
    shapes = [geometries[slot] if slot in geometries else as_maps(recording.shapes[slot]) for slot in number]
    given = [recording.shapes[slot] or () for slot in gives]
    return Lowered(operations, shapes, takes, gives, [number[s] for s in takes], [number[s] for s in gives], given)
