"""Locks of points: one holder at a time, held by the child, free when it has ended; and what a runner does by them."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lit_scaledrop.results.failures import Failure, read_failure, write_failure
from lit_scaledrop.results.locks import take
from lit_scaledrop.results.result import ResultError
from lit_scaledrop.sweep import child, runner, tally
from lit_scaledrop.sweep.child import Child, Point
from lit_scaledrop.sweep.runner import Runner


def is_free(path: Path) -> bool:
    if (held := take(path)) is None:
        return False
    os.close(held)
    return True


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / ".a.lock"
    held = take(path)
    assert held is not None
    assert not is_free(path)
    assert is_free(tmp_path / ".b.lock")
    os.close(held)
    assert is_free(path)


def test_many_processes_one_holder(tmp_path):
    """Eight processes add one to a number 50 times each, and none is lost, though the file is removed in between."""
    (tmp_path / "number").write_text("0")
    program = f"""
import os
from pathlib import Path
from lit_scaledrop.results.locks import take
lock, number = Path({str(tmp_path / "lock")!r}), Path({str(tmp_path / "number")!r})
for turn in range(50):
    held = take(lock, wait=True)
    number.write_text(str(int(number.read_text()) + 1))
    if turn % 5 == 0: lock.unlink()
    os.close(held)
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(8)]
    assert [process.wait(600) for process in processes] == [0] * 8
    assert (tmp_path / "number").read_text() == "400"


def test_a_file_that_was_removed_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    """The last holder removes the file between our opening it and our lock."""
    path, flock = tmp_path / "lock", fcntl.flock
    old = take(path)

    def removed_meanwhile(descriptor, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        os.close(old)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    held = take(path)
    assert os.path.samestat(os.fstat(held), os.stat(path))
    assert not is_free(path)
    os.close(held)


@pytest.mark.skipif(os.getuid() != 0, reason="takes another user's place, which only root can")
def test_another_user_of_the_group_shares_locks(tmp_path):
    """A file that another user made with the usual umask, in a folder that both may write."""
    folder = Path("/tmp") / f"shared-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o777)
    held = take(folder / "lock")
    assert (folder / "lock").stat().st_mode & 0o777 == 0o644
    try:
        program = """
import os, sys
from pathlib import Path
from lit_scaledrop.results.locks import take
os.setuid(65534)
sys.exit(0 if take(Path(sys.argv[1])) is None else 1)
"""
        asked = [sys.executable, "-c", program, str(folder / "lock")]
        assert subprocess.run(asked, check=False).returncode == 0
        os.close(held)
        assert subprocess.run(asked, check=False).returncode == 1
    finally:
        (folder / "lock").unlink()
        folder.rmdir()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_said_once(tmp_path, monkeypatch, capsys, number):
    def none(descriptor, how):
        raise OSError(number, "not there")

    monkeypatch.setattr(fcntl, "flock", none)
    for name in "ab":
        assert take(tmp_path / name) is not None
    said = (
        f"{tmp_path} is on a file system without locks (not there): do not start the same command twice there "
        "at the same time\n"
    )
    assert capsys.readouterr().err == said


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path, monkeypatch):
    def broken(descriptor, how):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken"):
        take(tmp_path / "a")


def test_the_child_holds_the_lock_until_it_and_its_own_children_have_ended(tmp_path):
    """Also without the process that started it, and while it takes its time to stop."""
    program = f"""
import os, signal, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:  # a worker that outlives it
    while not Path({str(tmp_path / "end")!r}).exists(): time.sleep(0.02)
    os._exit(0)
Path({str(tmp_path / "ready")!r}).touch()
time.sleep(600)
"""
    point = Point("a", [sys.executable, "-c", program], tmp_path / "a.json", tmp_path / "a.log")
    held = take(point.lock)
    started = Child.start(point, os.environ, 0, streams=False, held=held)
    os.close(held)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    assert not is_free(point.lock)
    started.signal(signal.SIGTERM)
    time.sleep(0.2)
    assert not is_free(point.lock)
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait()
    assert not is_free(point.lock)
    (tmp_path / "end").touch()
    end = time.monotonic() + 60
    while not is_free(point.lock):
        assert time.monotonic() < end
        time.sleep(0.02)


# --- the runner of a sweep ---


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run points, programs in Python, one at a time; exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    for module in (child, tally):
        monkeypatch.setattr(module, "is_finished", lambda path, **_: path.exists())

    def run(**programs: str) -> tuple[int, str]:
        points = [
            Point(name, [sys.executable, "-c", program], path_of(name), Path(f"{name}.log"))
            for name, program in programs.items()
        ]
        return Runner(points, env=os.environ).run(), capsys.readouterr().out

    return run


def path_of(name: str) -> Path:
    return Path("results/quick/s", f"{name}.json")


def works(name: str) -> str:
    return f"open({str(path_of(name))!r}, 'w').close()"


def lock(name: str) -> int:
    path = Point(name, [], path_of(name), Path()).lock
    path.parent.mkdir(parents=True, exist_ok=True)
    held = take(path)
    assert held is not None
    return held


def test_what_others_have_is_put_off_and_waited_for(run):
    held = lock("a")
    os.pwrite(held, b"process 7 on node7", 0)
    threading.Timer(2.0, os.close, [held]).start()
    code, said = run(a=works("a"), b=works("b"))
    assert code == 0
    holder = "process 7 on node7"
    wanted = [
        f"[1/2] a: deferred, {holder} has it", "[2/2] b: starts", "[2/2] b: done",
        f"waiting for points of other processes: a ({holder})", "[1/2] a: starts", "[1/2] a: done",
        "2 points: 2 done, 0 skipped, 0 failed",
    ]  # fmt: skip
    lines = iter(said.splitlines())
    assert all(any(line.startswith(text) for line in lines) for text in wanted), said
    assert sorted(path.name for path in Path("results/quick/s").iterdir()) == ["a.json", "b.json"]


def test_what_others_finish_or_fail_at_is_not_run(run):
    held = [lock(name) for name in "ab"]

    def end():
        path_of("a").touch()
        write_failure(Failure("b", "it broke", "node7", "now"), path_of("b"))
        for descriptor in held:
            os.close(descriptor)

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
    def refuse(number, text):
        def refused(path):
            if path == Point("a", [], path_of("a"), Path()).lock:
                raise OSError(number, text)
            return take(path)

        monkeypatch.setattr(runner, "take", refused)

    refuse(28, "No space left on device")
    code, said = run(a=works("a"), b=works("b"))
    assert code == 1
    assert "[1/2] a: FAILED, cannot write to results/quick/s (No space left on device)" in said
    assert "2 points: 1 done, 0 skipped, 1 failed" in said
    refuse(30, "Read-only file system")
    with pytest.raises(ResultError, match=r"\(Read-only file system\): choose other folders with --results DIR"):
        run(a=works("a"), b=works("b"))


def test_who_has_a_point_is_written_into_its_lock(run):
    program = f"import sys; print(open('results/quick/s/.a.lock').read()); {works('a')}"
    _, said = run(a=program)
    assert f"process {os.getpid()} on {socket.gethostname()}" in said
