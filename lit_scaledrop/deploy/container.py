"""A file of tensors: a compressed JSON header, then raw numbers, signs as bits. Reading it executes no code.

=========  =================================================================================
bytes      content
=========  =================================================================================
10         ``scaledrop`` and the version of the layout, 1
4          length of the header, little-endian
header     JSON, compressed by zlib: ``about``, ``tensors``, ``signs``, ``sha256`` of the rest
rest       all tensors in the order of the header, little-endian, then all signs as bits
=========  =================================================================================
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_scaledrop.results.atomic import write_atomic

MAGIC = b"scaledrop\x01"
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "int64": np.dtype("<i8")}
LARGEST_HEADER = 16_000_000


class PackedError(RuntimeError):
    """A file is no packed network, or it is damaged."""


@dataclass(frozen=True)
class Packed:
    """What a packed file holds."""

    about: dict[str, Any]
    """what JSON can say of the network"""
    tensors: Mapping[str, Tensor]
    """float32 or int64"""
    signs: Mapping[str, Tensor]
    """bool: whether a sign is +1; one bit each in the file"""

    def to_bytes(self) -> bytes:
        """The file.

        Raises:
            ValueError: for a tensor of another type.
        """
        listed, parts = [], []
        for name, tensor in self.tensors.items():
            kind = str(tensor.dtype).removeprefix("torch.")
            if kind not in DTYPES:
                raise ValueError(f"{name} is {kind}; a packed file holds {', '.join(DTYPES)} and signs")
            listed.append([name, kind, list(tensor.shape)])
            parts.append(tensor.detach().cpu().contiguous().numpy().astype(DTYPES[kind]).tobytes())
        bits = [positive.detach().cpu().reshape(-1).numpy() for positive in self.signs.values()]
        parts.append(np.packbits(np.concatenate([np.zeros(0, bool), *bits])).tobytes())
        body = b"".join(parts)
        header = {
            "about": self.about,
            "tensors": listed,
            "signs": [[name, list(positive.shape)] for name, positive in self.signs.items()],
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        front = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
        return MAGIC + struct.pack("<I", len(front)) + front + body

    def write(self, path: str | Path) -> int:
        """Write the file in one step, and return its size in bytes."""
        content = self.to_bytes()
        write_atomic(path, content)
        return len(content)


def read_packed(path: str | Path) -> Packed:
    """Read a packed file.

    Raises:
        PackedError: if there is none, it is of another kind or version, or it is damaged.
    """
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise PackedError(f"cannot read {path}: it is not a file")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PackedError(f"cannot read {path}: {error.strerror}") from error
    if not content.startswith(MAGIC[:-1]):
        raise PackedError(
            f"{path} is not a packed network; `scaledrop export --model CHECKPOINT --out {path}` makes one"
        )
    if not content.startswith(MAGIC):
        layout = [*content[len(MAGIC) - 1 : len(MAGIC)], "none"][0]
        raise PackedError(f"{path} has layout {layout}, this version reads 1: update lit-scaledrop")
    try:
        return _parse(content[len(MAGIC) :])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error, zlib.error) as error:
        raise PackedError(f"{path} is damaged ({error}); make it again from its checkpoint") from error


def _parse(content: bytes) -> Packed:
    (length,) = struct.unpack_from("<I", content)
    unpacker = zlib.decompressobj()
    header = json.loads(unpacker.decompress(content[4 : 4 + length], LARGEST_HEADER))
    body = content[4 + length :]
    if hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise ValueError("its content does not fit its checksum")
    tensors: dict[str, Tensor] = {}
    at, room = 0, 8 * len(body)
    for name, kind, shape in header["tensors"]:
        dtype, count = DTYPES[kind], _count(shape, room)
        values = np.frombuffer(body, dtype, count, at).astype(dtype.newbyteorder("="))
        tensors[name] = torch.from_numpy(values).reshape(shape)
        at += dtype.itemsize * count
    total = sum(_count(shape, room) for _, shape in header["signs"])
    if total > 8 * (len(body) - at):
        raise ValueError(f"its header lists {total:,} signs, more than it holds")
    bits = np.unpackbits(np.frombuffer(body, np.uint8, offset=at), count=total).astype(bool)
    signs: dict[str, Tensor] = {}
    at = 0
    for name, shape in header["signs"]:
        signs[name] = torch.from_numpy(bits[at : at + math.prod(shape)].copy()).reshape(shape)
        at += math.prod(shape)
    if not isinstance(header["about"], dict):
        raise ValueError("its header does not describe the network")
    return Packed(header["about"], tensors, signs)


def _count(shape: list[int], room: int) -> int:
    """Numbers in a tensor, at most the bits that the file has."""
    if not all(isinstance(length, int) and 0 <= length <= room for length in shape) or len(shape) > 16:
        raise ValueError(f"its header lists a tensor of shape {str(shape)[:80]}, more than it holds")
    count = math.prod(shape)
    if count > room:
        raise ValueError(f"its header lists a tensor of {count:,} numbers, more than it holds")
    return count
