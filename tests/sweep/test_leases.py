"""Claims: who gets a point, who loses one, and what no clock and no broken file can change."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lit_scaledrop.results.failures import Failure, read_failure, write_failure
from lit_scaledrop.results.result import ResultError, write_atomic
from lit_scaledrop.sweep import child, runner
from lit_scaledrop.sweep import leases as claims
from lit_scaledrop.sweep.leases import Claims
from lit_scaledrop.sweep.runner import Point, Runner


class Clock:
    """A monotonic clock and a file system's clock that only move when they are told to."""

    def __init__(self, monkeypatch):
        self.now, self.files = 0.0, time.time()
        monkeypatch.setattr(claims.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(claims, "_touched_now", lambda folder: self.files)

    def sleep(self, seconds):
        self.now += seconds
        self.files += seconds

    def touch(self, path):
        os.utime(path, (self.files, self.files))


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def result(tmp_path) -> Path:
    return tmp_path / "quick" / "s" / "0123456789ab.json"


@pytest.fixture
def other(result, monkeypatch, clock) -> Claims:
    """Claims of a process on another machine, which has the point."""
    with monkeypatch.context() as patch:
        patch.setattr(claims, "_place", lambda: "far away")
        patch.setattr(claims.socket, "gethostname", lambda: "node7")
        patch.setattr(os, "getpid", lambda: 77)
        other = Claims(stale=60.0)
        assert other.take(result) == ""
    clock.touch(claim_of(result))
    return other


@pytest.fixture
def mine() -> Claims:
    return Claims(stale=60.0)


def claim_of(result: Path) -> Path:
    (path,) = (result.parent / ".claims").iterdir()
    return path


def files(result: Path) -> list[str]:
    return sorted(path.name for path in (result.parent / ".claims").iterdir())


def test_one_owner_at_a_time(result):
    first, second = Claims(), Claims()
    assert first.take(result) == ""
    assert second.take(result) == f"process {os.getpid()} on {claims.socket.gethostname()}"
    first.release(result)
    assert second.take(result) == ""
    assert first.take(result)
    second.release(result, finished=True)
    assert files(result) == []
    assert first.take(result) == ""


def test_other_points_are_not_in_the_way(result):
    first, second = Claims(), Claims()
    assert first.take(result) == ""
    assert second.take(result.with_name("0123456789.json")) == ""
    assert second.take(result.with_name("ab.json")) == ""
    second.release(result.with_name("ab.json"), finished=True)
    assert files(result) == ["0123456789.1.json", "0123456789ab.1.json"]


def test_leaving_the_context_lets_go(result):
    with Claims() as mine:
        assert mine.take(result) == ""
    assert Claims().take(result) == ""


def test_a_dead_process_of_this_machine_is_followed_at_once(result):
    code = (
        "import sys, pathlib; from lit_scaledrop.sweep.leases import Claims;"
        "print(Claims().take(pathlib.Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, str(result)], check=True, capture_output=True)
    assert files(result) == [f"{result.stem}.1.json"]
    assert Claims().take(result) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process started")
def test_a_number_that_another_process_has_now_does_not_keep_a_claim(result):
    assert Claims().take(result) == ""
    path = claim_of(result)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "born": "1"}))
    assert Claims().take(result) == ""


def test_a_silent_machine_is_followed_after_the_time_and_not_before(result, other, mine, clock):
    assert mine.take(result) == "process 77 on node7"
    for _ in range(5):
        clock.sleep(10)
        assert mine.take(result) == "process 77 on node7"
    clock.sleep(11)
    assert mine.take(result) == ""


def test_an_old_claim_is_watched_for_two_beats(result, other, mine, clock):
    clock.sleep(3600)
    assert mine.take(result)
    clock.sleep(15)
    assert mine.take(result)
    clock.sleep(6)
    assert mine.take(result) == ""


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_jumps_does_no_harm(result, other, mine, clock, jump):
    """A living owner keeps its point, a dead one loses it."""
    assert mine.take(result)
    clock.files += jump
    for _ in range(12):
        clock.sleep(10)
        assert mine.take(result), "its owner is alive"
        clock.touch(claim_of(result))
    assert mine.take(result)
    clock.files -= jump
    clock.sleep(19)
    assert mine.take(result), "it may be alive"
    clock.sleep(42)
    assert mine.take(result) == ""


