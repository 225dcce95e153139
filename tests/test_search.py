"""Random and Bayesian search with a formula in place of a training: the journal, seeds, bounds, Hyperband, refusals."""

import json
import math
import sys
from pathlib import Path

import pytest
import yaml

from lit_scaledrop.results.trials import Journal, JournalError, Trial
from lit_scaledrop.sweep import points as sweep
from lit_scaledrop.sweep import search, suggest
from lit_scaledrop.sweep.hyperband import verdict

needs_engine = pytest.mark.skipif(
    not suggest.is_installed(), reason="the extra `search` is not installed: pip install 'sweeps>=0.2,<0.3'"
)
SPACE = {
    "a": {"distribution": "uniform", "min": 0.0, "max": 0.1234567},
    "b": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0},
    "c": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
    "d": {"distribution": "int_uniform", "min": 1, "max": 3},
    "e": {"values": ["x", "y"]},
    "f": {"value": 7},
}
METRIC = {"name": "val/acc", "goal": "maximize"}
COMMAND = ["${env}", "${interpreter}", "child.py", "fit", "${args}"]

# Stands in for `fit`: epochs logged as Lightning does, those behind HANGS never; the best is 0.9 at b = 0.01.
CHILD = """
import hashlib, json, math, os, pathlib, sys, time
sys.path.insert(0, "here")
from plan import plan
flags = sys.argv[2:]
given = dict(flag[2:].split("=", 1) for flag in flags)
path = plan(flags)
best = 0.9 - 0.1 * abs(math.log10(float(given.get("b", 0.01))) + 2)
logs = pathlib.Path("runs/quick/s", path.stem, "logs/version_0")
logs.mkdir(parents=True, exist_ok=True)
with open("started", "a") as file: file.write(" ".join(flags) + "\\n")
if pathlib.Path("broken").exists(): sys.exit("it broke")
with open(logs / "metrics.csv", "w") as file:
    file.write("epoch,val/acc\\n")
    for epoch in range(int(os.environ.get("EPOCHS", 2))):
        if epoch == int(os.environ.get("HANGS", -1)): time.sleep(600)
        file.write(f"{epoch},{best - 0.1 / (epoch + 1)}\\n"); file.flush()
record = json.loads(pathlib.Path("template.json").read_text())
record["training"]["val_acc"] = best
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(record))
"""
PLAN = """
import hashlib, pathlib
def plan(flags):
    return pathlib.Path("results/quick/s", hashlib.sha256(repr(sorted(flags)).encode()).hexdigest()[:12] + ".json")
"""
TEMPLATE = {
    "id": "0" * 12, "study": "s", "profile": "quick", "network": "n", "method": "m", "label": "M",
    "bits_w": 1, "bits_a": 1, "bayesian": True, "seed": 1, "schema": 1, "config": {}, "metrics": {"cls/acc": 0.5},
    "data": {"name": "d", "fingerprint": "f", "stand_in": True, "source": "s", "train": 1, "val": 1, "test": 1},
    "training": {"epochs": 2, "seconds": 1, "best_epoch": 1, "val_acc": 0.5, "device": "cpu", "precision": "32",
                 "compiled": False},
    "evaluation": {"samples": 1, "seed": 0, "execution": "loop", "checkpoint": "best", "seconds": 1},
    "provenance": dict.fromkeys(("commit", "command", "started", "finished"), "x") | {"dirty": False, "versions": {}},
}  # fmt: skip


def config(method="random", parameters=SPACE, metric=METRIC, **more):
    return {"method": method, "metric": metric, "parameters": parameters, "command": COMMAND, **more}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROFILE", raising=False)
    (tmp_path / "here").mkdir()
    for name, text in (("child.py", CHILD), ("here/plan.py", PLAN), ("template.json", json.dumps(TEMPLATE))):
        (tmp_path / name).write_text(text)
    return tmp_path


def run(*words, **changes) -> int:
    Path("s.yaml").write_text(yaml.safe_dump({"program": "x", **config(**changes)}, sort_keys=False))
    scope: dict = {}
    exec(PLAN, scope)
    return sweep.main(["s.yaml", *words], scope["plan"])


