"""Sweeps on a real SLURM and a real Ray, both on loopback; small programs stand in for trainings."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lit_scaledrop.cli import sweep
from lit_scaledrop.sweep.file import SweepError
from lit_scaledrop.sweep.resources import Resources
from slurm_cluster import slurm, why_not
from stand_ins import plan, sweep_folder

ROOT = Path(__file__).parents[2]
SLURM = why_not() or ("" if importlib.util.find_spec("submitit") else "no submitit: pip install 'submitit>=1.5'")
RAY = "" if importlib.util.find_spec("ray") else "no ray: pip install 'ray>=2.40'"
on_slurm = pytest.mark.skipif(bool(SLURM), reason=SLURM or "there")
on_ray = pytest.mark.skipif(bool(RAY), reason=RAY or "there")

# A point: an "epoch" takes a tenth of a second and is kept, so that one that is stopped goes on; then a result. It ends
# early once there is a file "enough".
CHILD = """
import json, os, pathlib, sys, time
sys.path.insert(0, "here")
from plan import plan
given = dict(flag.split("=") for flag in sys.argv[2:])
def write(path, text):
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(text)
    part.rename(path)
kept = pathlib.Path(f"epochs{given['--n']}")
done = int(kept.read_text()) if kept.exists() else 0
with open("notes", "a") as file: file.write(f"{given['--n']} from {done}\\n")
print("hello from", given["--n"], {k: os.environ.get(k) for k in ("PROFILE", "SLURM_NTASKS")}, flush=True)
if given["--n"] == "2" and not pathlib.Path("mended").exists(): sys.exit("it broke")
for epoch in range(done, int(os.environ.get("EPOCHS", 3))):
    time.sleep(0.1)
    write(kept, str(epoch + 1))
    if pathlib.Path("enough").exists(): break
