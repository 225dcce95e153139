"""The kernels: those of the wheel, or compiled once by the system's C compiler into the user's cache."""

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-ffp-contract=off", "-shared", "-fPIC")  # a compiler may round once where twice is written
LIBRARIES = ("-lm", "-pthread")
LEVELS = ("portable", "avx2", "avx512")
"""instructions that the kernels are written for, by their number there"""
_OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier")
_SECONDS = 120  # that a compiler gets


def cache_folder() -> Path:
    """Where compiled kernels are kept: below ``XDG_CACHE_HOME``, by default ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lit-scaledrop"


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; ``None``, after one line that says why, where there can be none."""
    if not os.environ.get("CC") and (found := packaged()):
        return found
    try:
        compiler = shlex.split(os.environ.get("CC") or "") or [shutil.which("cc") or shutil.which("gcc") or "cc"]
        return _load(compiler)
    # the last two: quotes in CC that do not end, messages in another encoding, and a library of something else
    except (OSError, RuntimeError, subprocess.SubprocessError, ValueError, AttributeError) as error:
        why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        logger.warning("binary convolutions run as float convolutions, which is slower: no kernels (%s)", why)
        return None


def packaged() -> ctypes.CDLL | None:
    """Those that lie beside their source, as in a wheel, if they were made of it and run here."""
    with contextlib.suppress(OSError, AttributeError):
        for path in sorted(SOURCE.parent.glob("kernels*.so")):
            found = ctypes.CDLL(str(path))
            found.bits_source.restype = ctypes.c_char_p
            if found.bits_source().decode() == _digest(SOURCE):
                return declared(found)
    return None


def available() -> bool:
    """Whether there are compiled kernels here; a line has said why not."""
    return library() is not None


def kernels() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        RuntimeError: there are none here.
    """
    loaded = library()
    if loaded is None:
        raise RuntimeError("there are no compiled kernels: a C compiler is needed")
    return loaded


@cache
def openmp() -> tuple[int, ...]:
    """Where the functions of OpenMP are that PyTorch's threads are led by; zeros where there are none."""
    try:
        whole = ctypes.CDLL(None)
        functions = [getattr(whole, name) for name in _OPENMP]
    except (AttributeError, OSError, TypeError):
        return (0,) * len(_OPENMP)
    return tuple(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions)


def best_level() -> int:
    """Number in :data:`LEVELS` of the best kernel that this processor runs."""
    found = library()
    return int(found.bits_best()) if found else 0


def _load(compiler: list[str]) -> ctypes.CDLL:
    source, how = SOURCE.read_text(encoding="utf-8"), (*compiler, *FLAGS, *LIBRARIES)
    about = "\n".join((source, *how, platform.machine(), platform.system()))
    key = hashlib.sha256(about.encode()).hexdigest()[:16]
    with contextlib.suppress(OSError, RuntimeError):  # no home, or a cache that cannot be written
        return _from_cache(compiler, cache_folder() / f"bits-{key}.so")
    with tempfile.TemporaryDirectory(prefix="scaledrop-bits-") as folder:  # a loaded library needs no file
        return _from_cache(compiler, Path(folder) / f"bits-{key}.so")


def _from_cache(compiler: list[str], path: Path) -> ctypes.CDLL:
    """Load a library whose digest is the one written beside it; else compile it first."""
    digest = path.with_suffix(".sha256")
    if not _whole(path, digest):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            command = [*compiler, *FLAGS, "-o", str(made), str(SOURCE), *LIBRARIES]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
            if done.returncode:
                raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip()}")
            note = made.with_suffix(".sha256")
            note.write_text(_digest(made), encoding="ascii")
            os.replace(made, path)
            os.replace(note, digest)
    loaded = ctypes.CDLL(str(path))
    return declared(loaded)


def declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """Compiled kernels that know the types of their arguments."""
    loaded.bits_best.restype = ctypes.c_int
    loaded.bits_run.restype, loaded.bits_digest.restype = None, ctypes.c_uint64
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    loaded.bits_run.argtypes = (pointer,)
    loaded.bits_digest.argtypes = (ctypes.c_int, pointer, pointer, number)
    return loaded


def _whole(path: Path, digest: Path) -> bool:
    """Whether it is what a compiler has written: half of a library would end the process when it is loaded."""
    try:
        return digest.read_text(encoding="ascii") == _digest(path)
    except (OSError, UnicodeDecodeError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
