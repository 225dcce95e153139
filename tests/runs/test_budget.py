"""``--budget``: the epochs that fit, decided once, recorded as ordinary epochs; for one run and for a sweep."""

import json
import math

import pytest
import torch

from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.runs import budget
from lit_scaledrop.runs.budget import Speed, epochs_within, measure
from stand_ins import TINY

LONG = TINY.replace("width: 0.5", "width: 0.25, optimizer: sgd").replace("max_epochs: 2", "max_epochs: 6")
FIT = ("fit", "--config", "long.yaml")


@pytest.fixture
def long(place):
    (place / "long.yaml").write_text(LONG)
    return place


@pytest.fixture
def speed(monkeypatch):
    """Two seconds to begin, one an epoch, one to evaluate; how often it was asked for."""
    asked = []
    monkeypatch.setattr(budget, "measure", lambda plan: asked.append(plan) or Speed(2.0, 1.0, 1.0))
    return asked


def results(place):
    return [json.loads(path.read_text()) for path in sorted(place.glob("results/quick/tiny/*.json"))]


def test_a_budget_is_an_ordinary_run_of_the_epochs_that_fit(long, speed, capsys):
    assert main([*FIT, "--budget", "8.5s"]) == 0  # 0.95 * 8.5 - 2 * 2 - 1 = 3.1
    assert "3 epochs of 1.00 s fit into 9s" in capsys.readouterr().err
    (result,) = results(long)
    assert result["training"]["epochs"] == 3
    assert result["config"]["trainer"]["max_epochs"] == 3
    assert result["id"] == plan_fit([*FIT[1:], "--trainer.max_epochs=3"]).id
    assert main([*FIT, "--trainer.max_epochs=3"]) == 0
    assert "finished already" in capsys.readouterr().out


def test_the_same_command_goes_on_with_what_was_decided(long, speed, monkeypatch, capsys):
    assert main([*FIT, "--budget=8.5s"]) == 0
    monkeypatch.setattr(budget, "measure", lambda plan: Speed(2.0, 0.1, 1.0))
    assert main([*FIT, "--budget=8.5s"]) == 0  # the machine is faster now, and the run is the same
    assert "finished already" in capsys.readouterr().out
    assert main([*FIT, "--budget=60s"]) == 0
    assert [result["training"]["epochs"] for result in results(long)].count(6) == 1  # no more than the profile has


def test_the_last_epoch_is_one_that_is_validated(long, speed):
    flags = [*FIT[1:], "--trainer.check_val_every_n_epoch=2"]
    assert epochs_within(plan_fit(flags), 9.6) == 4  # 4.1
    assert epochs_within(plan_fit(flags), 10.6) == 4  # 5.07
    assert epochs_within(plan_fit(flags), 6.5) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--budget", "5s"], "--budget 5s is too short for one epoch: 7s are needed here"),
        (["--budget", "soon"], "--budget takes a time such as 9m, 1h30m or 90s, not 'soon'"),
        (["--budget", "0s"], "--budget takes a time"),
        (["--budget"], "--budget takes a time"),
        (["--budget", "1h", "--model.schedule=constant"], "a constant learning rate does not depend"),
        (["--budget", "1h", "--trainer.max_epochs=3"], "remove --trainer.max_epochs and --trainer.max_steps"),
        (["--budget", "1h", "--trainer.max_steps=3"], "remove --trainer.max_epochs and --trainer.max_steps"),
        (["--budget", "1h", "--trainer.devices=2"], "measured on one device"),
        (["--budget", "1h", "--model.method=deep_ensemble"], "give its members a budget by `scaledrop sweep --budget`"),
    ],
)
def test_bad_budgets_are_one_line_and_nothing_is_trained(long, speed, flags, message, capsys):
    assert main([*FIT, *flags]) in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2  # and how to see where
    assert message in said[0]
    assert not list(long.glob("runs/**/*.ckpt"))


def test_the_measurement_leaves_nothing_behind(long):
    before = torch.get_rng_state()
    found = measure(plan_fit([*FIT[1:], "--model.method=proposed"]))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(0 < seconds < math.inf for seconds in (found.start, found.epoch, found.evaluation))
    assert not (long / "runs").exists()
    assert not (long / "results").exists()


SWEEP = """
program: lit_scaledrop
method: grid
parameters:
  model.method: {values: [proposed, irnet]}
command: ["${interpreter}", -W, ignore, -m, lit_scaledrop, fit, --config, long.yaml, "${args}"]
"""


@pytest.mark.slow
def test_a_sweep_divides_its_budget_over_the_points(long, speed, capsys, monkeypatch):
    (long / "sweep.yaml").write_text(SWEEP)
    clock = iter([0.0, 0.0, 8.0, 0.0, 0.0, 8.0])  # the first point takes 8 of the 18 seconds
    monkeypatch.setattr("lit_scaledrop.cli.sweep.monotonic", lambda: next(clock))
    assert main(["sweep", "sweep.yaml", "--budget", "18s"]) == 0
    epochs = {result["method"]: result["training"]["epochs"] for result in results(long)}
    assert epochs == {"proposed": 3, "irnet": 4}  # of 9 and of 10 seconds
    capsys.readouterr()
    assert main(["sweep", "sweep.yaml", "--budget", "18s"]) == 0
    assert capsys.readouterr().out.count("skipped, finished already") == 2
    assert len(speed) == 2


class Runs:
    """A runner whose points all end well; the slow test above runs real ones."""

    run = staticmethod(lambda: 0)


def test_a_sweep_goes_on_behind_a_point_whose_share_is_too_short(long, monkeypatch, capsys):
    (long / "sweep.yaml").write_text(SWEEP)
    slow = iter([Speed(2.0, 60.0, 1.0), Speed(2.0, 1.0, 1.0)])
    monkeypatch.setattr(budget, "measure", lambda plan: next(slow))
    runs = []
    monkeypatch.setattr("lit_scaledrop.cli.sweep.Runner", lambda points, *_, **__: runs.extend(points) or Runs)
    assert main(["sweep", "sweep.yaml", "--budget", "60s"]) == 1
    assert "proposed: --budget" in capsys.readouterr().err
    (point,) = runs
    assert (point.name, point.argv[-1]) == ("irnet", "--trainer.max_epochs=6")
    assert point.result == plan_fit(point.argv[point.argv.index("fit") + 1 :]).result