def test_an_owner_that_beats_slower_is_given_its_own_time(result, other, clock):
    mine = Claims(stale=6.0)
    assert mine.take(result)
    clock.sleep(50)
    assert mine.take(result)


@pytest.mark.parametrize("finished", [False, True])
def test_who_stood_still_finds_its_point_lost_and_leaves_it(result, other, mine, clock, finished):
    """While another one has it, or has finished it."""
    assert mine.take(result)
    clock.sleep(61)
    assert mine.take(result) == ""
    if finished:
        result.write_text("a result")
        mine.release(result, finished=True)
        assert files(result) == []
    assert not other.lost(result)
    other.beat()
    assert other.lost(result)
    if not finished:
        other.release(result, finished=True)
        assert files(result) == [f"{result.stem}.1.json", f"{result.stem}.2.json"]
        mine.beat()
        assert not mine.lost(result)
        mine.release(result, finished=True)
    assert files(result) == []


def test_two_that_judge_a_claim_dead_do_not_both_follow(result, other, monkeypatch, clock):
    """The slower one has looked already, and then the faster one has come, gone, and a third one has come."""
    fast, third, slow = Claims(stale=60.0), Claims(stale=60.0), Claims(stale=60.0)
    fast.take(result)
    clock.sleep(61)
    create = claims._create

    def late(path, text):
        monkeypatch.setattr(claims, "_create", create)
        assert fast.take(result) == ""
        fast.release(result)
        assert third.take(result) == ""
        return create(path, text)

    slow.take(result)
    clock.sleep(61)
    monkeypatch.setattr(claims, "_create", late)
    assert slow.take(result) != ""
    assert fast.take(result) != ""
    third.beat()
    assert not third.lost(result)


