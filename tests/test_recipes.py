"""The recipes of ``recipes/``, as far as one machine can try them: two nodes on loopback, a SLURM of two scripts."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_scaledrop.results.store import read_result
from slurm_cluster import slurm, why_not

RECIPES = Path(__file__).parent.parent / "recipes"
FIT = ("--config=tiny.yaml", "--run.tracking=offline")

# Starts two tasks with the environment that srun gives them; ends them when it is told to end.
SRUN = """#!/bin/bash
echo $$ > srun.pid
trap 'kill -TERM $tasks; sleep 15; kill -KILL $tasks 2>/dev/null' TERM
tasks=""
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
  tasks="$tasks $!"
done
status=0
for task in $tasks; do wait $task || status=$?; done
exit $status
"""
SCONTROL = """#!/bin/bash
echo "$@" >> scontrol.log
kill -TERM "$(cat srun.pid)"
"""


@pytest.fixture
def start(place):
    started: list[subprocess.Popen[str]] = []

    def run(*words: str, **environment: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
        files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(["bash", *words], env=env, text=True, process_group=0, **files))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def one_result(place: Path) -> object:
    (path,) = place.glob("results/quick/tiny/*.json")
    return read_result(path)


@pytest.mark.parametrize("script", sorted(RECIPES.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_sound(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.slow
def test_two_nodes_of_torchrun_are_one_training(place, start):
    shared = {"NODES": "2", "GPUS": "1", "MASTER_PORT": free_port()}
    words = (str(RECIPES / "torchrun.sh"),)
    nodes = [start(*words, str(node), "127.0.0.1", *FIT, **shared) for node in (0, 1)]
    outputs = [node.communicate(timeout=900)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    result = one_result(place)
    assert result.training["world_size"] == 2
    assert result.evaluation["images"] == 60
    assert len(list(place.rglob("offline-run-*"))) == 1
    again = [start(*words, str(node), "127.0.0.1", *FIT, **shared) for node in (0, 1)]
    outputs = [node.communicate(timeout=900)[0] for node in again]
    assert [node.returncode for node in again] == [0, 0], outputs
    assert "finished already" in outputs[0]


@pytest.mark.slow
def test_a_slurm_job_whose_time_is_up_is_requeued_and_goes_on(place, start):
    """Two tasks; the signal comes within an epoch. A SLURM of two shell scripts: no scheduler is tried here."""
    bin_ = place / "bin"
    bin_.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "4242", "SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    job |= {"SLURM_JOB_NAME": "scaledrop", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    job |= {"PATH": f"{bin_}:{os.environ['PATH']}"}
    words = (str(RECIPES / "slurm-ddp.sh"), *FIT, "--trainer.max_epochs=30", "--trainer.accelerator=cpu")

    first = start(*words, **job)
    deadline = time.monotonic() + 900
    while not list(place.glob("runs/quick/tiny/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGUSR1)
    out, _ = first.communicate(timeout=900)
    assert first.returncode != 0
    assert "time is nearly up: requeue" in out
    assert Path("scontrol.log").read_text() == "requeue 4242\n"
    assert not list(place.glob("results/**/*.json"))
    assert not list(place.rglob("hpc_ckpt*"))  # Lightning's own, from within an epoch

    second = start(*words, **job)
    out, _ = second.communicate(timeout=900)
    assert second.returncode == 0, out
    assert out.count("resuming after epoch ") == 1
    assert "epoch 1/30" not in out
    result = one_result(place)
    assert result.training["epochs"] == 30
    assert result.training["world_size"] == 2


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there")
def test_a_training_on_a_real_slurm_is_requeued_and_goes_on(place, tmp_path_factory):
    """The script as it is but for its GPUs, two tasks with gloo; SLURM starts it again two minutes later."""
    text = (RECIPES / "slurm-ddp.sh").read_text()
    Path("ddp.sh").write_text("".join(line for line in text.splitlines(True) if "--gpus-per-node" not in line))
    size = ("--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--time=60", "--output=job.log")
    words = ("ddp.sh", *FIT, "--trainer.max_epochs=30", "--trainer.accelerator=cpu")
    with slurm(tmp_path_factory.mktemp("slurm")) as env:
        env |= {"PYTHON": sys.executable, "PYTHONPATH": str(RECIPES.parent), "OMP_NUM_THREADS": "1"}
        submitted = subprocess.run(["sbatch", "--parsable", *size, *words], env=env, capture_output=True, text=True)
        assert submitted.returncode == 0, submitted.stderr
        job = submitted.stdout.strip()
        wait_for("runs/quick/tiny/*/checkpoints/last.ckpt")
        subprocess.run(["scancel", "--batch", "--signal=USR1", job], env=env, check=True)
        wait_for("results/quick/tiny/*.json")
    log = Path("job.log").read_text()
    assert log.count("time is nearly up: requeue") == 1
    assert log.count("resuming after epoch ") == 1
    assert log.count("epoch 1/30") == 1
    result = one_result(place)
    assert (result.training["epochs"], result.training["world_size"]) == (30, 2)


def wait_for(pattern: str) -> None:
    deadline = time.monotonic() + 900
    while not list(Path().glob(pattern)):
        assert time.monotonic() < deadline, Path("job.log").read_text() if Path("job.log").exists() else "no job began"
        time.sleep(0.1)


@pytest.mark.slow
def test_one_gpu_in_one_command(place):
    """At tiny size on a CPU: two networks, of which the second gets what the first leaves; all comes back."""
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(RECIPES.parent)}
    asked = {"BUDGET": "20m", "PROFILE": "quick", "NETWORKS": "vgg_small resnet20", "OUT": "out", "WORK": "work"}
    (place / "nothing").mkdir()  # the digits come with a package; the miniature CIFAR-10 around is no sound one
    asked["DATA"] = "nothing"
    paths = {name: str(place / asked[name]) for name in ("OUT", "WORK", "DATA")}
    command = ["bash", str(RECIPES / "one-gpu.sh")]
    done = subprocess.run(command, env=environment | asked | paths, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    results = map(read_result, place.glob("out/quick/table3/*.json"))
    assert {result.network: result.training["epochs"] for result in results} == {"vgg_small": 15, "resnet20": 15}
    packed = sorted(path.name for path in place.glob("out/*.packed"))
    assert packed == ["resnet20-proposed.packed", "vgg_small-proposed.packed"]
    trial = (place / "out" / "trial.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in trial] == ["vgg_small proposed", "resnet20 proposed"]


def test_one_gpu_refuses_a_budget_that_is_no_time(place):
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(RECIPES.parent), "BUDGET": "soon"}
    done = subprocess.run(["bash", str(RECIPES / "one-gpu.sh")], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "--budget takes a time such as 9m" in done.stderr
    assert not (RECIPES.parent / "out").exists()


@pytest.mark.parametrize("target", ["report", "reproduce-table6", "reproduce-table7", "sweep-sigma", "data"])
def test_what_users_type_behind_make_reaches_no_shell(target):
    """Spaces, quotes, `;` and `$( )` arrive as they were typed, as words of the command."""
    typed = "a b'; touch PWN $$(touch PWN)"
    words = [f"{name}={typed}" for name in ("RESULTS", "PROFILE", "DATA", "JOBS", "LIMIT", "PARTS")]
    command = ["make", "-n", "-C", str(RECIPES.parent), target, *words]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.replace("\\\n", " ").splitlines() if "bin/scaledrop" in line]
    assert lines
    arrived = typed.replace("$$", "$")
    for line in lines:
        words = shlex.split(line)
        assert any(arrived in word for word in words), words
        assert "PWN" not in words
        assert "touch" not in words
