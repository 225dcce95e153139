"""Points that others run, with engines of this file in place of SLURM and Ray."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from lit_scaledrop.results.failures import Failure, write_failure
from lit_scaledrop.sweep import slurm
from lit_scaledrop.sweep.child import Point
from lit_scaledrop.sweep.file import SweepError
from lit_scaledrop.sweep.remote import Job, Remote
from lit_scaledrop.sweep.resources import Resources
from stand_ins import RESULT

ENV = {"PROFILE": "quick", "WANDB_RUN_GROUP": "s"}


def point(number: int) -> Point:
    name = f"p0.{number}"
    return Point(name, ["true"], Path("results", "quick", "s", f"{number:012x}.json"), Path(f"runs/logs/{name}.log"))


class Engine:
    """Jobs that do at a look what `ends` says of their point; not at the first, which precedes what is submitted."""

    name, look = "fake", 0.0

    def __init__(self, ends, room: int = 100, begun=()):
        self.ends, self.room, self.looks, self.cancelled = ends, room, 0, []
        self.running = {f"j{one.name}": one for one in begun}

    def submit(self, jobs):
        for place, job in enumerate(jobs):
            if place == self.room:
                raise SweepError("no room")
            self.running[f"j{job.point.name}"] = job.point
            yield f"j{job.point.name}"

    def alive(self):
        self.looks += 1
        for name, one in [*self.running.items()]:
            if self.looks > 1 and one.name in self.ends:
                self.ends[one.name](one)
                del self.running[name]
        return {*self.running}

    def cancel(self, names):
        self.cancelled += names
        for name in names:
            del self.running[name]

    def left(self, names):
        return f"{len(names)} go on"


def finish(one: Point) -> None:
    one.result.parent.mkdir(parents=True, exist_ok=True)
    one.result.write_text(RESULT.replace("0" * 12, one.result.stem))


def fail(one: Point) -> None:
    write_failure(Failure(one.name, "it broke", "node7", "now"), one.result)


def test_how_jobs_end(tmp_path, monkeypatch, capsys):
    """With a result, with a failure on their node, without a word, stopped by the sweep."""
    monkeypatch.chdir(tmp_path)
    points = [point(number) for number in range(4)]
    engine = Engine({"p0.0": finish, "p0.1": fail, "p0.2": lambda _: None})
    remote = Remote(points, 4, lambda one: "hyperband" if one.name == "p0.3" else "", engine=engine, env=ENV)
    assert remote.run() == 1
    said = capsys.readouterr().out
    assert "[1/4] p0.0: done" in said
    assert "[2/4] p0.1: FAILED elsewhere, it broke (on node7)" in said
    assert "[3/4] p0.2: FAILED, fake job jp0.2 ended without a result" in said
    assert "[4/4] p0.3: stopped, hyperband" in said
    assert "4 points: 1 done, 0 skipped, 2 failed, 1 stopped early" in said
    assert engine.cancelled == ["jp0.3"]
    assert remote.stopped == [(points[3], "hyperband")]


def test_what_was_submitted_before_the_engine_refused_is_followed(tmp_path, monkeypatch, capsys):
    """Two jobs are handed over before there is no more room; the next sweep gives neither a second time."""
    monkeypatch.chdir(tmp_path)
    points = [point(number) for number in range(4)]
    with pytest.raises(SweepError, match="no room"):
        Remote(points, 4, engine=Engine({}, room=2), env=ENV).run()
    capsys.readouterr()
    engine = Engine({one.name: finish for one in points}, begun=points[:2])
    assert Remote(points, 4, engine=engine, env=ENV).run() == 0
    said = capsys.readouterr().out
    assert [f"p0.{n}: is fake job jp0.{n} already" in said for n in range(4)] == [True, True, False, False]
    assert "4 points: 4 done, 0 skipped, 0 failed" in said


@pytest.fixture
def submitit(monkeypatch):
    """A stand-in that records what is asked of it."""
    arrays, asked = [], {}

    class SlurmExecutor:
        def __init__(self, folder, max_num_timeout):
            asked["folder"] = folder

        def update_parameters(self, **parameters):
            asked.update(parameters)

        def submit_array(self, jobs):
            if len(arrays) == module.room:
                raise RuntimeError("QOSMaxSubmitJobPerUserLimit")
            arrays.append(jobs)
            return [types.SimpleNamespace(job_id=f"{len(arrays)}_{place}") for place in range(len(jobs))]

    module = types.SimpleNamespace(SlurmExecutor=SlurmExecutor, arrays=arrays, asked=asked, room=100)
    module.core = types.SimpleNamespace(utils=types.SimpleNamespace(FailedJobError=RuntimeError))
    monkeypatch.setitem(sys.modules, "submitit", module)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    return module


def test_arrays_share_out_how_many_jobs_run_at_once(submitit, monkeypatch, capsys):
    squeue = {"code": 0, "said": "7_1\n7_[2]\n"}

    def run(command, **_):
        if command[0] == "scontrol":
            return subprocess.CompletedProcess(command, 0, "MaxArraySize            = 4\n", "")
        return subprocess.CompletedProcess(command, squeue["code"], squeue["said"], "it is busy")

    monkeypatch.setattr(slurm.subprocess, "run", run)
    engine = slurm.Slurm(Resources(cpus=2, gpus=1, memory=1.5, array_parallelism=9, sbatch=("account=lab",)))
    assert engine.alive() == {"7_1", "7_[2]"}
    jobs = [Job(point(number), "/here", "quick", "s") for number in range(10)]
    assert [*engine.submit(jobs)] == [f"1_{n}" for n in range(4)] + [f"2_{n}" for n in range(4)] + ["3_0", "3_1"]
    assert [[job.point for job in array] for array in submitit.arrays] == [
        [point(n) for n in range(start, min(start + 4, 10))] for start in (0, 4, 8)
    ]
    wanted = {"cpus_per_task": 2, "gpus_per_node": 1, "mem": "1536M", "array_parallelism": 3, "time": 240}
    assert submitit.asked | wanted == submitit.asked
    assert submitit.asked["additional_parameters"] == {"requeue": True, "account": "lab"}
    squeue["code"] = 1  # no answer: what was known goes on, the jobs of an earlier sweep as well
    assert engine.alive() == {"7_1", "7_[2]", "1_0", "1_1", "1_2", "1_3", "2_0", "2_1", "2_2", "2_3", "3_0", "3_1"}
    assert "squeue: it is busy; looking again" in capsys.readouterr().err
    assert [*engine.submit([])] == []
    submitit.room = 4
    handed_over = engine.submit(jobs)
    assert [next(handed_over) for _ in range(4)] == ["4_0", "4_1", "4_2", "4_3"]  # known before the next is refused
    with pytest.raises(SweepError, match="sbatch refuses the jobs: QOSMaxSubmitJobPerUserLimit"):
        next(handed_over)
