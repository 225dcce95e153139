"""Arrays of numbers in MATLAB files of version 5, read without SciPy, whose reader in C a broken file can crash.

Layout (MathWorks, "MAT-File Format", level 5): a header of 128 bytes, then elements of a type, a size and data, which
are padded to 8 bytes; a variable is an element of elements (flags, lengths, name, numbers), often compressed by zlib.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from datamodules.files.limits import largest, too_large

_HEADER, _MATRIX, _COMPRESSED = 128, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of elements that are numbers."""
_CLASSES, _COMPLEX = range(6, 16), 0x0800
"""Variables that are arrays of numbers, and the flag of those that have imaginary parts."""


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of real numbers in a file, by name, in the type in which they are stored.

    Raises:
        ValueError: It is no such file, is damaged, or holds too much.
    """
    if len(content) < _HEADER or content[124:128] != b"\x00\x01IM":
        raise ValueError("it is no MATLAB file of version 5, little-endian")
    found = {}
    try:
        for kind, data in _elements(content[_HEADER:]):
            if kind == _COMPRESSED:
                unpacked = list(_elements(_unpacked(data)))
                if len(unpacked) != 1:
                    raise ValueError("a compressed part of it is no variable")
                kind, data = unpacked[0]
            if kind == _MATRIX and (variable := _variable(data)) is not None:
                found[variable[0]] = variable[1]
    except (struct.error, zlib.error) as error:
        raise ValueError(f"it is damaged: {error}") from error
    return found


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and data of each element; a small one has its data in place of its size."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from("<II", content, at)
        small = kind >> 16
        start, kind, size = (at + 4, kind & 0xFFFF, small) if small else (at + 8, kind, size)
        if small > 4 or start + size > len(content):
            raise ValueError("it ends within an element")
        yield kind, content[start : start + size]
        at = at + 8 if small else start + size + (0 if kind == _COMPRESSED else -size % 8)


def _unpacked(content: bytes) -> bytes:
    unpacker, most = zlib.decompressobj(), largest()
    data = unpacker.decompress(content, most)
    if unpacker.unconsumed_tail:
        raise ValueError(too_large("what is compressed in it", most + 1.0))
    return data


def _variable(content: bytes) -> tuple[str, np.ndarray] | None:
    """Name and numbers; none for a variable that is something else."""
    (_, flags), (lengths, shape), (_, name), *parts = [*_elements(content), *[(0, b"")] * 3]
    (kind,) = struct.unpack_from("<I", flags)
    if kind & 0xFF not in _CLASSES or kind & _COMPLEX:
        return None
    if lengths != 5 or parts[0][0] not in _NUMBERS:
        raise ValueError("a variable of it has no lengths or no numbers")
    numbers = np.frombuffer(parts[0][1], f"<{_NUMBERS[parts[0][0]]}")
    sides = np.frombuffer(shape, "<i4").tolist()
    if math.prod(sides) != len(numbers) or min(sides, default=0) < 0:
        raise ValueError(f"a variable of it has the lengths {sides} and {len(numbers):,} numbers")
    return name.decode("latin-1"), numbers.reshape(sides, order="F")
