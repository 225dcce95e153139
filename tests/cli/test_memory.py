"""A command keeps the memory that it has freed, unless its user has said how to allocate."""

import os
import subprocess
import sys

import pytest

from lit_scaledrop.cli.memory import keep_freed_memory

CODE = """
import resource
import sys
from lit_scaledrop.cli.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import torch
def batch():
    kept = [torch.ones(1 << 20) for _ in range(8)]
    return [tensor + 1 for tensor in kept]
batch(), batch(), batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(way):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC", "LD_PRE"))}
    run = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True, env=plain)
    return int(run.stdout)


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="another C library than glibc")
def test_freed_pages_are_not_fetched_again():
    """What is kept grows once, in any number of batches; how much glibc alone fetches depends on where blocks lie."""
    assert 4 * pages("keep") < pages("leave")


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_the_user_has_set_holds(monkeypatch, name):
    monkeypatch.setenv(name, "")
    assert not keep_freed_memory()