def started() -> list[str]:
    return Path("started").read_text().splitlines()


def journal() -> Journal:
    (path,) = Path("results/quick/s").glob("search-*.jsonl")
    return Journal(path)


# --- what the engine is asked ---


@needs_engine
@pytest.mark.parametrize("method", ["random", "bayes"])
def test_values_keep_to_their_space(method):
    trials = []
    for number in range(12):
        values = suggest.suggest(config(method), trials, seed=3)
        assert 0 <= values["a"] <= 0.1234567
        assert 1e-4 <= values["b"] <= 1
        assert values["c"] in (0, 0.25, 0.5, 0.75, 1)
        assert values["d"] in (1, 2, 3)
        assert values["e"] in ("x", "y")
        assert values["f"] == 7
        assert all(type(value) in (int, float, str) for value in values.values())
        trials.append(Trial(number, values, "", "finished", value=values["a"]))


@needs_engine
def test_a_log_scale_is_uniform_in_the_logarithm():
    logs = [math.log10(suggest.suggest(config(), [Trial(n, {}, "")] * n, seed=0)["b"]) for n in range(200)]
    # mean of U(-4, 0) and its standard error over 200 draws; draws on a linear scale have a mean of -0.43
    assert sum(logs) / len(logs) == pytest.approx(-2, abs=4 * (4 / math.sqrt(12)) / math.sqrt(200))


@needs_engine
def test_a_seed_repeats_and_the_global_stream_is_untouched():
    import numpy as np

    trials = [Trial(0, {"a": 0.1, "b": 0.1, "c": 0.0, "d": 1, "e": "x", "f": 7}, "", "finished", value=0.5)]
    np.random.seed(5)
    expected = np.random.uniform()
    np.random.seed(5)
    first, again, other = (suggest.suggest(config("bayes"), trials, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert np.random.uniform() == expected


@needs_engine
def test_bayes_goes_where_it_is_better():
    """The mean distance to the optimum of the last ten points, against that of random points."""

    def distance(method):
        trials = []
        for number in range(25):
            space = {"b": SPACE["b"]}
            values = suggest.suggest(config(method, space), trials, seed=1)
            off = abs(math.log10(values["b"]) + 2)
            trials.append(Trial(number, values, "", "finished", value=0.9 - 0.1 * off))
        return sum(0.9 - trial.value for trial in trials[-10:])

    assert distance("bayes") < 0.7 * distance("random")


def test_hyperband_stops_the_worse_and_never_the_best():
    asked = config("bayes", early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3})
    others = [(0.2, 0.3 + n / 10, 0.5 + n / 10) for n in range(6)]  # two better than 0.6 after epoch 2
    assert not verdict(asked, others, [0.1])  # before the first band
    assert "after epoch 2, 0.6000 was needed" in verdict(asked, others, [0.1, 0.2])
    assert not verdict(asked, others, [0.1, 0.9])
    assert not verdict(asked, [], [0.1, 0.2])  # nothing to compare with
    assert not verdict(asked, others, [0.7, 0.2])  # the best so far counts
    strict = config("bayes", early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3, "strict": True})
    assert "val/acc 0.2000" in verdict(strict, others, [0.7, 0.2])


def test_hyperband_agrees_with_the_engine():
    """What `stop_runs` of sweeps 0.3.0 says of the five losses in its documentation."""
    early = {"type": "hyperband", "max_iter": 5, "eta": 2, "s": 2}
    asked = config("bayes", metric={"name": "loss", "goal": "minimize"}, early_terminate=early)
    histories = {"a": (10.0, 9.0), "b": (10.0, 10.0)}
    histories |= {name: (10.0, best, best) for name, best in (("c", 8.0), ("d", 7.0), ("e", 6.0))}
    stopped = {
        name for name, one in histories.items() if verdict(asked, [o for o in histories.values() if o is not one], one)
    }
    assert stopped == {"a", "b"}


