"""Random and Bayesian search with a formula in place of a training: space, seeds, the journal, pruning, refusals."""

import json
import math
import os
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from lit_scaledrop.cli import sweep
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.trials import JournalError, Trial, trials_in, write_trials
from lit_scaledrop.sweep import search
from lit_scaledrop.sweep.file import SweepError
from lit_scaledrop.sweep.pruner import scores
from lit_scaledrop.sweep.space import search_space
from lit_scaledrop.sweep.study import Study
from stand_ins import RESULT, plan, sweep_folder

needs_optuna = pytest.mark.skipif(
    not find_spec("optuna"), reason="the extra `search` is not installed: pip install 'optuna>=5,<6'"
)
SPACE = {
    "a": {"distribution": "uniform", "min": 0.0, "max": 0.1234567},
    "b": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0},
    "c": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
    "d": {"distribution": "int_uniform", "min": 1, "max": 3},
    "e": {"values": ["x", [0.1, 0.2]]},
    "f": {"value": 7},
}
EARLY = {"type": "hyperband", "min_iter": 2, "eta": 3}
METRIC = {"name": "val/acc", "goal": "maximize"}
TWO = [{"name": "val/nll", "goal": "minimize"}, METRIC]
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
record["training"]["logged"] = {"val/nll": 1 + best * float(given.get("a", 0))}
record["id"] = path.stem
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(record))
"""


def config(method="random", parameters=SPACE, metric=METRIC, **more):
    return {"method": method, "metric": metric, "parameters": parameters, "command": COMMAND, **more}


@pytest.fixture
def here(tmp_path, monkeypatch):
    return sweep_folder(tmp_path, monkeypatch, child=CHILD)


def run(*words, **changes) -> int:
    Path("s.yaml").write_text(yaml.safe_dump({"program": "x", **config(**changes)}, sort_keys=False))
    return sweep.main(["s.yaml", *words], plan)


def started() -> list[str]:
    return Path("started").read_text().splitlines()


def tried() -> list[Trial]:
    return trials_in(Path("results/quick/s"), pytest.fail)


def journals() -> list[Path]:
    return sorted(Path("results/quick/s").glob("search-*.log"))


# --- what is sampled ---


def sampled(method, count, value, space=SPACE, seed=0, jobs=1) -> list[dict]:
    """Values of the first trials, which end with `value` of them."""
    study = Study(config(method, space), seed, jobs)
    for number in range(count):
        trial = study.choose(number, lambda _: "")
        study.end(trial, [], value(trial.values))
    return [trial.values for trial in study.trials()]


@needs_optuna
@pytest.mark.parametrize("method", ["random", "bayes"])
def test_values_keep_to_their_space(method):
    for values in sampled(method, 15, lambda values: values["a"], seed=3):
        assert 0 <= values["a"] <= 0.1234567
        assert 1e-4 <= values["b"] <= 1
        assert values["c"] in (0, 0.25, 0.5, 0.75, 1)
        assert values["d"] in (1, 2, 3)
        assert values["e"] in ("x", [0.1, 0.2])
        assert values["f"] == 7
        assert all(type(value) in (int, float, str, list) for value in values.values())


LAWS = {  # of W&B's names: the median, and the first quartile
    "uniform": ({"min": 2.0, "max": 6.0}, 4, 3),
    "q_uniform": ({"min": 0, "max": 100, "q": 5}, 50, 25),
    "log_uniform": ({"min": 0, "max": math.log(16)}, 4, 2),
    "q_log_uniform": ({"min": 0, "max": math.log(16), "q": 1}, 4, 2),
    "inv_log_uniform": ({"min": 0, "max": math.log(16)}, 1 / 4, 1 / 8),
    "log_uniform_values": ({"min": 1, "max": 16}, 4, 2),
    "q_log_uniform_values": ({"min": 1, "max": 16, "q": 1}, 4, 2),
    "inv_log_uniform_values": ({"min": 1, "max": 16}, 4, 2),
    "int_uniform": ({"min": 0, "max": 7}, 4, 2),
    "normal": ({"mu": 3, "sigma": 2}, 3, 3 - 2 * 0.6745),
    "q_normal": ({"mu": 0, "sigma": 20, "q": 1.5}, 0, -13.5),
    "log_normal": ({}, 1, math.exp(-0.6745)),
    "q_log_normal": ({"mu": 5, "q": 10}, 150, 80),
    "beta": ({"a": 2, "b": 1}, math.sqrt(1 / 2), 1 / 2),
    "q_beta": ({"a": 2, "b": 1, "q": 0.1}, 0.7, 0.5),
    "categorical_w_probabilities": ({"values": [1, 2, 9], "probabilities": [0.4, 0.3, 0.3]}, 2, 1),
    "categorical": ({"values": [1, 2, 3, 4, 5, 6, 7, 8]}, 4.5, 2.5),
}


@needs_optuna
@pytest.mark.parametrize("law", LAWS)
def test_laws_are_those_of_wandb(law):
    """Quartiles of 600 draws against the closed form, within four standard errors of the share that lies below."""
    entry, *expected = LAWS[law]
    one = search_space({"x": {"distribution": law, **entry}})["x"]
    from optuna import create_study
    from optuna.samplers import RandomSampler

    study = create_study(sampler=RandomSampler(1))
    draws = [one.value(study.ask({"x": one.distribution}).params["x"]) for _ in range(600)]
    for share, quantile in zip((0.5, 0.25), expected, strict=True):
        error = 4 * math.sqrt(share * (1 - share) / 600)
        assert statistics.mean(x < quantile - 1e-9 for x in draws) <= share + error
        assert statistics.mean(x <= quantile + 1e-4 * abs(quantile) for x in draws) >= share - error
    if "q" in entry:
        assert all(abs(x / entry["q"] - round(x / entry["q"])) < 1e-6 for x in draws)
        assert all(type(x) is type(entry["q"]) for x in draws)


@needs_optuna
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"min": 0}, "uniform needs max"),
        ({"distribution": "uniform", "min": 1, "max": 0}, "min 1 is above max 0"),
        ({"distribution": "int_uniform", "min": 1, "max": 2.5}, "whole numbers"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "min 0 of log_uniform_values must be above 0"),
        ({"distribution": "unifrom", "min": 0, "max": 1}, "unknown distribution 'unifrom'"),
        ({"distribution": "uniform", "min": 0, "max": 1, "q": 1}, "uniform has no q"),
        ({"distribution": "uniform", "min": "1e-3", "max": 1}, "min must be a number, not '1e-3'"),
        ({"distribution": "normal", "sigma": 0}, "sigma must be above 0"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "with the sum 1"),
        ({"values": [1, 2], "probabilities": [1.0]}, "one a value"),
    ],
)
def test_a_parameter_is_refused(entry, message):
    with pytest.raises(SweepError, match=f"^x: .*{message}"):
        search_space({"x": entry})


@needs_optuna
def test_a_seed_repeats_and_the_global_stream_is_untouched():
    import numpy as np

    np.random.seed(5)
    expected = np.random.uniform()
    np.random.seed(5)
    first, again, other = (sampled("bayes", 13, lambda values: values["a"], seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert np.random.uniform() == expected


@needs_optuna
def test_bayes_goes_where_it_is_better():
    """The mean distance to the optimum of the last ten points, against that of random points."""

    def distance(method):
        def off(values):
            return abs(math.log10(values["b"]) + 2)

        return sum(map(off, sampled(method, 30, lambda values: -off(values), {"b": SPACE["b"]}, seed=1)[-10:]))

    assert distance("bayes") < 0.7 * distance("random")


@needs_optuna
def test_a_round_knows_the_rounds_before_it_only():
    """Whether its first trials have ended when its last one is sampled makes no difference."""
    ends = {True: [], False: []}
    for late, found in ends.items():
        study = Study(config("bayes"), 0, 4)
        for number in range(16):
            trial = study.choose(number, lambda _: "")
            if late and number >= 12:
                continue
            study.end(trial, [], trial.values["b"])
        found += [trial.values for trial in study.trials()]
    assert ends[True] == ends[False]


@needs_optuna
def test_the_worse_are_pruned_and_never_the_best():
    def pruned(*history, **rule):
        early = {"type": "hyperband", "min_iter": 2, "eta": 3} | rule
        study = Study(config("bayes", early_terminate=early), 0, 1)
        for n in range(6):
            study.end(study.choose(n, lambda _: ""), scores(early, [0.2, 0.3 + n / 10, 0.5 + n / 10], max), 0.5)
        contest = study.contest(6)
        for epoch, score in enumerate(scores(early, history, max), 1):
            contest.report(score, epoch)
            if contest.should_prune():
                return epoch
        return 0

    assert pruned(0.1) == 0  # before the first rung
    assert pruned(0.1, 0.65) == 2  # of seven two may go on: 0.7 and 0.8
    assert pruned(0.1, 0.75) == pruned(0.1, 0.9, 0.1, 0.1) == 0
    assert pruned(0.8, 0.2) == 0  # the best so far counts
    assert pruned(0.8, 0.2, strict=True) == 2
    assert pruned(0.1, 0.65, max_iter=18, s=2, min_iter=2) == 2


def test_a_missing_optuna_says_how_to_install_it(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match="a search needs the extra `search`: pip install 'optuna"):
        run("--runs", "2")


# --- the journal and the table ---


def kept(path: Path) -> Study:
    study = Study(config(), 0, 1)
    study.open(path)
    return study


@needs_optuna
def test_a_journal_keeps_trials_and_how_they_ended(tmp_path):
    study = kept(tmp_path / "j.log")
    chosen = [study.choose(number, lambda trial: f"id-{trial.number}") for number in range(3)]
    assert study.choose(0, lambda _: pytest.fail("chosen twice")) == chosen[0]
    study.end(chosen[0], [0.4, 0.5], 0.5)
    study.end(chosen[1], [0.3, 0.4], why="hyperband")
    study.fail(chosen[2], "it broke")
    other = kept(tmp_path / "j.log")
    assert [(t.state, t.value, t.why, t.result) for t in other.trials()] == [
        ("finished", 0.5, "", "id-0"), ("stopped", 0.4, "hyperband", "id-1"), ("failed", None, "it broke", "id-2"),
    ]  # fmt: skip
    other.fail(chosen[0], "another process was late")
    other.end(chosen[2], [0.1], 0.1)
    assert [(t.state, t.why) for t in study.trials()] == [("finished", ""), ("stopped", "hyperband"), ("finished", "")]
    write_trials(tmp_path / "search-0.jsonl", study.trials())
    assert trials_in(tmp_path, pytest.fail) == study.trials()


@needs_optuna
def test_a_torn_line_is_taken_away(tmp_path):
    path = tmp_path / "j.log"
    first = kept(path).choose(0, lambda _: "")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker')
    study = kept(path)
    assert study.trials() == [first]
    study.choose(1, lambda _: "")
    assert path.read_bytes().startswith(whole + b'{"op_code":')
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert len(kept(path).trials()) == 2


@needs_optuna
@pytest.mark.parametrize("line", ["no json", "{}", "[]", '{"op_code": 99, "worker_id": "x"}', "[" * 100_000])
def test_what_is_no_journal_is_refused(tmp_path, line):
    (tmp_path / "j.log").write_text(line + "\n")
    with pytest.raises(JournalError, match=r"j\.log holds no trials of a search .*move the file away"):
        kept(tmp_path / "j.log")


SOUND = Trial(0, {"a": 1}, "x", "finished", 0.5)
ODD = [{"number": "x"}, {"values": 5}, {"result": None}, {"state": "lost"}, {"value": "a"}, {"why": 2}]


@pytest.mark.parametrize(
    "line",
    ["no json", '{"number": 0}', "[]", "3", "[" * 100_000, "pipe", *(json.dumps(vars(SOUND) | odd) for odd in ODD)],
)
def test_what_is_no_table_is_named_and_left_out(tmp_path, line):
    bad, said = tmp_path / "search-0.jsonl", []
    os.mkfifo(bad) if line == "pipe" else bad.write_text(line + "\n")
    write_trials(tmp_path / "search-1.jsonl", [SOUND])
    assert trials_in(tmp_path, said.append) == [SOUND]
    (why,) = said
    assert re.search(r"search-0\.jsonl holds no trials of a search .*move the file away", why)


def test_the_table_of_an_earlier_release_is_read(tmp_path):
    lines = [
        {"number": 0, "values": {"a": 1}, "result": "x", "state": state, "value": value, "history": [], "why": ""}
        for state, value in (("chosen", None), ("finished", 0.5))
    ]
    (tmp_path / "search-0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert trials_in(tmp_path, pytest.fail) == [Trial(0, {"a": 1}, "x", "finished", 0.5)]


@needs_optuna
def test_processes_share_a_journal(tmp_path):
    """Twenty trials chosen by two processes at once are each chosen once, though a third dies with the lock."""
    code = """
