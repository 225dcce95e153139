"""Verification of data sets: checksums, fingerprints, and errors."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

RECORD = "checksums.md5"
"""File, in the format of ``md5sum``, by which a folder of unofficial data says what it should hold."""


class DatasetNotFoundError(RuntimeError):
    """A data set, or a file of it, is not there; the message says how to get it."""


class DatasetCorruptError(RuntimeError):
    """A file of a data set is truncated or altered; the message names it and says how to get it anew."""


class Checksum(NamedTuple):
    """What a file must be: md5 in hexadecimal, and its bytes where known."""

    md5: str
    size: int | None = None


def md5_of(content: bytes | bytearray | memoryview) -> str:
    """md5 in hexadecimal; it guards against accidents, not against forgery.

    >>> md5_of(b"")
    'd41d8cd98f00b204e9800998ecf8427e'
    """
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5_of_file(path: Path) -> str:
    """md5 of a file in hexadecimal, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def verify(where: str, content: bytes, expected: Checksum, remedy: str) -> None:
    """Compare a file's content with its checksum.

    Raises:
        DatasetCorruptError: Names the file and the expected and found bytes or md5.
    """
    if expected.size is not None and len(content) != expected.size:
        kind = "truncated" if len(content) < expected.size else "altered"
        raise DatasetCorruptError(f"{where} is {kind}: {len(content):,} bytes instead of {expected.size:,}.\n{remedy}")
    found = md5_of(content)
    if found != expected.md5:
        raise DatasetCorruptError(
            f"{where} is altered: md5 {found} instead of {expected.md5} ({len(content):,} bytes).\n{remedy}"
        )


def fingerprint(*tensors: Tensor) -> str:
    """First 16 hexadecimal digits of the sha256 over the shapes, types and values of tensors.

    >>> import torch
    >>> fingerprint(torch.arange(3)) == fingerprint(torch.arange(3)), fingerprint(torch.arange(3))
    (True, '...')
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it: a temporary file beside it, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def parse_record(content: bytes) -> dict[str, Checksum]:
    """Read a ``checksums.md5``.

    Raises:
        DatasetCorruptError: If a line is not an md5 and a file name.
    """
    checksums = {}
    for line in content.decode(errors="replace").splitlines():
        md5, _, name = line.partition("  ")
        if len(md5) != 32 or not name:
            raise DatasetCorruptError(f"{RECORD} has a line that is not 'md5  name': {line!r}")
        checksums[name] = Checksum(md5)
    return checksums
