"""The sweep runner, with tiny programs in place of a training, and its parity with W&B's agent."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lit_scaledrop.cli import sweep
from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.cli.flags import expand_rows
from lit_scaledrop.sweep import child, runner
from lit_scaledrop.sweep.file import SweepError, build_command, grid, load_sweep
from lit_scaledrop.sweep.points import plan_points
from stand_ins import RESULT, plan, sweep_folder

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and PR_SET_PDEATHSIG are Linux's")
COMMAND = ["${env}", "${interpreter}", "child.py", "fit", "--profile", "${envvar:PROFILE}", "${args}"]

# Stands in for `fit`: notes its flags and environment, then fails, hangs, or leaves a valid result.
CHILD = """
import json, os, pathlib, sys, time
sys.path.insert(0, "here")
from plan import plan
flags = sys.argv[2:]
keys = ("PROFILE", "WANDB_RUN_GROUP", "WANDB_SWEEP_ID", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
note = {"flags": flags, "start": time.time(), "pid": os.getpid(), **{k: os.environ.get(k) for k in keys}}
behaviour = dict(f.split("=") for f in flags if "=" in f).get("--do", "work")
if pathlib.Path("fixed").exists(): behaviour = "work"
print("hello from", flags[-1], flush=True)
if behaviour in ("hang", "deaf"):
    if behaviour == "deaf":
        import signal
        signal.signal(signal.SIGINT, lambda *_: pathlib.Path("heard").touch())
    pathlib.Path(f"pid-{os.getpid()}").touch()
    try: time.sleep(1800)
    except KeyboardInterrupt:
        pathlib.Path("saved").touch()
        raise
time.sleep(float(os.environ.get("NAP", 0)))
note["end"] = time.time()
with open("notes", "a") as file: file.write(json.dumps(note) + "\\n")
if behaviour == "fail": sys.exit("it broke\\nbadly")
if behaviour == "work":
    path = plan(flags)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pathlib.Path("template.json").read_text().replace("0" * 12, path.stem))
