"""Injected faults. After each of them the same command, repeated, ends in the table of an undisturbed run.

Killed processes are real ones and are killed by the kernel. What strikes from inside (a full disk, a NaN) is in
`injections.py`. Each test is one fault; the summary of pytest counts them.
"""

import os
import pickle
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes import write_fake_cifar10
from lit_scaledrop.results.store import read_result

pytestmark = pytest.mark.slow
KILLED = -9


@dataclass(frozen=True)
class Fault:
    """Something that strikes a process from inside, and how that process must end."""

    name: str
    inject: tuple
    code: int
    says: str = ""
    command: str = "fit"


CALL = "module_function"
RESULTS, RECORD = "lit_scaledrop.results.atomic", "lit_scaledrop.runs.record"
TRAINING, CLI = "lit_scaledrop.callbacks.training", "lit_scaledrop.cli.training"
READ_ONLY, FULL = "Read-only file system", "No space left on device"
FAULTS = [
    # kill -9 at an exact place
    Fault("killed in the first step", ("step", "SIGKILL", 1), KILLED),
    Fault("killed in the first epoch", ("step", "SIGKILL", 4), KILLED),
    Fault("killed in the second epoch", ("step", "SIGKILL", 8), KILLED),
    Fault("killed in validation", ("validation", "SIGKILL"), KILLED),
    Fault("killed in the first checkpoint", ("checkpoint_half_written", "SIGKILL", 1), KILLED),
    Fault("killed in the last checkpoint", ("checkpoint_half_written", "SIGKILL", 4), KILLED),
    Fault("killed before a checkpoint gets its name", (CALL, "SIGKILL", TRAINING, "os.replace", 1), KILLED),
    Fault("killed between the last checkpoint and the one before",
          (CALL, "SIGKILL", TRAINING, "os.replace", 5), KILLED),
    Fault("killed between the best and the last checkpoint", ("last_checkpoint", "SIGKILL"), KILLED),
    Fault("killed before the evaluation", (CALL, "SIGKILL", CLI, "load_trained"), KILLED),
    Fault("killed in the evaluation", ("evaluation", "SIGKILL"), KILLED),
    Fault("killed before the result", (CALL, "SIGKILL", RECORD, "write_result"), KILLED),
    Fault("killed in writing the result", (CALL, "SIGKILL", RESULTS, "sync"), KILLED),
    Fault("killed before the result gets its name", (CALL, "SIGKILL", RESULTS, "os.replace"), KILLED),
    Fault("killed after the result", ("after_function", "SIGKILL", RECORD, "write_result"), KILLED),
    Fault("killed in the report", (CALL, "SIGKILL", RESULTS, "sync", 1), KILLED, command="report"),
    Fault("killed between the files of the report", (CALL, "SIGKILL", RESULTS, "os.replace", 2), KILLED,
          command="report"),
    # other signals
    Fault("crashed", ("step", "SIGSEGV", 7), -11),
    Fault("terminated", ("step", "SIGTERM", 7), 130, "the same command goes on"),
    Fault("Ctrl-C in training", ("step", "SIGINT", 7), 130, "the same command goes on"),
    Fault("Ctrl-C in validation", ("validation", "SIGINT"), 130, "the same command goes on"),
    Fault("Ctrl-C in the evaluation", ("evaluation", "SIGINT"), 130, "the same command goes on"),
    # disks
    Fault("disk full at the first checkpoint", ("checkpoint_half_written", "full", 1), 1, FULL),
    Fault("disk full at the last checkpoint", ("checkpoint_half_written", "full", 4), 1, FULL),
    Fault("disk full at the log", ("logger", "full"), 1, FULL),
    Fault("disk full at the result", (CALL, "full", RESULTS, "sync"), 1,
          f"{FULL}; choose a results folder"),
    Fault("disk full at the report", (CALL, "full", RESULTS, "sync"), 1, FULL, command="report"),
    Fault("read-only folder", (CALL, "read-only", "lit_scaledrop.runs.run", "tempfile.TemporaryFile"), 1,
          "(Read-only file system): choose other folders with --run.results=DIR"),
    Fault("read-only folder at the result", (CALL, "read-only", RESULTS, "os.replace"), 1, READ_ONLY),
    Fault("read-only folder at the report", (CALL, "read-only", RESULTS, "os.replace"), 0, "not written: ", "report"),
    # one training goes wrong
    Fault("not a number", ("weights_become_nan",), 1, "the loss is nan in epoch 1: training stopped"),
    Fault("CUDA out of memory in training", ("step", "out of memory", 7), 1, "CUDA out of memory"),
    Fault("CUDA out of memory in the evaluation", ("evaluation", "out of memory"), 1, "CUDA out of memory"),
    # nothing goes wrong, though it might
    Fault("clock an hour back", ("clock", -3600.0), 0),
    Fault("clock an hour on", ("clock", 3600.0), 0),
]  # fmt: skip


