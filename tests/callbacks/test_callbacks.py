"""Callbacks: the estimator's schedule, the data's gradient on the scales, progress lines, checkpoints that move."""

import json
import re
import warnings
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.call import _call_callbacks_load_state_dict
from torch.nn import functional as F

from fakes.training import Batches, quiet_trainer
from lit_scaledrop.__main__ import main
from lit_scaledrop.callbacks import (
    EpochLines,
    EstimatorSchedule,
    LearningCurve,
    RunCheckpoint,
    ScaleGradient,
    scale_data_gradients,
)
from lit_scaledrop.layers.binary import EDE
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.modules.classifier import LitClassifier

FIT = ("fit", "--config", "tiny.yaml")


class Spy(L.Callback):
    """Notes what the training sees at its steps."""

    def __init__(self) -> None:
        self.t: list[list[float]] = []
        self.norms: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.t.append([float(module.t) for module in pl_module.modules() if isinstance(module, EDE)])

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.norms.append(float(torch.cat(scale_data_gradients(pl_module, pl_module.hparams["lambda_scale"])).norm()))


@pytest.fixture
def train():
    def run(
        model: LitClassifier, *callbacks: L.Callback, epochs: int = 3, start: Path | None = None, **options
    ) -> L.Trainer:
        torch.manual_seed(0)
        saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
        trainer = quiet_trainer(max_epochs=epochs, enable_checkpointing=saves, callbacks=[*callbacks], **options)
        weights_only = None if start is None else True
        trainer.fit(model, Batches(2, 16), Batches(2, 16), ckpt_path=start, weights_only=weights_only)
        return trainer

    return run