"""

DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
sys.path.insert(0, "here")
from plan import plan
from lit_scaledrop.cli.sweep import main
sys.exit(main(sys.argv[1:], plan))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    return sweep_folder(tmp_path, monkeypatch, child=CHILD, driver=DRIVER)


def write(parameters, command=COMMAND, **more):
    config = {"program": "x", "method": "grid", "parameters": parameters, "command": command, **more}
    Path("s.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def finish(*flags: str) -> Path:
    """Leave the result of a point."""
    path = plan([*flags])
    path.parent.mkdir(parents=True)
    path.write_text(RESULT.replace("0" * 12, path.stem))
    return path


def run(*arguments: str) -> int:
    return sweep.main(["s.yaml", *arguments], plan)


def notes() -> list[dict]:
    return [json.loads(line) for line in Path("notes").read_text().splitlines()] if Path("notes").exists() else []


def values(key: str) -> list[str]:
    return [flag.split("=")[1] for note in notes() for flag in note["flags"] if flag.startswith(f"--{key}=")]


def wait_for(condition, seconds=600.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_order_flags_and_environment(here, capfd):
    write({"a": {"values": [1, 2]}, "b": {"values": [0.5, "x y", True]}, "c": {"value": [1, 2]}})
    assert run() == 0
    assert [note["flags"] for note in notes()] == [
        ["--profile", "quick", f"--a={a}", f"--b={b}", "--c=[1, 2]"] for a in (1, 2) for b in ("0.5", "x y", "True")
    ]
    first = notes()[0]
    assert (first["PROFILE"], first["WANDB_RUN_GROUP"]) == ("quick", "s")
    assert first["WANDB_SWEEP_ID"] is first["OMP_NUM_THREADS"] is first["CUDA_VISIBLE_DEVICES"] is None
    out = capfd.readouterr().out
    assert "6 points: 6 done, 0 skipped, 0 failed" in out
    assert out.count("hello from") == 6  # one job is echoed
    assert "[2/6] 1-x-y: done" in out


def test_profile_seeds_results_and_extra_flags(here, monkeypatch):
    write({"a": {"value": 1}, "seed_everything": {"values": [1]}}, [*COMMAND, "--run.study=t"])
    monkeypatch.setenv("PROFILE", "cpu")
    assert run("--profile", "paper", "--seeds", "4", "5", "--results", "out", "--", "--x=1") == 0
    assert values("seed_everything") == ["4", "5"]
    assert notes()[0]["PROFILE"] == "paper"
    added = ["--run.study=t", "--x=1", "--run.results=out"]
    assert notes()[0]["flags"] == ["--profile", "paper", "--a=1", "--seed_everything=4", *added]
    assert len(list(Path("out").rglob("*.json"))) == 2
    # profile and study of the logs are those of the result
    assert sorted(path.name for path in Path("runs/quick/s/logs").iterdir()) == ["seed4.log", "seed5.log"]
    assert run("--seeds", "4", "--dry-run") == 0
    assert len(notes()) == 2
    assert run() == 0
    assert notes()[2]["PROFILE"] == "cpu"  # the environment's, where none is asked for


def test_finished_points_are_skipped_before_they_start(here, capfd):
    write({"a": {"values": [1, 2, 3]}})
    finish("--a=2")
    assert run() == 0
    assert values("a") == ["1", "3"]
    assert "2 done, 1 skipped, 0 failed" in capfd.readouterr().out
    assert run() == 0
    assert values("a") == ["1", "3"]


def test_a_half_written_result_is_run_again(here):
    write({"a": {"value": 1}})
    path = finish("--a=1")
    path.write_text('{"schema": 1,')
    assert run("--dry-run") == 0
    assert path.exists()
    assert run() == 0
    assert values("a") == ["1"]
    assert path.with_name(path.name + ".broken").read_text() == '{"schema": 1,'


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_goes_on_after_a_failure_and_resumes(here, capfd, jobs):
    write({"do": {"values": ["work", "fail", "lie", "other"]}})
    Path("child.py").write_text(CHILD.replace('== "work":\n    path', 'in ("work", "other"):\n    path'))
    assert run("--jobs", jobs) == 1
    assert sorted(values("do")) == ["fail", "lie", "other", "work"]
    out = capfd.readouterr().out
    summary = out[out.index("\nfail FAILED") :]
    assert "exit code 1" in summary
    assert "it broke\n    badly" in summary
    assert "runs/quick/s/logs/fail.log" in summary
    assert "lie FAILED: exit code 0, but there is no result" in summary
    assert "4 points: 2 done, 0 skipped, 2 failed" in summary
    Path("fixed").touch()
    assert run("--jobs", jobs) == 0
    assert sorted(values("do")[4:]) == ["fail", "lie"]
    assert "2 done, 2 skipped, 0 failed" in capfd.readouterr().out
    log = Path("runs/quick/s/logs/fail.log").read_text()
    assert log.count("hello from") == 2  # the earlier attempt's log is kept


@linux
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["no-such-program", "fit", "${args}"], "cannot start no-such-program: No such file"),
        (["sh", "-c", "kill -KILL $$", "fit", "${args}"], "killed by SIGKILL"),
    ],
)
def test_a_command_that_does_not_start_or_is_killed_is_a_failure(here, capfd, command, reason):
    write({"a": {"value": 1}}, command)
    assert run() == 1
    assert reason in capfd.readouterr().out


def test_jobs_run_at_once_and_share_cores_and_gpus(here, monkeypatch, capfd):
    write({"a": {"values": [1, 2, 3, 4]}})
    monkeypatch.setenv("NAP", "0.4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert run("--jobs", "2") == 0
    spans = sorted((note["start"], note["end"], note["CUDA_VISIBLE_DEVICES"]) for note in notes())
    running = [sum(s <= start < e for s, e, _ in spans) for start, _, _ in spans]
    assert max(running) == 2
    assert sorted(gpu for *_, gpu in spans) == ["5", "5", "7", "7"]
    for start, end, gpu in spans:  # never two at once on one GPU
        assert sum(g == gpu and s < end and start < e for s, e, g in spans) == 1
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert {note["OMP_NUM_THREADS"] for note in notes()} == {share}
    assert "hello from" not in capfd.readouterr().out
    assert "hello from --a=3" in Path("runs/quick/s/logs/3.log").read_text()


def test_what_the_user_set_wins(monkeypatch):
    assert runner.child_environment({"OMP_NUM_THREADS": "7"}, "quick", "s", 4)["OMP_NUM_THREADS"] == "7"
    monkeypatch.setattr(runner.os, "sched_getaffinity", lambda _: range(8))
    assert runner.child_environment({}, "quick", "s", 3)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in runner.child_environment({}, "quick", "s", 1)


def test_gpus_are_found_by_nvidia_smi(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = --query-gpu=index ] && printf "0\\n1\\n2\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert runner.visible_gpus({}) == ["0", "1", "2"]
    assert runner.visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert runner.visible_gpus({}) == []


def test_dry_run_starts_nothing(here, capfd):
    write({"a": {"values": [1, 2]}})
    finish("--a=1")
    before = sorted(here.rglob("*"))
    assert run("--dry-run", "--", "--x=a b") == 0
    out = capfd.readouterr().out
    assert "[1/2] run 1 ->" in out  # other flags, another run
    assert f"{sys.executable} child.py fit --profile quick --a=1 '--x=a b'" in out
    assert run("--dry-run") == 0
    assert "[1/2] skip 1 ->" in capfd.readouterr().out
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "bayes"}, "how many points"),
        ({"method": "random", "run_cap": "many"}, "how many points"),
        ({"method": "gird"}, "unknown method 'gird'"),
        ({"method": None}, "unknown method None"),
        ({"command": None}, "needs 'command:'"),
        ({"command": ["python", "fit"]}, "needs 'command:'"),
        ({"command": ["python", "${args}"]}, "needs 'command:'"),
        ({"command": ["fit", "${args_json}", "${args}"]}, r"has the macro \$\{args_json\}"),
        ({"command": ["fit", "a${envvar:NOT_SET_HERE}", "${args}"]}, "environment variable NOT_SET_HERE"),
        ({"parameters": {}}, "needs 'parameters:'"),
        ({"parameters": {"model": {"parameters": {"p": {"value": 1}}}}}, "model is nested"),
        ({"parameters": {"p": {"values": []}}}, "p has no values"),
        ({"parameters": {"p": {"values": 3}}}, "p has no values"),
        ({"parameters": {"p": {"values": [1, None]}}}, "p has a null"),
        ({"parameters": {"p": {"value": None}}}, "p has a null"),
        ({"parameters": {"p": {"min": 0, "max": 1}}}, "p needs 'values:"),
        ({"parameters": {"p": 3}}, "p needs 'values:"),
        ({"parameters": {"p": {"values": [1, 1]}}}, "1 and 1-2 are one run"),
        ({"parameters": {"bad": {"values": ["no"]}}}, "point no is no valid fit"),
    ],
)
def test_bad_files_are_refused_before_anything_runs(here, capfd, change, message):
    write({"a": {"value": 1}})
    config = {**yaml.safe_load(Path("s.yaml").read_text()), **change}
    Path("s.yaml").write_text(yaml.safe_dump(config))
    assert run() == 2
    error = capfd.readouterr().err
    assert error.count("scaledrop sweep:") == 1
    assert re.search(message, error)
    assert not notes()


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\0"])
def test_no_yaml_or_no_sweep(here, capfd, text):
    Path("s.yaml").write_text(text)
    assert run() == 2
    assert "s.yaml" in capfd.readouterr().err
    Path("s.yaml").unlink()
    assert run() == 2
    assert "No such file" in capfd.readouterr().err


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_jobs_must_be_positive(here, jobs, capfd):
    with pytest.raises(SystemExit) as caught:
        run(f"--jobs={jobs}")
    assert caught.value.code == 2
    assert "at least 1" in capfd.readouterr().err


def test_early_terminate_is_said_to_be_ignored(here, capfd):
    write({"a": {"value": 1}}, early_terminate={"type": "hyperband"})
    assert run() == 0
    assert "early_terminate is ignored in a grid" in capfd.readouterr().err


# --- the same argv as `wandb agent` ---


def wandb_argv(config, values, tmp_path, monkeypatch) -> list[str]:
    """What wandb's own agent would start for a point, without a server."""
    from wandb import wandb_agent

    started = []

    class Process:
        def __init__(self, command, **_):
            started.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them; this puts them back
        monkeypatch.setenv(name, "")
    agent = object.__new__(wandb_agent.Agent)
    agent._sweep_command, agent._run_processes = list(config["command"]), {}
    agent._in_jupyter = agent._function = None
    agent._forward_signals = False
    args = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "r", "program": config["program"], "args": args})
    return started[0]