import os, sys, time
from pathlib import Path
from lit_scaledrop.sweep.study import Study
study = Study({"method": "random", "metric": {"name": "val/acc"}, "parameters": {"a": {"min": 0.0, "max": 1.0}}}, 0, 1)
study.open(Path(sys.argv[1]))
def result(trial):
    if sys.argv[2] == "dies": os.kill(os.getpid(), 9)
    time.sleep(0.05)  # time for the others to choose as well
    return sys.argv[2]
for number in range(20):
    study.choose(number, result)
"""
    path = tmp_path / "j.log"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("dies", "a", "b")]
    assert [process.wait(120) for process in processes][1:] == [0, 0]
    study = Study(config("random", {"a": {"min": 0.0, "max": 1.0}}), 0, 1)
    study.open(path, read_only=True)
    assert [trial.number for trial in study.trials()] == list(range(20))


def test_epochs_come_from_all_attempts(tmp_path):
    for version, text in {
        2: "epoch,val/acc\n2,0.4\n3,0.5\n4,0.",
        0: "epoch,step,val/acc,loss\n0,1,,0.3\n0,1,0.1,\n1,2,0.2,\n",
        10: "loss\n1\n",
    }.items():
        (tmp_path / "logs" / f"version_{version}").mkdir(parents=True)
        (tmp_path / "logs" / f"version_{version}" / "metrics.csv").write_text(text)
    assert search.epochs_of(tmp_path, "val/acc") == (0.1, 0.2, 0.4, 0.5)  # the line that is being written is left out
    assert search.epochs_of(tmp_path / "none", "val/acc") == ()


# --- the whole ---


@needs_optuna
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_search_runs_goes_on_and_repeats(here, capfd, jobs):
    assert run("--runs", "4", "--jobs", jobs, method="bayes") == 0
    out = capfd.readouterr().out
    assert "4 points: 4 finished, 0 stopped early, 0 failed" in out
    best = max(tried(), key=lambda trial: trial.value)
    assert f"Best val/acc {best.value:.4f}: {best.name}, --a={best.values['a']}" in out
    assert best.value == pytest.approx(0.9 - 0.1 * abs(math.log10(best.values["b"]) + 2))
    assert run("--runs", "4", "--jobs", jobs, method="bayes") == 0  # nothing to do
    assert run("--runs", "6", "--jobs", jobs, method="bayes") == 0  # two more
    assert len(started()) == 6
    whole = tried()
    for path in (*journals(), Path("started")):
        path.unlink()
    assert run("--runs", "6", "--jobs", jobs, method="bayes") == 0  # the same points: all results are there
    assert tried() == whole
    assert not Path("started").exists()
    assert run("--runs", "6", "--jobs", jobs, "--", "--run.runs=runs", method="bayes") == 0  # the same search
    assert len(journals()) == 1
    assert run("--runs", "1", "--search-seed", "1", method="bayes") == 0
    assert len(journals()) == 2


@needs_optuna
def test_a_search_by_two_metrics_ends_with_its_front(here, capfd):
    assert run("--runs", "12", "--jobs", "3", method="bayes", metrics=TWO) == 0
    out = capfd.readouterr().out
    trials = tried()
    for trial in trials:
        acc = 0.9 - 0.1 * abs(math.log10(trial.values["b"]) + 2)
        assert trial.scores == pytest.approx([1 + acc * trial.values["a"], acc])

    def beaten(nll, acc):
        others = (trial.scores for trial in trials if trial.scores != [nll, acc])
        return any(other <= nll and more >= acc for other, more in others)

    front = [trial for trial in trials if not beaten(*trial.scores)]
    assert len(front) < len(trials)  # there are points to leave out
    _, _, said = out.partition(f"On the Pareto front of val/nll and val/acc, {len(front)} of 12:\n")
    lines = [line for line in said.splitlines() if line.startswith("  val/nll")]
    assert [line.partition(": ")[2].partition(",")[0] for line in lines] == [trial.name for trial in front]
    nll, acc = front[0].scores
    assert lines[0].startswith(f"  val/nll {nll:.4f}, val/acc {acc:.4f}: {front[0].name}, --a=")
    assert run("--runs", "12", "--jobs", "3", method="bayes", metrics=TWO) == 0  # nothing to do
    assert len(started()) == 12
    assert tried() == trials
    assert run("--runs", "1", method="bayes") == 0
    assert len(journals()) == 2  # by one metric it is another search


@needs_optuna
def test_a_search_by_two_metrics_goes_where_both_are_better():
    """The distance to the front, which is between the optima of the goals, against that of random points."""

    def outside(method):
        def goals(values):
            place = math.log10(values["b"]) + 2
            return abs(place), abs(place - 0.5)

        two = [{"name": "val/x"}, {"name": "val/y"}]
        study = Study(config(method, {"b": SPACE["b"]}, metrics=two), 1, 1)
        for number in range(40):
            trial = study.choose(number, lambda _: "")
            study.end(trial, [], goals(trial.values))
        places = [math.log10(trial.values["b"]) + 2 for trial in study.trials()[-15:]]
        return statistics.mean(max(-place, place - 0.5, 0) for place in places)

    assert outside("bayes") < 0.6 * outside("random")


def test_a_metric_is_the_mean_over_the_parts_where_a_probe_measured_it():
    areas = [Measurement({"val/auroc/energy": area}, {"suite": suite}) for suite, area in (("a", 0.5), ("b", 0.75))]
    found = replace(Result.from_json(RESULT), measurements=[*areas, Measurement({"val/predictive_nll": 1.5})])
    assert search._value(found, "val/auroc/energy") == 0.625
    assert search._value(found, "val/predictive_nll") == 1.5
    with pytest.raises(SweepError, match=r"no metric val/y; there are val/auroc/energy, val/predictive_nll"):
        search._value(found, "val/y")


@needs_optuna
def test_a_failed_point_is_tried_again(here, capfd):
    Path("broken").touch()
    assert run("--runs", "2") == 1
    assert [trial.state for trial in tried()] == ["failed", "failed"]
    assert "0 finished, 0 stopped early, 2 failed" in capfd.readouterr().out
    Path("broken").unlink()
    assert run("--runs", "2") == 0
    assert [(trial.state, trial.why) for trial in tried()] == [("finished", "")] * 2
    assert len(started()) == 4
    assert len(set(started())) == 2


@needs_optuna
def test_hyperband_stops_a_training(here, monkeypatch, capfd):
    """A good point has finished; a bad one, which would never end, is stopped after its second epoch."""
    space = {"b": {"value": 1.0}, "a": SPACE["a"]}
    early = EARLY
    child = Path("child.py").read_text()
    Path("child.py").write_text(child.replace("- 0.1 / (epoch + 1)", "- 0.1 / (epoch + 1) + 0.2"))
    assert run("--runs", "1", parameters=space, early_terminate=early) == 0
    Path("child.py").write_text(child)
    monkeypatch.setattr(search, "_LOOK", 0.05)
    monkeypatch.setenv("HANGS", "2")
    monkeypatch.setenv("EPOCHS", "3")
    assert run("--runs", "2", parameters=space, early_terminate=early) == 0
    second = tried()[1]
    assert (second.state, second.value) == ("stopped", pytest.approx(0.65))
    out = capfd.readouterr().out
    assert "try-001: stopped, hyperband, val/acc 0.6500 after epoch 2" in out
    assert "1 finished, 1 stopped early, 0 failed" in out
    count = len(started())
    assert run("--runs", "2", parameters=space, early_terminate=early) == 0  # and is left alone
    assert len(started()) == count


@needs_optuna
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


@needs_optuna
@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        ([], {}, "how many points"),
        ([], {"run_cap": 0}, "how many points"),
        (["--only", "a*"], {"run_cap": 1}, "--only and several --seeds are for grids"),
        (["--seeds", "1", "2"], {"run_cap": 1}, "--only and several --seeds are for grids"),
        ([], {"run_cap": 1, "metric": {"name": "cls/acc"}}, "a search needs 'metric:"),
        ([], {"run_cap": 1, "metric": None}, "a search needs 'metric:"),
        ([], {"run_cap": 1, "metrics": []}, "or 'metrics:' with several"),
        ([], {"run_cap": 1, "metrics": METRIC}, "or 'metrics:' with several"),
        ([], {"run_cap": 1, "metrics": [METRIC, {"name": "cls/nll"}]}, "nothing is selected on test images"),
        ([], {"run_cap": 1, "metrics": [METRIC, METRIC]}, "metrics: names one twice; there are val/acc"),
        ([], {"run_cap": 1, "metrics": TWO, "early_terminate": EARLY}, "compares trainings by one metric"),
        ([], {"run_cap": 1, "parameters": {"a": {"min": 0}}}, "s.yaml: a: uniform needs max"),
        ([], {"run_cap": 1, "metric": METRIC | {"goal": "most"}}, "goal is minimize or maximize, not 'most'"),
        ([], {"run_cap": 1, "early_terminate": {"type": "median"}}, "the only type is hyperband"),
        ([], {"run_cap": 1, "early_terminate": {"type": "hyperband", "eta": 3}}, "needs min_iter, or max_iter and s"),
        ([], {"run_cap": 1, "early_terminate": EARLY | {"eta": 1.5}}, "eta must be a whole number of at least 2"),
        ([], {"run_cap": 1, "early_terminate": EARLY | {"etta": 3}}, "hyperband has no etta"),
        ([], {"run_cap": 1, "parameters": {"a": {"values": [None]}}}, "a has a null"),
        ([], {"run_cap": 1, "parameters": {"m": {"parameters": {"p": {"value": 1}}}}}, "m is nested"),
    ],
)
def test_bad_files_are_refused_before_anything_runs(here, capfd, words, changes, message):
    assert run(*words, **({"method": "bayes"} | changes)) == 2
    assert message in capfd.readouterr().err
    assert not Path("started").exists()
