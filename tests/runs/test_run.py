"""A run from its start to its record: what is written, what is repeated, and what survives an interruption."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Timer

from fakes import write_fake_mnist
from lit_scaledrop.__main__ import main
from lit_scaledrop.callbacks import AttemptTimer
from lit_scaledrop.cli import fit as cli
from lit_scaledrop.cli import training
from lit_scaledrop.evaluation.checkpoint import load_trained, read_checkpoint
from lit_scaledrop.layers.binary import EDE
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.diagnosis import Diagnosis
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.store import read_result
from lit_scaledrop.runs.run import Run, exclusive, require_writable, resume_checkpoint
from stand_ins import FIT

# `fit` in a process that is killed in the middle of its second epoch
KILLED = """
import os, signal, sys
from lit_scaledrop import modules
from lit_scaledrop.__main__ import main

step = modules.LitClassifier.training_step

def stepped(self, batch, batch_idx):
    if self.current_epoch == 1 and batch_idx == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

modules.LitClassifier.training_step = stepped
main(sys.argv[1:])
"""


def only(pattern: str, folder: Path = Path()) -> Path:
    (path,) = folder.glob(pattern)
    return path


def state(folder: Path) -> dict:
    return torch.load(only("runs/quick/tiny/*/checkpoints/last.ckpt", folder), weights_only=True)


def assert_same_training(one: Path, other: Path) -> None:
    """The same weights, optimizer and numbers, bit for bit."""
    a, b = state(one), state(other)
    assert (a["epoch"], a["global_step"]) == (b["epoch"], b["global_step"])
    assert a["state_dict"].keys() == b["state_dict"].keys()
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])
    (moments_a,), (moments_b,) = a["optimizer_states"], b["optimizer_states"]
    for index, moments in moments_a["state"].items():
        assert all(torch.equal(value, moments_b["state"][index][name]) for name, value in moments.items())
    assert a["lr_schedulers"][0]["last_epoch"] == b["lr_schedulers"][0]["last_epoch"]
    results = [read_result(only("results/quick/tiny/*.json", folder)) for folder in (one, other)]
    assert results[0].metrics == results[1].metrics
    assert results[0].id == results[1].id
    for name in ("epochs", "best_epoch", "val_acc", "curve"):
        assert results[0].training[name] == results[1].training[name]


@pytest.fixture
def trained(place, finished) -> Path:
    """A place in which the tiny run is finished."""
    shutil.copytree(finished, place, dirs_exist_ok=True)
    return place


@pytest.fixture
def unrecorded(trained) -> Path:
    """Its folder of checkpoints, of a run that was killed before its record."""
    only("results/quick/tiny/*.json").unlink()
    return only("runs/quick/tiny/*/checkpoints")


# --- the record ---


def test_record_of_a_run(finished, fake_cifar):
    path = only("results/quick/tiny/*.json", finished)
    result = read_result(path)
    assert path.stem == result.id
    assert (result.study, result.profile, result.network, result.method) == ("tiny", "quick", "lenet5", "proposed")
    assert (result.label, result.bits_w, result.bits_a, result.bayesian, result.seed) == ("Proposed", 1, 1, True, 1)
    described = {"name": "cifar10", "stand_in": False, "source": "batches (unofficial)", "train": 180, "val": 20}
    assert {**result.data, **described, "test": 60} == result.data
    assert re.fullmatch("[0-9a-f]{16}", result.data["fingerprint"])
    assert result.training["epochs"] == 2
    assert result.training["world_size"] == 1
    assert result.training["precision"] == "32-true"
    assert result.training["best_epoch"] in (0, 1)
    assert {"loss/task", "loss/scale", "loss/weight", "val/acc"} <= result.training["logged"].keys()
    curve = result.training["curve"]
    assert curve.keys() == {"epoch", "loss_task", "val_acc"}
    assert curve["epoch"] == [1, 2]
    assert curve["val_acc"][result.training["best_epoch"]] == pytest.approx(result.training["val_acc"], abs=5e-5)
    assert curve["loss_task"][-1] == pytest.approx(result.training["logged"]["loss/task"], abs=5e-5)
    assert result.evaluation["samples"] == 3
    assert result.evaluation["images"] == 60
    assert result.metrics["cls/acc"] * 60 == pytest.approx(round(result.metrics["cls/acc"] * 60))
    assert result.config["model"]["init_args"]["lr"] == 0.01
    assert result.config["data"]["init_args"]["seed"] == 1
    assert result.provenance["command"] == "scaledrop fit --config tiny.yaml"
    assert result.provenance["versions"]["torch"] == importlib.metadata.version("torch")
    assert result.provenance["started"] <= result.provenance["finished"]


def test_record_of_grey_images_says_that_they_are(place):
    write_fake_mnist(place / "grey", n_train=200, n_test=60)
    flags = ["--data=MNISTDataModule", f"--data.root={place / 'grey'}", "--trainer.max_epochs=1"]
    assert main([*FIT, *flags]) == 0
    path = only("results/quick/tiny/*.json")
    assert read_result(path).config["model"]["init_args"]["in_channels"] == 1
    assert path == cli.planned_result([*FIT[1:], *flags])
    logged = yaml.safe_load(only("runs/quick/tiny/*/logs/version_0/hparams.yaml").read_text())
    assert logged["model"]["init_args"]["in_channels"] == logged["in_channels"] == 1


def test_record_names_no_folder_of_this_machine(place, fake_cifar):
    folders = [f"--data.root={fake_cifar}", f"--run.runs={place / 'r'}", f"--run.results={place / 'out'}"]
    assert main(["fit", "--config", str(place / "tiny.yaml"), *folders, "--trainer.max_epochs=1"]) == 0
    text = only("out/quick/tiny/*.json").read_text()
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    assert not [string for string in strings if re.search(r"(^|[\s=:'\[])/\w", string)]
    command = json.loads(text)["provenance"]["command"]
    root = fake_cifar.name
    assert command == (
        f"scaledrop fit --config tiny.yaml --data.root={root} --run.runs=r --run.results=out --trainer.max_epochs=1"
    )


def test_csv_log_has_training_and_test_metrics(finished):
    log = only("runs/quick/tiny/*/logs/version_0/metrics.csv", finished).read_text().splitlines()
    columns = log[0].split(",")
    assert {"loss/total", "loss/task", "loss/scale", "loss/weight", "val/acc", "val/nll", "test/cls/acc"} <= {*columns}
    tested = dict(zip(columns, log[-1].split(","), strict=True))
    result = read_result(only("results/quick/tiny/*.json", finished))
    assert float(tested["test/cls/acc"]) == result.metrics["cls/acc"]
    assert int(tested["step"]) == 2 * (180 // 32)


def test_a_training_ends_with_a_diagnosis(unrecorded, finished, capsys):
    assert main([*FIT]) == 0
    result = read_result(only("results/quick/tiny/*.json"))
    assert result.measurements == read_result(only("results/quick/tiny/*.json", finished)).measurements
    information = result.at(suite="validation")["unc/mutual_information"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("accuracy ")
    assert lines[-2].startswith("checkpoint: ")
    assert lines[-1].startswith(f"the passes agree: mutual information is {information:.4f} nats on 20 validation ")
    log = only("runs/quick/tiny/*/logs/version_0/metrics.csv", finished).read_text().splitlines()
    logged = dict(zip(log[0].split(","), log[-1].split(","), strict=True))
    assert float(logged["validation/unc/mutual_information"]) == information
    layers = [one for one in result.measurements if "layer" in one.at]
    assert len(layers) == 3
    for one in layers:
        for name, value in one.metrics.items():
            assert float(logged[f"{one.at['layer']}/{name}"]) == value


@pytest.mark.parametrize("information", [0.0299, 0.0301])
def test_a_training_says_where_its_passes_agree(unrecorded, capsys, monkeypatch, information):
    found = Diagnosis((), information, 20, 3)
    monkeypatch.setattr(training, "diagnosed", lambda *_: found)
    assert main([*FIT]) == 0
    assert ("the passes agree" in capsys.readouterr().out) == (information < 0.03)


def test_a_diagnosis_that_fails_costs_no_result(unrecorded, finished, capsys, monkeypatch):
    before = []

    def fails(*_):
        # a result is written once and whole: what is killed here evaluates again, and ends with a diagnosis
        before.extend(Path("results/quick").rglob("*.json"))
        raise KeyError("auxiliary")

    monkeypatch.setattr(training, "diagnosed", fails)
    assert main([*FIT]) == 0
    assert "no diagnosis (KeyError: 'auxiliary')" in capsys.readouterr().out
    result, whole = (read_result(only("results/quick/tiny/*.json", at)) for at in (Path(), finished))
    assert before == []
    assert result.metrics == whole.metrics
    assert result.measurements == whole.measurements[:1]


def test_a_finished_run_is_not_repeated(trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert main([*FIT]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == f"finished already: {only('results/quick/tiny/*.json')}"
    assert "epoch" not in err
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()} == before


def test_half_written_result_is_moved_aside_and_the_run_completed(trained, capsys):
    path = only("results/quick/tiny/*.json")
    whole = path.read_text()
    path.write_text(whole[:700])
    assert main([*FIT]) == 0
    assert path.with_name(path.name + ".broken").read_text() == whole[:700]
    assert read_result(path).measurements == Result.from_json(whole).measurements
    assert "epoch 1/2" not in capsys.readouterr().err  # its checkpoints were whole: nothing is trained again


def test_a_trial_leaves_no_record(place, capsys):
    assert main([*FIT, "--trainer.fast_dev_run=1"]) == 0
    assert "no result is written" in capsys.readouterr().out
    assert not list(place.glob("results/**/*.json"))


def test_planned_result_is_the_one_that_fit_writes(place, finished):
    path = only("results/quick/tiny/*.json", finished).relative_to(finished)
    state_before = torch.get_rng_state()
    assert cli.planned_result(["--config", "tiny.yaml"]) == path
    assert not (place / "results").exists()
    assert not (place / "runs").exists()
    assert torch.equal(torch.get_rng_state(), state_before)


class Ends(L.Callback):
    """Notes EDE's t and the learning rate of every step."""

    seen: ClassVar[list[tuple[float, float]]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        estimators = [module for module in pl_module.modules() if isinstance(module, EDE)]
        assert all(float(module.t) <= module.t_max for module in estimators)
        self.seen.append((float(estimators[0].t), trainer.optimizers[0].param_groups[0]["lr"]))


def test_a_training_in_steps_is_that_in_epochs(place, monkeypatch):
    """5 steps an epoch: three epochs, in one of which the learning rate warms up."""
    monkeypatch.setattr(training, "EpochLines", Ends)
    flags = ["--model.width=0.25", "--model.method=irnet", "--model.warmup_epochs=1"]
    seen = []
    for length in (["--trainer.max_epochs=3"], ["--trainer.max_epochs=-1", "--trainer.max_steps=15"]):
        monkeypatch.setattr(Ends, "seen", [])
        assert main([*FIT, *flags, *length]) == 0
        seen.append(Ends.seen)
    assert len(seen[0]) == 15
    assert seen[0] == seen[1]
    assert seen[0][0][0] < seen[0][5][0] < seen[0][10][0]
    assert seen[0][4][1] == max(rate for _, rate in seen[0])


# --- interruptions ---


def test_non_finite_loss(place, finished, capsys, monkeypatch):
    """Weights that break in the second epoch: the first epoch's checkpoint stays, nothing is recorded."""

    def poison(self, *arguments):
        if self.current_epoch == 1:
            next(self.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(LitClassifier, "on_train_batch_start", poison)
    assert main([*FIT]) == 1
    err = capsys.readouterr().err
    assert "the loss is nan in epoch 1: training stopped, the last good checkpoint is kept. Lower --model.lr" in err
    assert "Traceback" not in err
    assert not list(place.glob("results/**/*.json"))
    assert state(place)["epoch"] == 0
    assert all(torch.isfinite(tensor).all() for tensor in state(place)["state_dict"].values())


def test_learning_rate_that_diverges(place, capsys):
    assert main([*FIT, "--model.lr=1e30"]) == 1
    assert "the loss is nan in epoch 0" in capsys.readouterr().err
    assert not list(place.glob("**/*.ckpt"))
    assert not list(place.glob("results/**/*.json"))


def killed(run_program, capsys, monkeypatch):
    process = run_program("-c", KILLED, *FIT)
    process.communicate(timeout=900)
    assert process.returncode == -signal.SIGKILL


def stopped(run_program, capsys, monkeypatch):
    """By Ctrl-C; a test runner in the background ignores it, unless it is told not to."""
    step, handler = LitClassifier.training_step, signal.signal(signal.SIGINT, signal.default_int_handler)

    def stepped(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(LitClassifier, "training_step", stepped)
        assert main([*FIT]) == 130
    signal.signal(signal.SIGINT, handler)
    err = capsys.readouterr().err
    assert err.strip().endswith("interrupted; the same command goes on where this one stopped")
    assert "Traceback" not in err


@pytest.mark.parametrize("interrupt", [killed, stopped])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    place, finished, capsys, monkeypatch, run_program, interrupt
):
    interrupt(run_program, capsys, monkeypatch)
    assert state(place)["epoch"] == 0
    assert not list(place.glob("results/**/*.json"))
    assert not [path for path in place.rglob("*") if path.name.endswith(".tmp")]

    assert main([*FIT]) == 0
    err = capsys.readouterr().err
    assert "resuming after epoch 1 of runs/quick/tiny/" in err
    assert "epoch 1/2" not in err
    assert "epoch 2/2" in err
    assert_same_training(place, finished)


def test_max_time_stops_like_ctrl_c_and_counts_anew(place, finished, capsys):
    """The first attempt ends behind its first epoch; the second has as much time again, whatever the first took."""
    limited = [*FIT, "--trainer.max_time=00:00:00:00"]
    assert main(limited) == 124
    err = capsys.readouterr().err
    assert "scaledrop fit: trainer.max_time reached after epoch 1 of 2: no result yet, the same command" in err
    assert "epoch 2/2" not in err
    assert not list(place.glob("results/**/*.json"))
    assert state(place)["epoch"] == 0
    assert main(limited) == 0  # the last epoch is the end, not a stop
    assert "epoch 1/2" not in capsys.readouterr().err
    assert_same_training(place, finished)


def test_max_time_is_of_an_attempt_and_the_record_of_all():
    timer = AttemptTimer("00:01:00:00")
    timer.load_state_dict({"time_elapsed": {"train": 7200.0}})
    assert timer.state_key == Timer().state_key
    trainer = SimpleNamespace(
        max_epochs=9, current_epoch=3, max_steps=-1, should_stop=False, strategy=SimpleNamespace(broadcast=bool)
    )
    timer.on_train_start(trainer, None)
    timer.on_train_epoch_end(trainer)
    assert not trainer.should_stop
    assert timer.time_elapsed() >= 7200
    timer._start_time["train"] -= 3600
    timer.on_train_epoch_end(trainer)
    assert trainer.should_stop
    assert timer.time_up


def test_damaged_checkpoints(place, unrecorded, finished, capsys):
    folder = unrecorded
    last, previous, best = folder / "last.ckpt", folder / "previous.ckpt", only("best*.ckpt", folder)
    assert read_checkpoint(previous)["epoch"] == 0
    os.truncate(last, 1000)
    newest = max((best, previous), key=lambda path: read_checkpoint(path)["epoch"])
    assert resume_checkpoint(folder.parent, first=False) == newest
    assert capsys.readouterr().err == ""
    assert resume_checkpoint(folder.parent) == newest
    err = capsys.readouterr().err
    assert "last.ckpt is no checkpoint, or it is damaged" in err
    assert "renamed to last.ckpt.damaged" in err
    assert "resuming after epoch " in err
    assert last.read_bytes() == newest.read_bytes()
    for path in (best, last, previous):
        os.truncate(path, 1000)
    assert resume_checkpoint(folder.parent, first=False) is None
    assert main([*FIT]) == 0
    assert "epoch 1/2" in capsys.readouterr().err
    assert_same_training(place, finished)


def test_a_lost_best_checkpoint(trained, capsys):
    """It comes back from the last one, if that is of its epoch; without it nobody could evaluate at the end."""
    folder = only("runs/quick/tiny/*/checkpoints")
    last, best = folder / "last.ckpt", folder / "best-epoch=1.ckpt"
    best.unlink()
    assert resume_checkpoint(folder.parent) == last
    assert best.read_bytes() == last.read_bytes()
    assert not (folder / "best-epoch=0.ckpt").exists()
    best.unlink()
    last.unlink()
    assert resume_checkpoint(folder.parent) == folder / "previous.ckpt"
    assert (folder / "best-epoch=0.ckpt").read_bytes() == last.read_bytes()
    capsys.readouterr()
    (folder / "best-epoch=0.ckpt").unlink()
    last.unlink()
    torch.save({**read_checkpoint(folder / "previous.ckpt"), "epoch": 1}, folder / "previous.ckpt")
    assert resume_checkpoint(folder.parent, first=False) is None
    assert resume_checkpoint(folder.parent) is None
    assert "previous.ckpt cannot be used without its best checkpoint" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["previous.ckpt.damaged"]


def test_the_curve_of_a_run_whose_checkpoints_know_of_none(place, unrecorded, finished):
    """It began before there was one; its logs tell."""
    for path in only("runs/quick/tiny/*/checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["callbacks"]["LearningCurve"]
        torch.save(checkpoint, path)
    assert main([*FIT]) == 0
    assert_same_training(place, finished)


def test_another_start_is_another_run(place, finished, capsys):
    """``--ckpt_path`` of the user changes the numbers, and so the identity; its own checkpoint still goes first."""
    shutil.copy(only("runs/quick/tiny/*/checkpoints/best*.ckpt", finished), "start.ckpt")
    more = ["--trainer.max_epochs=3", "--ckpt_path=start.ckpt"]
    assert cli.planned_result(["--config", "tiny.yaml", more[0]]) != cli.planned_result(
        ["--config", "tiny.yaml", *more]
    )
    assert main([*FIT, *more]) == 0
    result = read_result(only("results/quick/tiny/*.json"))
    assert result.training["epochs"] == 3
    assert re.fullmatch("[0-9a-f]{16}", result.config["start"])


# --- one at a time ---


def test_who_comes_second_waits_and_finds_the_run_finished(place, finished, capsys):
    """A thread with a file of its own; to the lock it is as another process."""
    result = only("results/quick/tiny/*.json", finished).relative_to(finished)
    run_dir = Run(profile="quick", study="tiny").run_dir(result.stem)
    second, err = threading.Thread(target=main, args=([*FIT],)), ""
    with exclusive(run_dir):
        second.start()
        while f"another process trains {run_dir}: waiting for it\n" not in err:
            assert second.is_alive()
            time.sleep(0.05)
            err += capsys.readouterr().err
        result.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(finished / result, result)
        assert second.is_alive()
    second.join(900)
    out, err = capsys.readouterr()
    assert out.strip() == f"finished already: {result}"
    assert "epoch" not in err
    assert not list(place.glob("**/*.ckpt"))


def test_lock_ends_with_the_block(tmp_path, capsys):
    for _ in range(2):
        with exclusive(tmp_path / "run"):
            assert (tmp_path / "run" / "lock").exists()
    assert capsys.readouterr().err == ""


# --- folders ---


def test_run_folders():
    run = Run(profile="cpu", study="s", results="a", runs="b")
    assert run.result_path("0123").as_posix() == "a/cpu/s/0123.json"
    assert run.run_dir("0123").as_posix() == "b/cpu/s/0123"
    for value in ("", "a/b", "/a"):
        with pytest.raises(ValueError, match="must be a plain folder name"):
            Run(study=value)


def test_require_writable(tmp_path, monkeypatch):
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []

    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OSError, match=r"cannot write to .*\(Read-only file system\): choose other folders with --run"):
        require_writable(tmp_path / "a")


def test_the_checkpoint_that_was_evaluated_is_the_best(finished):
    result = read_result(only("results/quick/tiny/*.json", finished))
    best = only("runs/quick/tiny/*/checkpoints/best*.ckpt", finished)
    assert best.name == f"best-epoch={result.training['best_epoch']}.ckpt"
    assert isinstance(load_trained(best), LitClassifier)