def assert_mended(place, undisturbed) -> None:
    """The same commands once more, and the table and every metric of it are those of the undisturbed runs."""
    assert place.fit() == 0, place.said
    assert place.table() == undisturbed.table
    assert {m: read_result(p).measurements for m, p in place.results().items()} == undisturbed.metrics
    assert place.fit() == 0
    assert "finished already" in place.said


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_from_inside(fault, place, undisturbed, record_property):
    if fault.command == "report":
        assert place.fit() == 0
        code = place.report(fault.inject)
    else:
        code = place.fit(fault=fault.inject)
    assert (place.folder / "struck").exists(), place.said
    assert code == fault.code, place.said
    assert fault.says in place.said
    if fault.code == 130:
        assert "Traceback" not in place.said
    record_property("fault", fault.name)
    assert_mended(place, undisturbed)


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_a_random_moment(seed, place, undisturbed, record_property):
    """Again and again until a run gets through; seeded, though the machine is not."""
    draw = random.Random(seed)
    codes = [place.fit(kill_after=draw.uniform(0.1, 1.0) * undisturbed.seconds) for _ in range(3)]
    assert set(codes) <= {KILLED, 0}
    for code in codes:
        if code == KILLED:  # the machine may have been faster
            record_property("fault", "killed after a random time")
    assert_mended(place, undisturbed)


# --- files that are not what they were ---


def cut(*names: str, size: int | None = None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (path,) = folder.glob(name)
            os.truncate(path, path.stat().st_size // 2 if size is None else size)

    return damage


def remove(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (path,) = folder.glob(name)
            path.unlink()

    return damage


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def leftovers(folder: Path) -> None:
    for name in ("last.ckpt", "best-epoch=1.ckpt"):
        (folder / f".{name}.part").write_bytes(b"half")
        (folder / f"{name}.damaged").write_bytes(b"older damage")


DAMAGES = {
    "last checkpoint cut": cut("last.ckpt"),
    "last checkpoint empty": cut("last.ckpt", size=0),
    "last checkpoint gone": remove("last.ckpt"),
    "best checkpoint cut": cut("best*.ckpt"),
    "best checkpoint gone": remove("best*.ckpt"),
    "previous checkpoint cut": cut("previous.ckpt"),
    "last and best checkpoint cut": cut("last.ckpt", "best*.ckpt"),
    "all checkpoints cut": cut("last.ckpt", "best*.ckpt", "previous.ckpt"),
    "a checkpoint that would run code": lambda folder: (folder / "last.ckpt").write_bytes(pickle.dumps(Malicious())),
    "rubbish of an earlier crash": leftovers,
    "folder of the run gone": lambda folder: shutil.rmtree(folder.parent),
}


@pytest.mark.parametrize("name", DAMAGES, ids=lambda name: name.replace(" ", "-"))
def test_damaged_checkpoints(name, trained, undisturbed, record_property):
    DAMAGES[name](trained.run_dir() / "checkpoints")
    record_property("fault", name)
    assert_mended(trained, undisturbed)
    assert not (trained.folder / "executed").exists()


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "id": "0', b"\xff\xfe\0", b"[]", b'{"schema": 1}'])
def test_damaged_result(content, trained, undisturbed, record_property):
    path = trained.folder / "results/quick/table3" / f"{trained.run_dir().name}.json"
    path.write_bytes(content)
    assert trained.report() == 0  # the others are shown
    assert "left out" in trained.said
    record_property("fault", f"result {content!r}")
    assert_mended(trained, undisturbed)
    assert path.with_name(path.name + ".broken").read_bytes() == content


# --- data ---


def test_data_cut_before_the_run(place, undisturbed, record_property):
    path = place.folder / "data/cifar-10-batches-py/data_batch_2"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert place.fit() == 1
    assert "data_batch_2 is altered" in place.said
    path.write_bytes(whole)
    record_property("fault", "data file cut")
    assert_mended(place, undisturbed)


def test_data_changed_under_the_run(place, undisturbed, record_property):
    """It is in memory; what is recorded is the data that was trained on."""
    path = place.folder / "data/cifar-10-batches-py/data_batch_2"
    whole = path.read_bytes()
    assert place.fit(fault=("data_change", "data_batch_2")) == 0
    assert path.read_bytes() != whole
    path.write_bytes(whole)
    record_property("fault", "data file changed during a run")
    assert_mended(place, undisturbed)


def test_data_changed_between_a_kill_and_the_next_run(place, undisturbed, record_property):
    """Sound data, but others: half a training on each would be recorded as one on the second."""
    assert place.fit(fault=("step", "SIGKILL", 8)) == KILLED
    shutil.move(place.folder / "data", place.folder / "before")
    write_fake_cifar10(place.folder / "data", n_train=200, n_test=60, seed=9)
    assert place.fit() == 1
    assert "the data has changed since this run began" in place.said
    assert place.run_dir().name not in {path.stem for path in place.results().values()}
    shutil.rmtree(place.folder / "data")
    shutil.move(place.folder / "before", place.folder / "data")
    record_property("fault", "data changed between two runs")
    assert_mended(place, undisturbed)


def test_ctrl_c_stops_within_seconds(place, undisturbed):
    start = time.monotonic()
    assert place.fit(fault=("step", "SIGINT", 7)) == 130
    assert time.monotonic() - start < 3 * undisturbed.seconds + 10
