"""Several sweeps on one table: no point is run twice, whatever happens to one of them, and the time is shared.

The points are small programs in place of trainings; locks, results and processes are real.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lit_scaledrop.results.failures import failure_path, read_failure
from stand_ins import RESULT

ROOT = Path(__file__).parents[2]
POINTS = 8

# A point: notes that it runs, works for a while, leaves a result that says nothing of who made it. One that is told to
# stop takes its time, as a training does that saves what it has.
CHILD = """
import json, os, pathlib, signal, sys, time
def slowly(*_):
    time.sleep(float(os.environ.get("LINGER", 0)))
    span("killed")
    os._exit(1)
def span(what):
    with open("spans", "a") as file: file.write(f"{flags['--n']} {what} {time.monotonic()}\\n")
signal.signal(signal.SIGTERM, slowly)
flags = dict(flag.split("=") for flag in sys.argv[2:])
span("begin")
with open("notes", "a") as file: file.write(flags["--n"] + "\\n")
pathlib.Path(f"begun-{os.getppid()}").touch()
if flags["--n"] == os.environ.get("FAILS"):  # once both sweeps are at work
    while len([*pathlib.Path().glob("begun-*")]) < 2: time.sleep(0.02)
    sys.exit("it broke")
time.sleep(float(os.environ["NAP"]))
path = pathlib.Path("results/quick/s", f"{int(flags['--n']):012x}.json")
part = path.with_suffix(f".{os.getpid()}")
result = json.loads(pathlib.Path("template.json").read_text())
part.write_text(json.dumps({**result, "id": path.stem}))
part.rename(path)
span("end")
"""
DRIVER = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
from lit_scaledrop.cli.sweep import main
plan = lambda flags: pathlib.Path("results/quick/s", f"{int(flags[-1].split('=')[1]):012x}.json")
sys.exit(main(sys.argv[1:], plan))
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    return prepare(tmp_path, monkeypatch)


def prepare(folder: Path, monkeypatch) -> Path:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    for name, text in (("child.py", CHILD), ("driver.py", DRIVER), ("template.json", RESULT)):
        Path(name).write_text(text)
    command = ["${interpreter}", "child.py", "fit", "${args}"]
    sweep = {"method": "grid", "parameters": {"n": {"values": [*range(POINTS)]}}, "command": command}
    Path("s.yaml").write_text(yaml.safe_dump(sweep))
    return folder


def start(*arguments: str, nap: float = 0.1, **environment: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NAP": str(nap), "PYTHONUNBUFFERED": "1", **environment}
    command = [sys.executable, "driver.py", "s.yaml", *arguments]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(*processes: subprocess.Popen) -> list[str]:
    said = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def notes() -> Counter[str]:
    return Counter(Path("notes").read_text().split()) if Path("notes").exists() else Counter()


def table() -> dict[str, str]:
    return {path.name: path.read_text() for path in Path("results/quick/s").glob("*.json")}


def wait_until(condition, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


EACH_ONCE = Counter(map(str, range(POINTS)))


@pytest.mark.slow
def test_no_point_twice_over_20_repetitions_and_the_time_is_shared(tmp_path, monkeypatch, record_property):
    """Results of two processes are those of one, and two points run at once."""
    prepare(tmp_path / "alone", monkeypatch)
    nap, begin = 1.0, time.monotonic()  # long against the start of a process on a busy machine
    finish(start(nap=nap))
    alone, expected = time.monotonic() - begin, table()
    assert notes() == EACH_ONCE
    together, shared = [], 0
    for repetition in range(20):
        prepare(tmp_path / str(repetition), monkeypatch)
        begin = time.monotonic()
        said = finish(start(nap=nap), start(nap=nap))
        together.append(time.monotonic() - begin)
        shared += most_at_once() == 2
        assert notes() == EACH_ONCE, f"repetition {repetition}: {said}"
        assert table() == expected
        assert not list(Path("results/quick/s").glob(".*"))
    together.sort()
    record_property("two sweeps", f"one process {alone:.1f} s, two {together[10]:.1f} s (median of 20)")
    assert shared >= 15  # a process may start so late on a busy machine that the other one is done


def most_at_once() -> int:
    """Points that ran at the same time."""
    steps = sorted((float(at), 1 if what == "begin" else -1) for _, what, at in spans())
    return max(itertools.accumulate(step for _, step in steps))


def spans() -> list[list[str]]:
    """Point, begin or end, and when, in seconds."""
    return [line.split() for line in Path("spans").read_text().splitlines()]


def overlaps() -> list[str]:
    """Points that began while another process was still at them."""
    running: set[str] = set()
    found = []
    for n, what, _ in spans():
        if what == "begin":
            found += [n] if n in running else []
            running.add(n)
        else:
            running.discard(n)
    return found


@pytest.mark.parametrize("repetitions", [pytest.param(2, marks=()), pytest.param(20, marks=pytest.mark.slow)])
def test_two_sweeps_and_one_killed_at_random(tmp_path, monkeypatch, record_property, repetitions):
    """The points take 0.4 s to stop after SIGTERM; nobody begins one meanwhile, and the table is as undisturbed."""
    random_ = random.Random(repetitions)
    prepare(tmp_path / "alone", monkeypatch)
    finish(start(nap=0))
    expected, killed_in_time = table(), 0
    for repetition in range(repetitions):
        prepare(tmp_path / str(repetition), monkeypatch)
        first, second = (start(nap=0.3, LINGER="0.4") for _ in range(2))
        wait_until(lambda: notes())
        time.sleep(random_.uniform(0, 1.5))
        victim, other = random_.sample([first, second], 2)
        killed_in_time += victim.poll() is None
        victim.kill()
        victim.communicate()
        said = finish(other)
        assert overlaps() == [], f"repetition {repetition}: {said}"
        assert table() == expected
        assert all(times <= 2 for times in notes().values())
    record_property("one of two sweeps killed", f"{killed_in_time} of {repetitions} before the end, no overlap")
    assert killed_in_time >= repetitions / 2


@pytest.mark.slow
def test_a_sweep_that_is_killed_is_followed(here, record_property):
    first = start(nap=600)
    wait_until(lambda: notes() == Counter(["0"]))
    second = start()
    first.kill()
    first.communicate()
    finish(second)
    record_property("fault", "a sweep killed")
    assert notes() == EACH_ONCE + Counter(["0"])  # the one that was killed, again
    assert len(table()) == POINTS


@pytest.mark.slow
def test_a_sweep_that_waits_says_for_whom_and_takes_over(here, record_property):
    first = start(nap=600)
    wait_until(lambda: notes() == Counter(["0"]))
    second = start()
    wait_until(lambda: len(table()) == POINTS - 1)
    time.sleep(1.5)
    assert second.poll() is None
    first.kill()
    first.communicate()
    (said,) = finish(second)
    record_property("fault", "a sweep killed that another one waits for")
    assert f"waiting for points of other processes: 0 (process {first.pid} on " in said
    assert f"[1/8] 0: deferred, process {first.pid} on " in said


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_lets_go(here, record_property, signum):
    first = start(nap=600)
    wait_until(lambda: notes() == Counter(["0"]))
    second = start()
    first.send_signal(signum)
    said = first.communicate(timeout=300)[0]  # half of what its point would take
    if signum == signal.SIGINT:
        assert "to resume with the rest:\n    scaledrop sweep s.yaml" in said
    finish(second)
    record_property("fault", f"a sweep stopped by {signal.Signals(signum).name}")
    assert len(table()) == POINTS


@pytest.mark.slow
def test_a_sweep_that_stands_still_keeps_its_point(here, record_property):
    """SIGSTOP: its child goes on and holds the lock, so the other sweep does the rest and waits for this point."""
    first = start(nap=4)
    wait_until(lambda: notes() == Counter(["0"]))
    first.send_signal(signal.SIGSTOP)
    (said,) = finish(start(nap=0.1))
    assert "[1/8] 0: skipped, finished already" in said
    assert notes() == EACH_ONCE
    first.send_signal(signal.SIGCONT)
    finish(first)
    record_property("fault", "a sweep that stood still")
    assert notes() == EACH_ONCE


@pytest.mark.slow
def test_a_failure_that_is_not_noted_yet_keeps_its_point(here, record_property):
    """Between the end of a child and the record of its failure, drawn out by SIGSTOP, nobody begins it again."""
    first = start(FAILS="0")
    wait_until(lambda: notes() == Counter(["0"]))
    first.send_signal(signal.SIGSTOP)
    second = start(FAILS="0")  # which point 0 waits for before it fails
    wait_until(lambda: len(table()) == POINTS - 1)
    time.sleep(1.5)
    assert second.poll() is None
    first.send_signal(signal.SIGCONT)
    said = [process.communicate(timeout=900)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (1, 1), said
    record_property("fault", "a sweep that stood still before it noted a failure")
    assert notes() == EACH_ONCE


@pytest.mark.slow
def test_a_lock_that_nobody_holds_is_no_obstacle(here, record_property):
    """What a power cut leaves."""
    path = Path("results/quick/s", f".{3:012x}.lock")
    path.parent.mkdir(parents=True)
    path.write_text("process 1 on a machine that is gone")
    finish(start())
    record_property("fault", "a lock of a machine that is gone")
    assert notes() == EACH_ONCE
    assert not path.exists()


@pytest.mark.slow
def test_a_broken_record_of_a_failure(here, record_property):
    path = failure_path(Path("results/quick/s", f"{3:012x}.json"))
    path.parent.mkdir(parents=True)
    path.write_text('{"name"')
    finish(start())
    record_property("fault", "a record of a failure that is cut")
    assert not path.exists()


@pytest.mark.slow
def test_a_point_that_fails_is_tried_by_one_of_two_and_mended_by_the_next(here, record_property):
    first, second = start(FAILS="3"), start(FAILS="3")
    said = [process.communicate(timeout=900)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (1, 1), said
    assert notes() == EACH_ONCE
    failure = read_failure(Path("results/quick/s", f"{3:012x}.json"))
    assert failure is not None
    assert (failure.name, failure.reason) == ("3", "exit code 1")
    assert sum("FAILED elsewhere, exit code 1 (on " in text for text in said) == 1
    finish(start())
    record_property("fault", "a point that fails in one of two sweeps")
    assert notes() == EACH_ONCE + Counter(["3"])
    assert not list(Path("results").rglob("*.failed.json"))
    assert len(table()) == POINTS
