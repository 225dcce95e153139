"""Kernels one after the other, on the rows of a few images at a time, which stay in a core's cache meanwhile.

An operation makes one value of one or two others. A value has a row, numbers or packed signs, for each image in each
group of passes that are alike so far; which group is made of which, and which case of its tables each takes, may change
from call to call (:class:`Groups`). Threads divide the images, or, where there are too few, the parts of an operation.
"""

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_scaledrop.layers.bits import structures as c
from lit_scaledrop.layers.bits.build import best_level, kernels, openmp
from lit_scaledrop.layers.bits.filters import Geometry
from lit_scaledrop.layers.bits.operation import Groups, Maps, Operation
from lit_scaledrop.layers.bits.preparation import Preparation, Prepared, bytes_of
from lit_scaledrop.layers.bits.structures import at

_WORTH_THREADS_NS = 100_000  # waking two and waiting for them takes 10 us, if they are not busy
_WORTH_WAITING_NS = 10_000  # for each other, behind an operation
_PROCESS = os.getpid()  # OpenMP's threads are those of one process: a fork has none
_KEPT = 64  # groupings that were prepared
_MEMORY = 1 << 26  # bytes that a thread keeps for its next call
_WORKSPACE = 1 << 19  # bytes for the images of a call, which a core's cache holds with the weights


class Routine:
    """Operations on values, which are numbered; what is not an input is made by one of them.

    Args:
        operations: in their order.
        shapes: of each value ``(channels, height, width)`` of numbers; or the geometry of the convolution that takes
            its bits.
        inputs: numbers of the values that come from outside, float32.
        outputs: numbers of those that are wanted, float32.
        level: instructions, by their number in :data:`lit_scaledrop.layers.bits.LEVELS`; default: the best ones.

    Attributes:
        spent: where there is an array of int64, nanoseconds that the first thread takes for each operation are added,
            in calls of one group.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        shapes: Sequence[Maps | Geometry],
        inputs: Sequence[int],
        outputs: Sequence[int],
        level: int | None = None,
    ) -> None:
        self.operations, self.shapes = tuple(operations), tuple(shapes)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.level = best_level() if level is None else level
        self.bytes = [bytes_of(shape) for shape in self.shapes]
        self._alone = tuple(Groups(cases=((0,),) * sum(t.random for t in of.tables)) for of in self.operations)
        self._nanoseconds = [of.nanoseconds for of in self.operations]
        self._of_one = sum(self._nanoseconds)
        self.spent: np.ndarray | None = None
        self._prepared: dict[tuple[Any, ...], Prepared] = {}

    def __call__(
        self,
        inputs: Sequence[Tensor],
        images: int,
        groups: Sequence[Groups] | None = None,
        cases: np.ndarray | None = None,
    ) -> list[Tensor]:
        """Run it.

        Args:
            inputs: contiguous, ``(groups * images, channels, height, width)``, a group after another.
            images: how many.
            groups: of each operation; by default there is one.
            cases: where there is one group, of each random table in the order of the operations the case, ``(tables,)``
                or of each image ``(tables, images)``.
        """
        groups = self._alone if groups is None else groups
        of_value = self.groups_of(inputs, images, groups)
        outputs = [torch.empty(of_value[value] * images, *self.shapes[value]) for value in self.outputs]
        if not images or not self.operations:
            return outputs
        each_takes = zip(self._nanoseconds, groups, strict=True)
        takes_one = self._of_one if groups is self._alone else sum(takes * group.out for takes, group in each_takes)
        whole = takes_one * images
        threads = torch.get_num_threads() if whole >= _WORTH_THREADS_NS else 1
        own = cases is not None and cases.ndim == 2
        if images < threads and whole < _WORTH_WAITING_NS * len(self.operations):
            threads = 1
        together = images < threads  # then each operation is divided
        each = images if together else 1  # images at a time
        if images >= 2 * threads:
            one = self._prepare(groups, of_value, 1, images if own else 0 if cases is None else 1)
            most = max(1, min(images // threads, _WORKSPACE // max(1, one.workspace)))
            each = max(1, images // (threads * -(-images // (threads * most))))
        middle = images if together else images // (each * threads) * each * threads
        most = max(each, images - middle)  # what is left over is computed at once
        if cases is not None:
            cases = np.ascontiguousarray(cases if own else np.repeat(cases, most), np.int32)
        stride = images if own else 0 if cases is None else most
        tensors = {**dict(zip(self.outputs, outputs, strict=True)), **dict(zip(self.inputs, inputs, strict=True))}
        for begin, end, some, alone in ((0, middle, each, False), (middle, images, images - middle, True)):
            if begin < end:
                prepared = self._prepare(groups, of_value, some, stride)
                call = c.Call(None, None, None, begin, end, some, images, own)
                self._run(prepared, tensors, call, cases, threads, together or alone)
        return outputs

    def groups_of(self, inputs: Sequence[Tensor], images: int, groups: Sequence[Groups]) -> list[int]:
        """Of each value how many it has."""
        found = [1] * len(self.shapes)
        for value, tensor in zip(self.inputs, inputs, strict=True):
            expected = self.shapes[value]
            if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tuple(tensor.shape[1:]) != expected:
                raise ValueError(f"float32 maps of {expected} are needed, got {tensor.dtype} {tuple(tensor.shape)}")
            found[value] = len(tensor) // images if images else 1
        for of, group in zip(self.operations, groups, strict=True):
            found[of.out] = group.out
        return found

    def _run(
        self,
        prepared: Prepared,
        tensors: dict[int, Tensor],
        call: c.Call,
        cases: np.ndarray | None,
        threads: int,
        together: bool,
    ) -> None:
        values = type(prepared.values).from_buffer_copy(prepared.values)
        for value, tensor in tensors.items():
            if values[value].at is not None:
                values[value].at = tensor.data_ptr()
        call.values = ctypes.addressof(values)
        call.cases = (prepared.cases if cases is None else cases).ctypes.data
        team = c.Team(*openmp()) if os.getpid() == _PROCESS else c.Team()
        if together and not team.parallel:
            threads = 1  # who waits for each other needs a team
        each = prepared.workspace + prepared.scratch
        memory = _memory(each * threads)
        job = c.Job(
            self.level, threads, together and threads > 1, ctypes.addressof(team), ctypes.addressof(call),
            ctypes.addressof(prepared.operations), prepared.count, at(memory), each, prepared.workspace,
            prepared.workspace + prepared.windows,
            at(self.spent) if prepared.count == len(self.operations) else None,
        )  # fmt: skip
        kernels().bits_run(ctypes.byref(job))

    def _prepare(self, groups: Sequence[Groups], of_value: list[int], images: int, stride: int) -> Prepared:
        key = (None if groups is self._alone else tuple(groups), images, stride)
        if key not in self._prepared:
            if len(self._prepared) == _KEPT:
                self._prepared.clear()
            made = Preparation(self.operations, groups, self.bytes, of_value, images, stride)
            self._prepared[key] = made.done(self.inputs, self.outputs)
        return self._prepared[key]


_local = threading.local()


def _memory(size: int) -> np.ndarray:
    """Memory of this thread, whose contents are anything; it is kept, unless it is much."""
    kept: np.ndarray | None = getattr(_local, "memory", None)
    if kept is None or len(kept) < size:
        kept = np.empty(size + 64, np.uint8)
        if size <= _MEMORY:
            _local.memory = kept
    return kept