path = plan(sys.argv[2:])
path.parent.mkdir(parents=True, exist_ok=True)
write(path, json.dumps({**json.loads(pathlib.Path("template.json").read_text()), "id": path.stem}))
"""
DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
sys.path.insert(0, "here")
from plan import plan
from lit_scaledrop.sweep import slurm
slurm.Slurm.look = 0.5
from lit_scaledrop.cli.sweep import main
sys.exit(main(sys.argv[1:], plan))
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    folder = sweep_folder(tmp_path, monkeypatch, child=CHILD, driver=DRIVER)
    write(range(8))
    return folder


def write(values) -> None:
    command = ["${interpreter}", "child.py", "fit", "${args}"]
    config = {"method": "grid", "parameters": {"n": {"values": [*values]}}, "command": command}
    Path("s.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as env:
        yield env


def start(env: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "driver.py", "s.yaml", *words]
    env = {**env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said = process.communicate(timeout=600)[0]
    assert process.returncode == code, said
    return said


def begun() -> Counter[str]:
    return Counter(line.split()[0] for line in Path("notes").read_text().splitlines()) if Path("notes").exists() else {}


def finished() -> set[str]:
    return {path.stem for path in Path("results/quick/s").glob("*.json") if "failed" not in path.name}


def of(values) -> set[str]:
    return {plan([f"--n={value}"]).stem for value in values}


def wait_until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


SLURM_WORDS = ("--launcher", "slurm", "--cpus", "1", "--time", "30m", "--array-parallelism", "3")


@pytest.mark.slow
@on_slurm
def test_a_table_on_slurm(here, cluster):
    """Eight points in arrays of at most six; one fails, is told with its reason, and is the only one of the next."""
    said = finish(start(cluster, *SLURM_WORDS), code=1)
    assert "8 points: 7 done, 0 skipped, 1 failed" in said
    assert "2 FAILED: exit code 1" in said
    assert begun() == Counter(map(str, range(8)))
    assert finished() == of({*range(8)} - {2})
    log = Path("runs/quick/s/logs/3.log").read_text()
    assert "hello from 3 {'PROFILE': 'quick', 'SLURM_NTASKS': None}" in log
    scripts = [path.read_text() for path in Path("runs/quick/s/slurm").glob("*submission*.sh")]
    arrays = {line for text in scripts for line in text.splitlines() if "--array" in line}
    assert arrays == {"#SBATCH --array=0-1%1", "#SBATCH --array=0-5%1"}  # of the three that may run at once
    Path("mended").touch()
    said = finish(start(cluster, *SLURM_WORDS))
    assert "8 points: 1 done, 7 skipped, 0 failed" in said
    assert not list(Path("results").rglob("*.failed.json"))
    assert not list(Path("results").rglob(".*.lock"))


@pytest.mark.slow
@on_slurm
def test_a_second_sweep_follows_the_same_jobs_and_ctrl_c_leaves_them(here, cluster):
    write([0, 1, 3])
    env = {**cluster, "EPOCHS": "6000"}
    first = start(env, *SLURM_WORDS)
    wait_until(lambda: len(begun()) == 3)
    second = start(env, *SLURM_WORDS)
    first.send_signal(signal.SIGINT)
    said = finish(first, code=130)
    assert "3 jobs continue. The same command follows them; to cancel them:\n    scancel " in said
    assert second.stdout is not None
    said = ""
    while said.count("is slurm job ") < 3:  # however long it takes to start
        said += (line := second.stdout.readline())
        assert line, said
    Path("enough").touch()
    finish(second)
    assert begun() == Counter("013")
    assert finished() == of([0, 1, 3])


@pytest.mark.slow
@on_slurm
def test_a_preempted_job_is_requeued_and_goes_on(here, cluster):
    """SIGUSR2 is what SLURM sends before it preempts a job or its time is up."""
    write([0])
    sweep_ = start({**cluster, "EPOCHS": "100"}, *SLURM_WORDS)
    kept = Path("epochs0")
    wait_until(lambda: kept.exists() and int(kept.read_text()) > 5)
    job = Path("runs/quick/s/logs/0.slurm").read_text()
    subprocess.run(["scancel", "--signal=USR2", job], env=cluster, check=True)
    said = finish(sweep_)
    assert "1 point: 1 done, 0 skipped, 0 failed" in said
    first, second = Path("notes").read_text().splitlines()
    assert first == "0 from 0"
    assert 5 < int(second.removeprefix("0 from ")) < 100
    assert not list(Path("results").rglob("*.failed.json"))


@pytest.mark.slow
@on_slurm
def test_a_job_that_is_cancelled_is_a_failure(here, cluster):
    write([0])
    sweep_ = start({**cluster, "EPOCHS": "3000"}, *SLURM_WORDS)
    wait_until(lambda: begun())
    job = Path("runs/quick/s/logs/0.slurm").read_text()
    subprocess.run(["scancel", job], env=cluster, check=True)
    said = finish(sweep_, code=1)
    assert "0 FAILED: " in said


@pytest.mark.slow
@on_slurm
def test_what_sbatch_refuses_is_said(here, cluster):
    said = finish(start(cluster, *SLURM_WORDS, "--partition", "none"), code=2)
    assert "sbatch refuses the jobs" in said
    assert "invalid partition" in said.lower()


@pytest.mark.slow
@on_ray
def test_a_table_on_ray_and_a_worker_that_is_killed(here):
    """A task whose worker is killed is started again, when its training has ended, and goes on."""
    write([0, 1, 3])
    sweep_ = start({**os.environ, "EPOCHS": "80"}, "--launcher", "ray", "--cpus", "1")
    wait_until(lambda: len(begun()) >= 1 and Path("epochs0").exists() and int(Path("epochs0").read_text()) > 5)
    os.kill(_parent_of("--n=0"), signal.SIGKILL)
    said = finish(sweep_)
    assert "3 points: 3 done, 0 skipped, 0 failed" in said
    assert finished() == of([0, 1, 3])
    runs = [int(line.split()[2]) for line in Path("notes").read_text().splitlines() if line.startswith("0 ")]
    assert runs[0] == 0
    assert 5 < runs[1] < 80
    assert begun()["1"] == begun()["3"] == 1


def _parent_of(flag: str) -> int:
    """The worker whose child has a flag in its command line."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if flag.encode() in words and b"child.py" in words and os.readlink(process / "cwd") == os.getcwd():
                return int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    raise AssertionError(f"no process with {flag}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--launcher", "slurm", "--budget", "9m"), "--budget divides the time of this machine"),
        (("--launcher", "slurm", "--sbatch", "=x"), "--sbatch takes NAME=VALUE"),
        (("--launcher", "slurm", "--gpus", "-1"), "--gpus is 0 or more, not -1"),
        (("--launcher", "ray", "--memory", "0"), "--memory above 0, not 0.0"),
        (("--launcher", "slurm", "--jobs", "2"), "for SLURM use --array-parallelism"),
        (("--launcher", "ray", "--jobs", "2"), "--jobs is for searches and the local launcher"),
    ],
)
def test_bad_launchers_are_refused_before_anything_runs(here, capfd, monkeypatch, words, message):
    assert sweep.main(["s.yaml", *words], plan) == 2
    assert message in capfd.readouterr().err
    assert not Path("notes").exists()


def test_a_search_takes_rounds_on_a_cluster(here, capfd, monkeypatch):
    for name in ("submitit", "ray"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match="--launcher ray needs the extra `ray`: pip install 'ray"):
        sweep.main(["s.yaml", "--launcher", "ray"], plan)
    config = yaml.safe_load(Path("s.yaml").read_text()) | {"method": "random"}
    Path("s.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ModuleNotFoundError, match="needs the extra `slurm`: pip install"):  # nothing against --jobs
        sweep.main(["s.yaml", "--launcher", "slurm", "--jobs", "2"], plan)
    assert not Path("notes").exists()


def test_without_the_commands_of_slurm(monkeypatch):
    from lit_scaledrop.sweep.slurm import Slurm

    monkeypatch.setitem(sys.modules, "submitit", json)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SweepError, match="there is no sbatch in the PATH"):
        Slurm(Resources())