def test_estimator_schedule_sets_t_once_an_epoch(train):
    spy = Spy()
    train(LitClassifier("lenet5", "proposed", width=0.25), EstimatorSchedule(), spy, epochs=4)
    assert len(spy.t) == 8
    assert all(len(values) == 6 for values in spy.t)  # activations and weights of three layers
    # from 0.1 (IR-Net's for shallow networks) towards 10, by tens of decades
    for step, values in enumerate(spy.t):
        assert values == pytest.approx([10 ** (-1 + 2 * (step // 2) / 4)] * 6, rel=1e-5)


def test_a_start_within_an_epoch_sets_estimators_and_clock(train, tmp_path):
    """Lightning begins no epoch then, and the estimators' place is in no checkpoint."""

    def saving(folder: Path) -> ModelCheckpoint:
        return ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)

    train(LitClassifier("lenet5", "proposed", width=0.25), EstimatorSchedule(), saving(tmp_path / "a"), epochs=2)
    spy, model = Spy(), LitClassifier("lenet5", "proposed", width=0.25)
    callbacks = EstimatorSchedule(), EpochLines(), saving(tmp_path / "b"), spy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two folders, and a loader that cannot say where it stopped
        train(model, *callbacks, epochs=2, start=tmp_path / "a" / "step=3.ckpt")
    assert len(spy.t) == 1  # the second of two steps of the second epoch
    assert spy.t[0] == pytest.approx([10**0.0] * 6, rel=1e-5)


def test_estimator_schedule_without_estimators(train):
    model = LitClassifier("lenet5", "fp", width=0.25)
    spy = Spy()
    spy.on_before_optimizer_step = lambda *_: None  # type: ignore[method-assign]
    train(model, EstimatorSchedule(), spy, epochs=1)
    assert spy.t == [[], []]


@pytest.mark.parametrize("lambda_scale", [0.0, 0.5])
@pytest.mark.parametrize("mask_per", ["sample", "batch"])
def test_data_gradient_is_that_of_the_task_loss_alone(lambda_scale, mask_per):
    torch.manual_seed(0)
    model = LitClassifier("lenet5", width=0.5, p=0.3, mask_per=mask_per, lambda_scale=lambda_scale).train()
    layers = [layer for layer in model.modules() if isinstance(layer, ScaleDropout)]
    for layer in layers:
        layer.scale.data.uniform_(0.5, 2)
    images, target = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    torch.manual_seed(3)
    task = F.cross_entropy(model(images), target)
    expected = torch.autograd.grad(task, [layer.scale for layer in layers])

    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    torch.manual_seed(3)
    model.training_step((images, target), 0).backward()
    found = scale_data_gradients(model, lambda_scale)
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    # a scale before BatchNorm that is the same for the whole batch is undone by it: the data cannot move it
    assert (max(float(gradient.norm()) for gradient in found) > 1e-4) == (mask_per == "sample")


def test_no_gradients_without_scales_or_backward():
    assert scale_data_gradients(LitClassifier("lenet5", "fp", width=0.25), 0.1) == []
    assert scale_data_gradients(LitClassifier("lenet5", width=0.25), 0.1) == []


def test_scale_gradient_logs_the_mean_norm_of_the_epoch(train):
    spy = Spy()
    trainer = train(LitClassifier("lenet5", width=0.25), ScaleGradient(every_n_steps=1), spy, epochs=2)
    logged = float(trainer.callback_metrics["grad/alpha_data"])
    assert logged == pytest.approx(sum(spy.norms[2:]) / 2, rel=1e-5)
    assert logged > 0


def test_one_line_an_epoch(train, capsys):
    train(LitClassifier("lenet5", width=0.25), EpochLines(), epochs=3)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("epoch")]
    number = r"\d+\.\d{4}"
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"epoch {epoch}/3  loss/task {number}  val/acc {number}  val/nll {number}  \d+\.\d s", line
        )
    assert len(lines) == 3
    assert out == ""


def test_learning_curve_goes_on_behind_a_checkpoint(train, tmp_path):
    def model() -> LitClassifier:
        torch.manual_seed(1)
        return LitClassifier("lenet5", width=0.25, p=0.0)

    whole, begun, resumed = LearningCurve(), LearningCurve(), LearningCurve()
    trainer = train(model(), whole, epochs=3)
    train(model(), begun, epochs=2).save_checkpoint(tmp_path / "two.ckpt")
    train(model(), resumed, epochs=3, start=tmp_path / "two.ckpt")
    assert list(whole.points) == [1, 2, 3]
    assert all(point.keys() == {"val/acc", "loss/task"} for point in whole.points.values())
    logged = {name: float(trainer.callback_metrics[name]) for name in ("val/acc", "loss/task")}
    assert whole.points[3] == pytest.approx(logged, abs=5e-5)
    assert {epoch: resumed.points[epoch] for epoch in (1, 2)} == begun.points
    assert list(resumed.points) == [1, 2, 3]


def test_an_epoch_without_validation_has_no_metric_of_another(train):
    curve = LearningCurve()
    train(LitClassifier("lenet5", width=0.25), curve, epochs=4, check_val_every_n_epoch=2)
    assert [sorted(point) for point in curve.points.values()] == [["loss/task"], ["loss/task", "val/acc"]] * 2


# --- checkpoints of a folder that moves ---


def saved(folder: Path) -> dict:
    names = {name: str(folder / f"{name}.ckpt") for name in ("best", "last")}
    return {
        "monitor": "val/acc", "best_model_score": torch.tensor(0.5), "best_model_path": names["best"],
        "current_score": torch.tensor(0.5), "dirpath": str(folder), "best_k_models": {names["best"]: torch.tensor(0.5)},
        "kth_best_model_path": names["best"], "kth_value": torch.tensor(0.5), "last_model_path": names["last"],
    }  # fmt: skip


def test_best_checkpoint_moves_with_its_folder(tmp_path):
    checkpoint = RunCheckpoint(tmp_path / "new" / "0123" / "checkpoints", monitor="val/acc", mode="max", save_last=True)
    checkpoint.load_state_dict(saved(Path("/gone/0123/checkpoints")))
    folder = tmp_path / "new" / "0123" / "checkpoints"
    assert checkpoint.best_model_path == str(folder / "best.ckpt")
    assert checkpoint.last_model_path == str(folder / "last.ckpt")
    assert checkpoint.best_k_models == {str(folder / "best.ckpt"): torch.tensor(0.5)}
    assert checkpoint.best_model_score == 0.5


def test_last_is_the_last_epoch_also_where_another_one_is_the_best(tmp_path):
    class Falling(LitClassifier):
        """Its validation accuracy falls from epoch to epoch."""

        def on_validation_epoch_end(self) -> None:
            self.log("falling", 1.0 / (1 + self.current_epoch))

    checkpoint = RunCheckpoint(tmp_path / "c", "best-{epoch}", monitor="falling", mode="max", save_last=True)
    trainer = quiet_trainer(max_epochs=3, enable_checkpointing=True, callbacks=[checkpoint])
    trainer.fit(Falling("lenet5", width=0.25), Batches(2, 16), Batches(2, 16))
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert names == ["best-epoch=0.ckpt", "last.ckpt", "previous.ckpt"]
    assert torch.load(tmp_path / "c" / "last.ckpt", weights_only=True)["epoch"] == 2
    assert checkpoint.best_model_path.endswith("best-epoch=0.ckpt")


def test_best_checkpoint_of_another_run_is_not_ours(tmp_path):
    checkpoint = RunCheckpoint(tmp_path / "0123" / "checkpoints", monitor="val/acc", mode="max", save_last=True)
    checkpoint.load_state_dict(saved(tmp_path / "4567" / "checkpoints"))
    assert checkpoint.best_model_path == checkpoint.last_model_path == ""
    assert checkpoint.best_model_score is None


def test_checkpoints_of_lightnings_class_are_read_and_a_users_own_may_be_beside_ours(tmp_path):
    arguments = {"dirpath": tmp_path / "0123" / "checkpoints", "monitor": "val/acc", "mode": "max"}
    ours, theirs = RunCheckpoint(**arguments), ModelCheckpoint(**arguments)
    assert ours.state_key != theirs.state_key
    trainer = quiet_trainer(callbacks=[ours], enable_checkpointing=True)
    earlier = {"callbacks": {theirs.state_key: saved(tmp_path / "0123" / "checkpoints")}}
    _call_callbacks_load_state_dict(trainer, earlier)
    assert ours.best_model_path.startswith(str(tmp_path / "0123"))


def test_checkpoints_of_validations_that_come_every_few_epochs(place, monkeypatch):
    """The best is of a validated epoch, the last of the last epoch; epochs between are saved if they are long."""
    fit = [*FIT, "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=5"]
    saved = []
    write = RunCheckpoint._save_checkpoint

    def note(self, trainer, filepath):
        write(self, trainer, filepath)
        saved.append((Path(filepath).name, trainer.current_epoch))

    monkeypatch.setattr(RunCheckpoint, "_save_checkpoint", note)
    assert main(fit) == 0
    assert [epoch for name, epoch in saved if name == "last.ckpt"] == [0, 1, 3, 4]
    assert {epoch for name, epoch in saved if name.startswith("best")} <= {1, 3}
    saved.clear()
    monkeypatch.setattr("lit_scaledrop.callbacks.training.PATIENCE_S", -1.0)
    assert main([*fit, "--seed_everything=2"]) == 0
    assert [epoch for name, epoch in saved if name == "last.ckpt"] == [0, 1, 2, 3, 4]


def test_a_training_with_few_validations_resumes_exactly(place, monkeypatch):
    fit = [*FIT, "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=4"]
    assert main([*fit, "--run.results=whole", "--run.runs=whole"]) == 0
    begun = EstimatorSchedule.on_train_epoch_start

    def stop(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt
        begun(self, trainer, pl_module)

    with monkeypatch.context() as patch:
        patch.setattr(EstimatorSchedule, "on_train_epoch_start", stop)
        assert main([*fit, "--run.results=parts", "--run.runs=parts"]) == 130
    assert main([*fit, "--run.results=parts", "--run.runs=parts"]) == 0
    one, other = (
        json.loads(next(Path(where, "quick/tiny").glob("*.json")).read_text()) for where in ("whole", "parts")
    )
    assert one["measurements"] == other["measurements"]
    assert one["training"]["logged"] == other["training"]["logged"]
