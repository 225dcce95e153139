"""Progress on a terminal, silence elsewhere."""

import os
import pty
import subprocess
import sys

PROGRAM = """
from lit_scaledrop.progress import with_progress
assert list(with_progress(range(3), "evaluating")) == [0, 1, 2]
assert list(with_progress(iter("ab"), "evaluating")) == ["a", "b"]
"""


def test_bar_on_a_terminal():
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = os.read(ours, 100_000)
    os.close(ours)
    assert b"evaluating" in shown
    assert b"100%" in shown


def test_silence_in_a_pipe():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""
