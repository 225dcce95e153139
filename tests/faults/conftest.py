"""A small Table III, an undisturbed one to compare with, and processes to disturb."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lit_scaledrop.results.store import read_result
from stand_ins import FIT, TINY

HERE = Path(__file__).parent
METHODS = ("fp", "irnet", "proposed")
"""The rows; the last one is disturbed."""


class Zygote:
    """Starts processes and waits for them, see `zygote.py`."""

    def __init__(self) -> None:
        command, pipe = [sys.executable, str(HERE / "zygote.py")], subprocess.PIPE
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)

    def run(self, place: "Place", argv: list[str], fault: tuple = (), kill_after: float | None = None) -> int:
        """Exit code of `scaledrop ARGV`, negative for a signal."""
        assert self.process.stdin
        assert self.process.stdout
        env = {"DATA": str(place.folder / "data"), "HOME": str(place.folder), "WANDB_MODE": "disabled"}
        request = {"argv": argv, "folder": str(place.folder), "fault": fault, "env": env, "log": str(place.log)}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        pid = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                os.kill(pid, signal.SIGKILL)
        return int(self.process.stdout.readline())


@dataclass
class Place:
    """A folder with data, results and runs."""

    folder: Path
    zygote: Zygote

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def said(self) -> str:
        return self.log.read_text()

    def fit(self, method: str = METHODS[-1], fault: tuple = (), kill_after: float | None = None) -> int:
        return self.zygote.run(self, [*FIT, f"--model.method={method}"], fault, kill_after)

    def report(self, fault: tuple = ()) -> int:
        return self.zygote.run(self, ["report", "table3"], fault)

    def results(self) -> dict[str, Path]:
        paths = self.folder.glob("results/quick/table3/*.json")
        return {read_result(path).method: path for path in paths if not path.name.endswith(".failed.json")}

    def run_dir(self, method: str = METHODS[-1]) -> Path:
        return self.folder / "runs/quick/table3" / IDS[method]

    def table(self) -> list[dict[str, str]]:
        """The rows of the report that are ours, without the time that they took."""
        assert self.report() == 0, self.said
        assert "FAILED" not in self.said
        with open(self.folder / "results/quick/table3.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["n"]]
        return [{key: value for key, value in row.items() if key != "training_seconds"} for row in rows]


IDS: dict[str, str] = {}
"""Runs of the undisturbed table, by method."""


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.process.kill()
    zygote.process.communicate()


@dataclass
class Undisturbed:
    place: Place
    table: list[dict[str, str]]
    metrics: dict[str, dict]
    seconds: float
    """of one training"""


@pytest.fixture(scope="session")
def undisturbed(zygote, tmp_path_factory) -> Undisturbed:
    from fakes import write_fake_cifar10

    place = Place(tmp_path_factory.mktemp("undisturbed"), zygote)
    write_fake_cifar10(place.folder / "data", n_train=200, n_test=60)
    (place.folder / "tiny.yaml").write_text(TINY.replace("study: tiny", "study: table3"))
    for method in METHODS:
        start = time.monotonic()
        assert place.fit(method) == 0, place.said
    seconds = time.monotonic() - start
    IDS.update({method: path.stem for method, path in place.results().items()})
    table = place.table()
    assert [row["method"] for row in table] == ["FP", "IR-Net", "Proposed"]
    return Undisturbed(place, table, {m: read_result(p).measurements for m, p in place.results().items()}, seconds)


@pytest.fixture
def trained(undisturbed, tmp_path) -> Place:
    """The undisturbed table, whose last row has been trained and not recorded."""
    shutil.copytree(undisturbed.place.folder, tmp_path, dirs_exist_ok=True)
    place = Place(tmp_path, undisturbed.place.zygote)
    place.results()[METHODS[-1]].unlink()
    return place


@pytest.fixture
def place(trained) -> Place:
    """The undisturbed table without its last row."""
    shutil.rmtree(trained.run_dir())
    return trained
