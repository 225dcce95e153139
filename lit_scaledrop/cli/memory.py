"""Keeps freed memory in the process: otherwise glibc returns it to the system and requests it again page by page."""

import ctypes
import os

_TRIM, _TOP, _MMAP = -1, -2, -3  # of mallopt(3)
SETTINGS = {_MMAP: 32 << 20, _TOP: 64 << 20, _TRIM: 2**31 - 1}
"""bytes: the largest block that is no mapping of its own, 32 MiB at most; what is fetched ahead; what is kept"""


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, unless somebody has set how memory is allocated; whether it does.

    Each batch allocates what the one before it has freed. Pages that went back in between are cleared by the kernel and
    mapped again, which is 17 to 37 % of a network's pass on a CPU (``benchmarks/bench_allocation.py``).
    """
    said = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if any(name.startswith(said) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc's
        return False
    return all(mallopt(name, size) for name, size in SETTINGS.items())