def test_a_missing_engine_says_how_to_install_it(here, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "sweeps", None)
    assert run("--runs", "2") == 2
    assert "pip install 'sweeps>=0.2,<0.3'" in capfd.readouterr().err
    empty = type(sys)("sweeps")  # what a folder called sweeps imports as
    monkeypatch.setitem(sys.modules, "sweeps", empty)
    assert not suggest.is_installed()
    assert run("--runs", "2") == 2
    assert "pip install 'sweeps>=0.2,<0.3'" in capfd.readouterr().err


# --- the journal ---


def trial(number, **more):
    return Trial(number, {"a": number}, f"{number:012x}", **more)


def test_a_journal_keeps_points_and_how_they_ended(tmp_path):
    kept = Journal(tmp_path / "j.jsonl")
    assert kept.trials() == []
    first = kept.choose(0, lambda trials: trial(len(trials)))
    assert kept.choose(0, lambda trials: pytest.fail("chosen twice")) == first
    kept.choose(1, lambda trials: trial(len(trials)))
    kept.end(first, "finished", value=0.5, history=(0.4, 0.5))
    assert kept.trials() == [trial(0, state="finished", value=0.5, history=(0.4, 0.5)), trial(1)]


def test_a_torn_line_is_taken_away(tmp_path):
    kept = Journal(tmp_path / "j.jsonl")
    kept.choose(0, lambda _: trial(0))
    whole = kept.path.read_bytes()
    kept.path.write_bytes(whole + b'{"number": 1, "val')
    assert kept.trials() == [trial(0)]
    kept.choose(1, lambda _: trial(1))
    assert kept.path.read_bytes().startswith(whole + b'{"number": 1, "values"')
    assert kept.trials() == [trial(0), trial(1)]


@pytest.mark.parametrize("line", ["no json", '{"number": 0}', '{"number": 5, "values": {}, "result": ""}', "[]"])
def test_what_is_no_journal_is_refused(tmp_path, line):
    kept = Journal(tmp_path / "j.jsonl")
    kept.path.write_text(line + "\n")
    with pytest.raises(JournalError, match=r"line 1 is no point of a search .*move the file away"):
        kept.trials()


def test_processes_share_a_journal(tmp_path):
    """Forty points chosen by two processes at once are forty points, each chosen once."""
    import subprocess

    code = """
import sys
from pathlib import Path
from lit_scaledrop.report.journal import Journal, Trial
journal = Journal(Path(sys.argv[1]))
for number in range(40):
    journal.choose(number, lambda trials: Trial(len(trials), {"by": sys.argv[2]}, ""))
"""
    path = tmp_path / "j.jsonl"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(path.read_text().splitlines()) == 40
    assert [trial.number for trial in Journal(path).trials()] == list(range(40))


def test_epochs_come_from_all_attempts(tmp_path):
    for version, text in {
        2: "epoch,val/acc\n2,0.4\n3,0.5\n4,0.",
        0: "epoch,step,val/acc,loss\n0,1,,0.3\n0,1,0.1,\n1,2,0.2,\n",
        10: "loss\n1\n",
    }.items():
        (tmp_path / f"version_{version}").mkdir()
        (tmp_path / f"version_{version}" / "metrics.csv").write_text(text)
    assert search.epochs_of(tmp_path, "val/acc") == (0.1, 0.2, 0.4, 0.5)  # the line that is being written is left out
    assert search.epochs_of(tmp_path / "none", "val/acc") == ()


# --- the whole ---


@needs_engine
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_search_runs_goes_on_and_repeats(here, capfd, jobs):
    assert run("--runs", "4", "--jobs", jobs, method="bayes") == 0
    out = capfd.readouterr().out
    assert "4 points: 4 finished, 0 stopped early, 0 failed" in out
    best = max(journal().trials(), key=lambda trial: trial.value)
    assert f"Best val/acc {best.value:.4f}: {best.name}, --a={best.values['a']}" in out
    assert best.value == pytest.approx(0.9 - 0.1 * abs(math.log10(best.values["b"]) + 2))
    assert run("--runs", "4", "--jobs", jobs, method="bayes") == 0  # nothing to do
    assert run("--runs", "6", "--jobs", jobs, method="bayes") == 0  # two more
    assert len(started()) == 6
    whole = [trial.values for trial in journal().trials()]
    for path in (journal().path, Path("started")):
        path.unlink()
    assert run("--runs", "6", "--jobs", jobs, method="bayes") == 0  # the same points: all results are there
    assert [trial.values for trial in journal().trials()] == whole
    assert not Path("started").exists()
    assert run("--runs", "6", "--jobs", jobs, "--", "--run.runs=runs", method="bayes") == 0  # the same search
    assert len(list(Path("results/quick/s").glob("search-*.jsonl"))) == 1
    assert run("--runs", "1", "--search-seed", "1", method="bayes") == 0
    assert len(list(Path("results/quick/s").glob("search-*.jsonl"))) == 2


