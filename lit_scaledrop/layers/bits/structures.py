"""What the kernels are told, in structures as they declare them."""

import ctypes

import numpy as np
from torch import Tensor

from lit_scaledrop.layers.bits.filters import Geometry


class Table(ctypes.Structure):
    """As the kernels declare it, and so the others."""

    _fields_ = (
        ("first", ctypes.c_void_p), ("second", ctypes.c_void_p), ("of_row", ctypes.c_void_p), ("step", ctypes.c_int64),
    )  # fmt: skip


class Operands(ctypes.Structure):
    """What is multiplied."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("inputs", "filters", "position", "border", "factor")),
        ("lanes", ctypes.c_int64),
    )


class Next(ctypes.Structure):
    """Bits of the next convolution's input."""

    _fields_ = (
        ("geometry", ctypes.POINTER(Geometry)), ("pool", ctypes.c_int64), ("table", Table),
        *((name, ctypes.c_void_p) for name in ("falling", "first", "row", "out")),
    )  # fmt: skip


class Stage(ctypes.Structure):
    """Multiply and add."""

    _fields_ = (("table", Table), ("fused", ctypes.c_int64))


class Finish(ctypes.Structure):
    """Two stages, a skip, a clip."""

    _fields_ = (
        ("channels", ctypes.c_int64), ("pixels", ctypes.c_int64), ("stages", Stage * 2),
        ("low", ctypes.c_float), ("high", ctypes.c_float),
    )  # fmt: skip


class Squares(ctypes.Structure):
    """Pooling."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("channels", "size", "height", "width", "largest"))


class Subsample(ctypes.Structure):
    """A shortcut without weights."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("channels", "stride", "height", "width", "front", "all"))


class Value(ctypes.Structure):
    """Rows of one size."""

    _fields_ = (("bytes", ctypes.c_int64), ("offset", ctypes.c_int64), ("at", ctypes.c_void_p))


class Operation(ctypes.Structure):
    """One step of a routine."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("kind", "x", "skip", "out", "rows", "groups")),
        ("source", ctypes.c_void_p), ("source_of_skip", ctypes.c_void_p), ("cases", ctypes.c_int64 * 2),
        ("geometry", ctypes.POINTER(Geometry)), ("operands", Operands), ("table", Table), ("next", Next),
        ("finish", Finish), ("squares", Squares), ("subsample", Subsample),
    )  # fmt: skip


class Call(ctypes.Structure):
    """Some images of a routine's inputs."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "workspace", "cases")),
        *((name, ctypes.c_int64) for name in ("start", "end", "images", "batch", "cases_step")),
    )


class Team(ctypes.Structure):
    """OpenMP's functions."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("parallel", "number", "size", "barrier"))


class Job(ctypes.Structure):
    """A routine's call with its threads and their memory."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("level", "threads", "together")),
        *((name, ctypes.c_void_p) for name in ("team", "call", "operations")), ("count", ctypes.c_int64),
        ("memory", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("each", "windows", "marks")),
        ("spent", ctypes.c_void_p),
    )  # fmt: skip


def at(numbers: Tensor | np.ndarray | None) -> int | None:
    """Where numbers lie."""
    if numbers is None:
        return None
    return numbers.data_ptr() if isinstance(numbers, Tensor) else numbers.ctypes.data