def test_many_processes_one_owner(tmp_path):
    """Threads of 4 processes that all want the same 25 points: each point goes to one of them."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    results = [tmp_path / f"{n:012x}.json" for n in range(25)]

    def want():
        mine = Claims()
        queue.put([result.stem for result in results if mine.take(result) == ""])
        gate.wait(600)

    gate = context.Barrier(5)
    processes = [context.Process(target=want) for _ in range(4)]
    for process in processes:
        process.start()
    got = [stem for _ in processes for stem in queue.get(timeout=900)]
    gate.wait(600)
    for process in processes:
        process.join(600)
    assert sorted(got) == [result.stem for result in results]


def test_heartbeat_of_the_thread(result):
    before = {thread.name for thread in threading.enumerate()}
    with Claims(stale=0.3) as mine:
        assert mine.take(result) == ""
        path = claim_of(result)
        os.utime(path, (1, 1))
        end = time.monotonic() + 600
        while path.stat().st_mtime == 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1
    assert "claims" not in before


def test_a_claim_that_somebody_removed_is_made_again(result, mine):
    assert mine.take(result) == ""
    path = claim_of(result)
    path.unlink()
    mine.beat()
    assert not mine.lost(result)
    assert Claims().take(result)
    path.unlink()
    assert Claims().take(result) == ""
    mine.beat()
    assert mine.lost(result)


@pytest.mark.parametrize("text", ["", '{"host": "no', "[]", '{"new": "fields"}'])
def test_a_broken_claim_counts_until_it_is_stale(result, mine, clock, text):
    path = result.parent / ".claims" / f"{result.stem}.3.json"
    write_atomic(path, text)
    clock.touch(path)
    assert mine.take(result) == "a process whose claim is not readable"
    clock.sleep(61)
    assert mine.take(result) == ""
    assert files(result) == [f"{result.stem}.3.json", f"{result.stem}.4.json"]


def test_file_systems_without_links(result, monkeypatch):
    def no_links(*_):
        raise OSError(claims.errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert Claims().take(result) == ""
    assert Claims().take(result)
    assert files(result) == [f"{result.stem}.1.json"]


def test_an_answer_that_nfs_lost(result, monkeypatch):
    """The server has made the link; its answer is lost, and the repetition says that the file exists."""
    link = os.link

    def twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert Claims().take(result) == ""


def test_a_full_disk_is_said_and_leaves_no_rubbish(result, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            Claims().take(result)
    assert files(result) == []
    mine = Claims()
    assert mine.take(result) == ""
    monkeypatch.setattr(os, "fsync", full)
    mine.release(result)  # stays until it is stale


def test_the_file_systems_clock(tmp_path):
    assert abs(claims._touched_now(tmp_path) - time.time()) < 60
    assert list(tmp_path.iterdir()) == []


# --- the runner of a sweep ---


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run points, programs in Python, one at a time; exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    for module in (child, runner):
        monkeypatch.setattr(module, "is_finished", lambda path, **_: path.exists())

    def run(**programs: str) -> tuple[int, str]:
        points = [
            Point(name, [sys.executable, "-c", program], path_of(name), Path(f"{name}.log"))
            for name, program in programs.items()
        ]
        return Runner(points, 1, os.environ).run(), capsys.readouterr().out

    return run


def path_of(name: str) -> Path:
    return Path("results/quick/s", f"{name}.json")


def works(name: str) -> str:
    return f"open({str(path_of(name))!r}, 'w').close()"


def test_what_others_have_is_put_off_and_waited_for(run):
    other = Claims()
    assert other.take(path_of("a")) == ""
    threading.Timer(2.0, other.release, [path_of("a")]).start()
    code, said = run(a=works("a"), b=works("b"))
    assert code == 0
    holder = f"process {os.getpid()} on {claims.socket.gethostname()}"
    wanted = [
        f"[1/2] a: put off, {holder} has it", "[2/2] b: starts", "[2/2] b: done",
        f"waiting for what others have: a ({holder})", "[1/2] a: starts", "[1/2] a: done",
        "2 points: 2 done, 0 skipped, 0 failed",
    ]  # fmt: skip
    lines = iter(said.splitlines())
    assert all(any(line.startswith(text) for line in lines) for text in wanted), said
    assert list(Path("results/quick/s/.claims").iterdir()) == []


def test_what_others_finish_or_fail_at_is_not_run(run):
    other = Claims()
    assert other.take(path_of("a")) == other.take(path_of("b")) == ""

    def end():
        path_of("a").touch()
        other.release(path_of("a"), finished=True)
        write_failure(Failure("b", "it broke", "node7", "now"), path_of("b"))
        other.release(path_of("b"))

    threading.Timer(1.0, end).start()
    code, said = run(a="raise SystemExit(9)", b="raise SystemExit(9)")
    assert code == 1
    assert "[1/2] a: skipped, finished already" in said
    assert "[2/2] b: FAILED elsewhere, it broke (on node7)" in said
    code, said = run(a="raise SystemExit(9)", b=works("b"))  # a later sweep tries again
    assert code == 0
    assert read_failure(path_of("b")) is None


def test_a_command_says_why_it_failed(run):
    program = "import os; open(os.environ['SCALEDROP_ERROR_FILE'], 'w').write('no\\n  memory' + '!' * 400); exit(1)"
    code, said = run(a=program, b="raise SystemExit(3)")
    assert code == 1
    reasons = [read_failure(path_of(name)).reason for name in "ab"]
    assert reasons == [f"exit code 1: no memory{'!' * 291} ...", "exit code 3"]
    assert "a FAILED: exit code 1: no memory!!!" in said
    assert not list(Path().glob("*.error"))


def test_a_full_disk_fails_the_point_and_a_read_only_one_the_sweep(run, monkeypatch):
    take = Claims.take

    def refuse(number, text):
        def refused(self, result):
            if result.stem == "a":
                raise OSError(number, text)
            return take(self, result)

        monkeypatch.setattr(Claims, "take", refused)

    refuse(28, "No space left on device")
    code, said = run(a=works("a"), b=works("b"))
    assert code == 1
    assert "[1/2] a: FAILED, cannot write to results/quick/s (No space left on device)" in said
    assert "2 points: 1 done, 0 skipped, 1 failed" in said
    refuse(30, "Read-only file system")
    with pytest.raises(ResultError, match=r"\(Read-only file system\): choose other folders with --results DIR"):
        run(a=works("a"), b=works("b"))