@needs_engine
def test_a_failed_point_is_tried_again(here, capfd):
    Path("broken").touch()
    assert run("--runs", "2") == 1
    assert [trial.state for trial in journal().trials()] == ["failed", "failed"]
    assert "0 finished, 0 stopped early, 2 failed" in capfd.readouterr().out
    Path("broken").unlink()
    assert run("--runs", "2") == 0
    assert [(trial.state, trial.why) for trial in journal().trials()] == [("finished", "")] * 2
    assert len(started()) == 4
    assert len(set(started())) == 2


@needs_engine
def test_hyperband_stops_a_training(here, monkeypatch, capfd):
    """A good point has finished; a bad one, which would never end, is stopped after its second epoch."""
    space = {"b": {"value": 1.0}, "a": SPACE["a"]}
    early = {"type": "hyperband", "min_iter": 2, "eta": 3}
    assert run("--runs", "1", parameters=space, early_terminate=early) == 0
    kept = journal()
    (first,) = kept.trials()
    kept.end(first, "finished", value=0.9, history=(0.8, 0.9))
    monkeypatch.setattr(search, "_LOOK", 0.05)
    monkeypatch.setenv("HANGS", "2")
    monkeypatch.setenv("EPOCHS", "3")
    assert run("--runs", "2", parameters=space, early_terminate=early) == 0
    second = kept.trials()[1]
    assert (second.state, len(second.history)) == ("stopped", 2)
    assert second.value == max(second.history) == pytest.approx(0.65)
    out = capfd.readouterr().out
    assert "try-001: stopped, hyperband, val/acc 0.6500 after epoch 2" in out
    assert "1 finished, 1 stopped early, 0 failed" in out
    count = len(started())
    assert run("--runs", "2", parameters=space, early_terminate=early) == 0  # and is left alone
    assert len(started()) == count


@needs_engine
def test_dry_run_shows_the_next_point(here, capfd):
    assert run("--runs", "3", "--dry-run") == 0
    out = capfd.readouterr()
    assert "try-000 next -> results/quick/s/" in out.out
    assert "3 of 3 points to go" in out.err
    assert not Path("results").exists()
    assert run("--runs", "1") == 0
    assert run("--runs", "3", "--dry-run") == 0
    out = capfd.readouterr().out
    assert "try-000 finished ->" in out
    assert "try-001 next ->" in out


@needs_engine
@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        ([], {}, "how many points"),
        ([], {"run_cap": 0}, "how many points"),
        (["--only", "a*"], {"run_cap": 1}, "--only and several --seeds are of a grid"),
        (["--seeds", "1", "2"], {"run_cap": 1}, "--only and several --seeds are of a grid"),
        ([], {"run_cap": 1, "metric": {"name": "cls/acc"}}, "a metric of the validation split"),
        ([], {"run_cap": 1, "metric": None}, "a metric of the validation split"),
        ([], {"run_cap": 1, "parameters": {"a": {"min": 0}}}, "s.yaml: "),
        ([], {"run_cap": 1, "parameters": {"a": {"distribution": "uniform", "min": 1, "max": 0}}}, "s.yaml: "),
        ([], {"run_cap": 1, "parameters": {"a": {"values": [None]}}}, "a has a null"),
        ([], {"run_cap": 1, "parameters": {"m": {"parameters": {"p": {"value": 1}}}}}, "m is nested"),
    ],
)
def test_bad_files_are_refused_before_anything_runs(here, capfd, words, changes, message):
    assert run(*words, **({"method": "bayes"} | changes)) == 2
    assert message in capfd.readouterr().err
    assert not Path("started").exists()
