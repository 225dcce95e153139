"""Operations of a routine as the kernels want them, for some groups and some images at a time."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_scaledrop.layers.bits import structures as c
from lit_scaledrop.layers.bits.filters import Filters, Geometry
from lit_scaledrop.layers.bits.operation import (
    BITS,
    DELIVER,
    FETCH,
    FINISH,
    PACK,
    POOL,
    SUBSAMPLE,
    SUMS,
    Groups,
    Maps,
    Operation,
)
from lit_scaledrop.layers.bits.structures import at

_READ_BEHIND = 64  # bytes behind a value; the kernels read 8
_CHUNK = 64  # windows that are gathered at once, CHUNK of the kernels


@dataclass(eq=False)
class Prepared:
    """Operations as the kernels want them, for some images at a time."""

    operations: Any
    values: Any
    count: int
    workspace: int
    scratch: int
    windows: int
    cases: np.ndarray
    alive: list[Any]


class Preparation:
    """Turns operations into structures for the kernels.

    Args:
        operations: in their order.
        groups: of each of them.
        sizes: bytes of a row of each value.
        of_value: groups of each value.
        images: how many at a time.
        stride: distance of the cases of two tables in the list that a call gives; 0: the groups say the cases.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        groups: Sequence[Groups],
        sizes: Sequence[int],
        of_value: Sequence[int],
        images: int,
        stride: int,
    ) -> None:
        self.operations, self.groups, self.images, self.stride = operations, groups, images, stride
        self.bytes, self.of_value = list(sizes), list(of_value)
        self.alive: list[Any] = []
        self.cases: list[np.ndarray] = []
        self.at_case = self.marks = 0

    def done(self, inputs: Sequence[int], outputs: Sequence[int]) -> Prepared:
        """All of it; rows of several groups are fetched from outside first, or delivered there at the end."""
        here = {value: self._inner(value) for value in (*inputs, *outputs) if self.of_value[value] > 1}
        made = [self._carried(FETCH, value, here[value]) for value in inputs if value in here]
        made += [self._told(of, group, here) for of, group in zip(self.operations, self.groups, strict=True)]
        made += [self._carried(DELIVER, here[value], value) for value in outputs if value in here]
        outside = {*inputs, *outputs}
        offsets, workspace = self._places(made, outside)
        values = (c.Value * len(self.bytes))(
            *(
                c.Value(size, offsets.get(value, 0), 1 if value in outside else None)
                for value, size in enumerate(self.bytes)
            )
        )
        words = max((of.filters.words.shape[2] for of in self.operations if of.filters and of.kind != PACK), default=0)
        windows = 8 * (_CHUNK * words + 8)
        scratch = -(-(windows + self.marks) // 64) * 64
        cases = np.concatenate(self.cases).astype(np.int32) if self.cases else np.zeros(1, np.int32)
        return Prepared(
            (c.Operation * len(made))(*made), values, len(made), workspace, scratch, windows, cases, self.alive
        )

    def _inner(self, value: int) -> int:
        self.bytes.append(self.bytes[value])
        self.of_value.append(self.of_value[value])
        return len(self.bytes) - 1

    def _carried(self, kind: int, x: int, out: int) -> c.Operation:
        return c.Operation(kind, x, -1, out, 1, self.of_value[out])

    def _told(self, of: Operation, group: Groups, here: dict[int, int]) -> c.Operation:
        x, out, skip = here.get(of.x, of.x), here.get(of.out, of.out), here.get(of.skip, of.skip)
        rows = (self.of_value[of.x] if of.kind in (BITS, SUMS) else group.out) * self.images
        told = c.Operation(of.kind, x, skip, out, rows, group.out)
        told.cases = (-1, -1)
        random = iter(group.cases)
        for number, table in enumerate(of.tables):
            if table.random:
                told.cases[number] = self._cases_at(next(random))
        if of.kind in (PACK, FINISH):
            told.source, told.source_of_skip = self._rows(group.source), self._rows(group.source_of_skip)
        if of.kind in (PACK, SUMS, BITS):
            self._multiplication(told, of, group)
        else:
            _numbers(told, of)
        return told

    def _multiplication(self, told: c.Operation, of: Operation, group: Groups) -> None:
        assert of.geometry is not None
        told.geometry = ctypes.pointer(of.geometry)
        if of.kind == PACK:
            told.table = of.tables[0].told()
            return
        assert of.filters is not None
        told.operands = self._operands(of.filters, of.geometry)
        if of.kind == BITS:
            told.next = self._next(of, group)

    def _operands(self, filters: Filters, geometry: Geometry) -> c.Operands:
        if not filters.exact:
            raise ValueError("the kernels multiply signs: +-1 times a power of two for each filter")
        border, factor = filters.border(geometry), filters.factor_of_lane
        self.alive.append(border)
        return c.Operands(None, at(filters.words), at(border.position), at(border.added), at(factor), len(factor))

    def _next(self, of: Operation, group: Groups) -> c.Next:
        assert of.following is not None
        table = of.tables[0]
        first = row = None
        if group.source is not None:
            image = (np.array(group.source)[:, None] * self.images + np.arange(self.images)).ravel()
            row = np.argsort(image, kind="stable").astype(np.int32)
            ends = np.arange(self.of_value[of.x] * self.images + 1)
            first = np.searchsorted(image[row], ends).astype(np.int32)
            most = int(np.diff(first).max())
        else:
            most = 1
        self.alive += [first, row]
        wide = of.pool * (of.geometry.out_width if of.geometry else 0)
        self.marks = max(self.marks, most * max(wide, _CHUNK) * of.following.unit)
        return c.Next(ctypes.pointer(of.following), of.pool, table.told(), at(table.falling), at(first), at(row), None)

    def _rows(self, source: tuple[int, ...] | None) -> int | None:
        if source is None:
            return None
        rows = (np.array(source, np.int32)[:, None] * self.images + np.arange(self.images, dtype=np.int32)).ravel()
        self.alive.append(rows)
        return at(rows)

    def _cases_at(self, cases: tuple[int, ...]) -> int:
        """Where the cases of a random table begin: those of a call, or those of these groups."""
        begin = self.at_case
        if not self.stride:
            self.cases.append(np.repeat(np.array(cases, np.int32), self.images))
            self.at_case += len(cases) * self.images
        else:
            self.at_case += self.stride
        return begin

    def _places(self, made: list[c.Operation], outside: set[int]) -> tuple[dict[int, int], int]:
        """Offsets of the values that lie in the workspace, where memory is used again, and the size of it."""
        last = {value: number for number, of in enumerate(made) for value in (of.x, of.skip)}
        places: dict[int, tuple[int, int]] = {}
        offsets: dict[int, int] = {}
        size = 0
        for number, of in enumerate(made):
            if of.out not in outside:
                need = -(-(self.of_value[of.out] * self.images * self.bytes[of.out] + _READ_BEHIND) // 64) * 64
                begin = 0
                for start, stop in sorted(places.values()):
                    if begin + need <= start:
                        break
                    begin = max(begin, stop)
                offsets[of.out], places[of.out] = begin, (begin, begin + need)
                size = max(size, begin + need)
            for value in (of.x, of.skip, of.out):
                if last.get(value, number) <= number:
                    places.pop(value, None)
        return offsets, size


def bytes_of(shape: Maps | Geometry) -> int:
    """Of the row of a value."""
    if isinstance(shape, Geometry):
        return shape.padded_height * shape.padded_width * shape.groups * shape.unit
    return 4 * math.prod(shape)


def _numbers(told: c.Operation, of: Operation) -> None:
    channels, height, width = of.shape
    if of.kind == FINISH:
        stages = (c.Stage * 2)(*(c.Stage(t.told(), fused) for t, fused in zip(of.tables, of.fused, strict=True)))
        told.finish = c.Finish(channels, height * width, stages, of.low, of.high)
    elif of.kind == POOL:
        told.squares = c.Squares(channels, of.size, height, width, of.largest)
    elif of.kind == SUBSAMPLE:
        told.subsample = c.Subsample(channels, of.size, height, width, of.front, of.channels)
