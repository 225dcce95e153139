"""Several optimizer steps a call: the numbers of single steps, to the last bit, as a loop and as a captured step."""

from contextlib import nullcontext

import lightning as L
import pytest
import torch

from datamodules import DigitsDataModule
from fakes.training import quiet_trainer
from lit_scaledrop.callbacks import EstimatorSchedule, MTJVariation, ScaleGradient
from lit_scaledrop.modules import LitClassifier, NonFiniteLossError, stepping
from lit_scaledrop.modules.stepping import Stepper, ZeroGradientError, require_gradients

BATCHES = 10


class Curve(L.Callback):
    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, pl_module):
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.seen.append((trainer.global_step, rate, metrics))


class Saving(L.Callback):
    """A checkpoint behind every call."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt")


def build(steps_per_call, **options):
    torch.manual_seed(0)
    options = {"network": "lenet5", "width": 0.25, "lr": 0.05, "warmup_epochs": 1.0} | options
    return LitClassifier(steps_per_call=steps_per_call, **options)


def fit(model, folder=None, epochs=2, start=None, callbacks=(), **options):
    torch.manual_seed(1)
    curve = Curve()
    saving = [] if folder is None else [Saving(folder)]
    trainer = quiet_trainer(max_epochs=epochs, callbacks=[EstimatorSchedule(), curve, *saving, *callbacks], **options)
    data = DigitsDataModule(batch_size=32, augment="crop", flip=True, limit_train=32 * BATCHES + 5)
    trainer.fit(model, datamodule=data, ckpt_path=start, weights_only=None if start is None else True)
    return trainer, curve.seen


def require_equal(one, other):
    for (name, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("steps", "options", "precision"),
    [
        (4, {"optimizer": "sgd"}, "32-true"),
        (BATCHES, {"optimizer": "sgd"}, "32-true"),
        (50, {"optimizer": "adam", "lr": 0.01}, "32-true"),
        (4, {"optimizer": "sgd", "update": "normalized"}, "32-true"),
        (4, {"optimizer": "sgd"}, "bf16-mixed"),
        (4, {"method": "lab", "optimizer": "adam", "lr": 0.01}, "32-true"),
    ],
)
def test_several_steps_a_call_are_the_same_steps(steps, options, precision):
    single, several = build(None, **options), build(steps, **options)
    trainer, expected = fit(single, precision=precision)
    other, seen = fit(several, precision=precision)
    assert single.automatic_optimization
    assert not several.automatic_optimization
    assert trainer.global_step == other.global_step == 2 * BATCHES
    assert seen == expected  # every logged mean and rate
    require_equal(single, several)


@pytest.mark.parametrize(("steps", "ends"), [(1, [*range(1, 21)]), (4, [4, 8, 10, 14, 18, 20]), (50, [10, 20])])
def test_a_training_resumes_between_two_calls(tmp_path, steps, ends):
    whole = build(steps)
    fit(whole, tmp_path)
    saved = {int(path.stem.partition("=")[2]): path for path in tmp_path.glob("step=*.ckpt")}
    assert sorted(saved) == ends
    saved.pop(max(saved))
    for path in [saved[step] for step in ends[:-1:4] + ends[1:-1:4]]:  # within an epoch and at its end
        resumed = build(steps)
        trainer, _ = fit(resumed, start=path)
        assert trainer.global_step == 2 * BATCHES
        require_equal(resumed, whole)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"limit_train_batches": 3}, "trainer.limit_train_batches"),
        ({"limit_train_batches": 0.5}, "trainer.limit_train_batches"),
        ({"max_steps": 5}, "trainer.max_steps"),
        ({"accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches"),
        ({"gradient_clip_val": 1.0}, "trainer.gradient_clip_val"),
        ({"val_check_interval": 0.5}, "trainer.val_check_interval"),
        ({"overfit_batches": 2}, "trainer.overfit_batches"),
        ({"callbacks": [ScaleGradient()]}, "ScaleGradient"),
        ({"callbacks": [MTJVariation(sigma=0.1, when="train")]}, "MTJVariation"),
    ],
)
def test_what_needs_each_step_is_refused_or_gets_single_steps(options, name, monkeypatch, capsys):
    with pytest.raises(ValueError, match=rf"steps_per_call=4 cannot be combined with .*{name}.*: remove one of them"):
        fit(build(4), **options)
    monkeypatch.setattr(stepping, "ON_CUDA", 4)
    assert stepping.steps_per_call(gpu(options, monkeypatch), None) == 1
    said = capsys.readouterr().err
    assert "steps are taken one by one, because of " in said
    assert name in said
    assert stepping.steps_per_call(gpu({}, monkeypatch), None) == 4


def test_variation_of_evaluations_is_no_matter_of_the_steps():
    fit(build(4), callbacks=[MTJVariation(sigma=0.1, when="eval")], epochs=1)


def gpu(options, monkeypatch):
    """A trainer that says it has a GPU."""
    trainer = quiet_trainer(**options)
    monkeypatch.setattr(type(trainer.strategy), "root_device", torch.device("cuda:0"))
    trainer.datamodule = DigitsDataModule()
    return trainer


class Graph:
    """A CUDA graph on a CPU: what runs while it is captured leaves no trace, and each replay runs it."""

    stepper: Stepper

    def replay(self):
        self.stepper._take(*self.stepper._inputs)


@pytest.fixture
def graphs(monkeypatch):
    """Let steppers capture on the CPU; the list of them."""
    steppers = []
    made = Stepper.__init__

    def init(self, network, *arguments):
        made(self, network, *arguments)
        self.capturing = self.capture_asked = arguments[2] == "auto"
        steppers.append(self)

    class Capture:
        def __init__(self, graph):
            graph.stepper = self.stepper = steppers[-1]

        def __enter__(self):
            network, optimizer = self.stepper.network, self.stepper.optimizer
            self.tensors = [*network.state_dict().values()]
            self.tensors += [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
            owner = self.stepper.objective.__self__
            self.tensors.append(owner._sums)
            self.kept, self.stream = [t.clone() for t in self.tensors], torch.get_rng_state()

        def __exit__(self, *error):
            with torch.no_grad():
                for tensor, kept in zip(self.tensors, self.kept, strict=True):
                    tensor.copy_(kept)
            torch.set_rng_state(self.stream)

    monkeypatch.setattr(Stepper, "__init__", init)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(stepping, "_side_stream", nullcontext)
    return steppers


@pytest.mark.parametrize("method", ["proposed", "proposed_affine_open", "recu", "rad"])
def test_a_captured_step_is_the_same_step(graphs, method):
    single, captured = build(None, method=method, optimizer="sgd"), build(4, method=method, optimizer="sgd")
    _, expected = fit(single)
    _, seen = fit(captured)
    assert len(graphs) == 1
    assert graphs[0]._graph is not None
    assert isinstance(graphs[0].optimizer.param_groups[0]["lr"], torch.Tensor)
    for (step, rate, metrics), (step2, rate2, metrics2) in zip(expected, seen, strict=True):
        assert (step, metrics.keys()) == (step2, metrics2.keys())
        assert rate == pytest.approx(rate2, rel=1e-6)
        assert metrics == pytest.approx(metrics2, rel=1e-4)  # the rate is a float32 there
    for ours, theirs in zip(captured.parameters(), single.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_capture_that_fails_is_one_line_and_nothing_is_lost(graphs, monkeypatch, capsys):
    class Broken:
        def __init__(self, graph): ...

        def __enter__(self):
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

        def __exit__(self, *error): ...

    single, broken = build(None, optimizer="sgd"), build(4, optimizer="sgd")
    fit(single)
    monkeypatch.setattr(torch.cuda, "graph", Broken)
    fit(broken)
    said = [line for line in capsys.readouterr().err.splitlines() if "captured" in line]
    assert len(said) == 1
    assert "operation not permitted when stream is capturing): training continues without one" in said[0]
    for ours, theirs in zip(broken.parameters(), single.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_capture_can_be_switched_off(graphs):
    fit(build(4, capture="off", optimizer="sgd"), epochs=1)
    assert graphs[0]._graph is None


def test_a_loss_that_breaks_within_a_call_is_found_at_its_end(tmp_path):
    model = build(4, lambda_scale=float("nan"))
    with pytest.raises(NonFiniteLossError, match="the loss is nan in epoch 0"):
        fit(model, tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))


def test_binary_weights_without_a_gradient_are_refused():
    model = build(None)
    model.network(torch.randn(4, 3, 32, 32)).sum().backward()
    require_gradients(model.network)
    model.network.hidden[0].conv.weight.grad.zero_()
    with pytest.raises(ZeroGradientError, match=r"hidden\.0\.conv \(1 of 3 layers\) have a gradient of zero"):
        require_gradients(model.network)
    model.network.hidden[3].linear.weight.grad = None
    with pytest.raises(ZeroGradientError, match=r"hidden\.0\.conv, hidden\.3\.linear \(2 of 3"):
        require_gradients(model.network)
    model.network.hidden.requires_grad_(False)
    require_gradients(model.network)  # nobody trains them