def test_argv_is_what_wandb_agent_would_start(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("PROFILE", "paper")
    odd = {
        "program": "train.py",
        "parameters": {"a": {"values": [1e-05, True, "x y", [1, 2], {"k": 1}]}, "b.c": {"value": 0.1}},
        "command": [
            "${env}",
            "${interpreter}",
            "${program}",
            "fit",
            "x-${envvar:PROFILE}-${envvar:PROFILE}",
            3,
            "${args}",
        ],
    }
    for config in (*map(load_sweep, (ROOT / "sweeps").glob("*.yaml")), odd):
        # of a distribution the engine draws a float
        drawn = {
            name: entry if {"value", "values"} & set(entry) else {"value": 0.0123456}
            for name, entry in config["parameters"].items()
        }
        for point in grid(drawn):
            theirs = wandb_argv(config, point, tmp_path, monkeypatch)
            assert theirs[:2] == ["/usr/bin/env", "python"]
            assert build_command(config, point, os.environ) == [sys.executable, *theirs[2:]]


def test_table3_has_all_rows_and_seeds():
    config = load_sweep(ROOT / "sweeps" / "table3.yaml")
    argvs = [build_command(config, point, {"PROFILE": "cpu"}) for point in grid(config["parameters"], [1, 2])]
    assert argvs[-1][1:] == [
        "-m", "lit_scaledrop", "fit", "--config", "classify.yaml", "--config", "profile/cpu.yaml",
        "--run.study=table3", "--row=resnet20/proposed", "--seed_everything=2",
    ]  # fmt: skip
    assert len(argvs) == 2 * 26


FIGURES = {"figure5", "figure6", "figure7", "posterior", "threshold", "reliability"}
ABLATIONS = {"ablation-sigma", "ablation-passes"}


def test_every_file_of_a_probe_assesses_rows_of_table3():
    files = {path.stem: load_sweep(path) for path in (ROOT / "sweeps").glob("*.yaml")}
    grids = {stem: config for stem, config in files.items() if config["method"] == "grid"}
    probes = {stem: config for stem, config in grids.items() if "assess" in config["command"]}
    tables = {"table4", "table6", "table6-beyond", "table9", "table10"}
    assert set(probes) == tables | {"hardware", "temperature", "ageing", "pareto"} | FIGURES | ABLATIONS
    counts = {stem: len(config["parameters"]["row"]["values"]) for stem, config in probes.items()}
    assert [counts[name] for name in ("table4", "table6", "table9", "table10")] == [3, 15, 3, 6]
    for stem, config in probes.items():
        name = lambda flags: "r/p/s/" + "-".join(flags).replace("/", "-")  # noqa: E731
        points = plan_points(config, {"PROFILE": "cpu"}, None, [], name)
        assert len(points) == len({point.name for point in points})
        for point in points:
            assert f"--probe={stem.removesuffix('-beyond')}" in point.argv
            assert point.log.parent.as_posix() == "runs/p/s/logs"
            (named,) = [flag.removeprefix("--row=") for flag in point.argv if flag.startswith("--row=")]
            row = expand_rows(["--row", named])
            assert [flag.split("=")[0] for flag in row] == ["--model.network", "--model.method"]


def test_table7_counts_every_topology_and_scheme():
    from lit_scaledrop.chip.dropout_modules import SCHEMES
    from lit_scaledrop.networks import NETWORKS

    points = plan_points(load_sweep(ROOT / "sweeps" / "table7.yaml"), {"PROFILE": "cpu"}, None, [], sweep.PLANS["cost"])
    assert len({point.result for point in points}) == len(points) == len(NETWORKS) * len(SCHEMES)
    assert {point.result.parent for point in points} == {Path("results/cpu/table7")}
    assert points[0].name == "resnet18-scale_dropout"


def test_table8_counts_methods_on_topologies():
    from lit_scaledrop.chip.energies import COMPARED, NETWORKS

    points = plan_points(load_sweep(ROOT / "sweeps" / "table8.yaml"), {"PROFILE": "cpu"}, None, [], sweep.PLANS["cost"])
    assert len({point.result for point in points}) == len(points) == len(NETWORKS) * len(COMPARED)
    assert {point.result.parent for point in points} == {Path("results/cpu/table8")}


def test_a_command_has_its_own_plan(here, monkeypatch, capfd):
    for command, study in (("fit", "table3"), ("assess", "table6")):
        monkeypatch.setitem(sweep.PLANS, command, lambda flags, study=study: Path("r/quick", study, flags[-1]))
        write({"row": {"values": ["a"]}}, ["python", command, "${args}"])
        assert sweep.main(["s.yaml", "--dry-run"]) == 0
        assert f"run a -> r/quick/{study}/--row=a" in capfd.readouterr().out


def test_only_takes_points_by_name():
    config = load_sweep(ROOT / "sweeps" / "table3.yaml")

    def names(*only):
        points = plan_points(config, {"PROFILE": "cpu"}, None, [], lambda flags: f"r/p/s/{flags[-2]}", only)
        return [point.name for point in points]

    assert len(names("resnet20-*")) == 7
    assert names("*-rad-*", "resnet20-fp-seed1") == ["resnet18-rad-seed1", "vgg_small-rad-seed1", "resnet20-fp-seed1"]
    with pytest.raises(SweepError, match=r"--only resnet50-\* matches no point; there are resnet18-fp-seed1"):
        names("resnet20-*", "resnet50-*")


# --- signals ---


def start(*arguments: str) -> subprocess.Popen:
    command, env = [sys.executable, "driver.py", "s.yaml", *arguments], {**os.environ, "PYTHONPATH": str(ROOT)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=env, start_new_session=True, **output)


def hanging(count: int) -> list[int]:
    found = wait_for(lambda: len(files := list(Path().glob("pid-*"))) >= count and files)
    return [int(file.name.removeprefix("pid-")) for file in found]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaps does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


@linux
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_stops_the_children_and_says_how_to_go_on(here, jobs):
    write({"do": {"values": ["work", "hang"]}, "n": {"values": [1, 2]}})
    process = start("--jobs", str(jobs), "--seeds", "3")
    pids = hanging(jobs)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 130, out
    assert f"scaledrop sweep s.yaml --jobs {jobs} --seeds 3" in out
    assert "Traceback" not in out.split("Stopped.")[1]
    assert Path("saved").exists()  # the child saw SIGINT first, so it could save
    assert not any(map(alive, pids))
    Path("fixed").touch()
    done = start("--jobs", str(jobs), "--seeds", "3")
    assert "2 done, 2 skipped, 0 failed" in done.communicate(timeout=900)[0]


@linux
def test_ctrl_c_twice_stops_a_child_that_ignores_it(here):
    write({"do": {"value": "deaf"}})
    process = start()
    (pid,) = hanging(1)
    process.send_signal(signal.SIGINT)
    wait_for(Path("heard").exists)
    time.sleep(0.3)
    assert alive(pid)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 130, out
    assert time.monotonic() - begin < 10
    assert not alive(pid)


@linux
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphan_trains_on_when_the_sweep_is_killed(here, signum):
    write({"do": {"value": "hang"}, "n": {"values": [1, 2]}})
    process = start("--jobs", "2")
    pids = hanging(2)
    assert all(map(alive, pids))
    process.send_signal(signum)
    process.communicate(timeout=900)
    wait_for(lambda: not any(map(alive, pids)))


@linux
def test_the_guard_refuses_to_start_when_its_parent_is_gone(tmp_path):
    command = [sys.executable, "-ISc", child._GUARD, "1", sys.executable, "-c", "print('trains')"]
    other = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert other.returncode == 1
    assert other.stderr.strip() == "the sweep has ended"
    assert not other.stdout


@linux
def test_on_a_terminal_one_job_has_it_and_several_have_a_bar(here):
    import pty

    for jobs, seen in (("1", b"a terminal: True"), ("2", b"100%")):
        write({"a": {"values": [1, 2]}, "jobs": {"value": int(jobs)}})
        told = CHILD.replace('print("hello', 'print("a terminal:", sys.stdout.isatty());print("hello')
        Path("child.py").write_text(told)
        main, side = pty.openpty()
        command = [sys.executable, "driver.py", "s.yaml", "--jobs", jobs]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        process = subprocess.Popen(command, stdout=side, stderr=side, env=env)
        os.close(side)
        text = b""
        while True:
            try:
                part = os.read(main, 4096)
            except OSError:  # Linux's way of saying that nobody holds the other side any more
                break
            text += part
        os.close(main)
        assert process.wait(timeout=900) == 0
        assert seen in text
        assert b"2 done, 0 skipped" in text
    assert not Path("runs/quick/s/logs/1-1.log").exists()


def test_help_says_where_the_flags_of_fit_go(capsys):
    with pytest.raises(SystemExit) as caught:
        sweep.main(["--help"])
    assert caught.value.code == 0
    assert "FLAGS OF fit (OR assess) FOR EVERY POINT" in capsys.readouterr().out


def test_rows_that_a_profile_makes_one_run_are_run_once():
    rows = {"row": {"values": ["unet/skin_lesion/fp", "segnet/covid_ct.0/fp", "segnet/covid_ct.1/fp"]}}
    config = load_sweep(ROOT / "sweeps" / "table5.yaml") | {"parameters": rows}

    def names(profile):
        points = plan_points(config, {"PROFILE": profile}, None, [], lambda flags: plan_fit(flags).result)
        return [point.name for point in points]

    assert names("quick") == ["unet-skin_lesion-fp", "segnet-covid_ct.0-fp"]
    assert len(names("cpu")) == 3
