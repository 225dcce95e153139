"""MTJVariation: the p of each batch, alike in every process and after a resume, and nominal wherever nobody steps."""

import re
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from fakes.training import Batches, quiet_trainer
from lit_scaledrop.callbacks import MTJVariation, evaluation_with
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.drop_probability import chip_probabilities, read_probabilities, scale_dropouts
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.variation import Variation
from lit_scaledrop.results.glossary import METRICS

ROOT = Path(__file__).resolve().parents[2]


class Spy(L.Callback):
    """Notes the layers' probabilities inside the steps and outside."""

    def __init__(self) -> None:
        self.inside: list[list[float]] = []
        self.outside: list[list[float]] = []
        self.evaluated: list[list[float]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.inside.append(now(pl_module))

    def on_train_epoch_end(self, trainer, pl_module):
        self.outside.append(now(pl_module))

    on_validation_epoch_end = on_test_epoch_end = on_train_epoch_end

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.outside.append(now(pl_module))


class Sampling(LitClassifier):
    """Draws masks inside its evaluation steps, and notes with which probabilities."""

    seen: list[list[float]]

    def test_step(self, batch, batch_idx):
        self.seen = [*getattr(self, "seen", []), now(self)]
        return batch[1]

    validation_step = predict_step = test_step


def now(model) -> list[float]:
    return read_probabilities(scale_dropouts(model)).tolist()


def model(kind=LitClassifier, **options) -> LitClassifier:
    torch.manual_seed(0)
    return kind("lenet5", width=0.25, **{"p": 0.3, **options})


def batches(seed: int = 0) -> Batches:
    return Batches(3, 8, seed)


def trainer(*callbacks: L.Callback, epochs: int = 2, **options) -> L.Trainer:
    return quiet_trainer(max_epochs=epochs, callbacks=[*callbacks], **options)


NOMINAL = pytest.approx([0.3] * 3)


def test_each_step_has_its_own_probabilities_and_nothing_else_sees_them(tmp_path):
    spy, run = Spy(), model()
    # what another library does to the global stream is no business of the masks' probabilities
    loop = trainer(MTJVariation(sigma=0.1, seed=5), spy, enable_checkpointing=True, default_root_dir=tmp_path)
    loop.fit(run, batches(), batches(1))
    assert len({tuple(p) for p in spy.inside}) == len(spy.inside) == 6
    assert all(len(set(p)) == 3 and p != NOMINAL for p in spy.inside)
    assert len(spy.outside) >= 6  # ends of training and validation epochs, checkpoints
    assert all(p == NOMINAL for p in spy.outside)
    assert now(run) == NOMINAL


def test_what_was_injected_is_logged():
    spy = Spy()
    loop = trainer(MTJVariation(sigma=0.1, when="train"), spy)
    loop.fit(model(), batches(), batches(1))
    last = torch.tensor(spy.inside[3:])
    logged = {name: float(value) for name, value in loop.callback_metrics.items() if "hw/" in name}
    expected = {"hw/p_shift": (last - 0.3).abs().mean(), "hw/p_min": last.min(), "hw/p_max": last.max()}
    assert logged == pytest.approx({name: float(value) for name, value in expected.items()})
    assert logged.keys() <= METRICS.keys()


@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable", "ignore:.*callbacks used to create")
@pytest.mark.parametrize("steps", [6, 4])
def test_a_resumed_training_draws_what_it_would_have_drawn(tmp_path, steps):
    """Also in the middle of an epoch, where Lightning begins none."""
    whole, resumed = Spy(), Spy()
    saves = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=steps, save_top_k=-1)
    first = trainer(MTJVariation(sigma=0.1), whole, saves, epochs=3, enable_checkpointing=True)
    first.fit(model(), batches(), batches())
    again = trainer(MTJVariation(sigma=0.1), resumed, epochs=3)
    again.fit(model(), batches(), batches(), ckpt_path=tmp_path / f"step={steps}.ckpt")
    assert len(whole.inside) == 9
    assert resumed.inside == whole.inside[steps:]


def test_processes_with_other_streams_and_data_draw_alike():
    seen = []
    for rank in range(2):
        spy, run = Spy(), model()
        torch.manual_seed(100 + rank)
        trainer(MTJVariation(device="sot_80nm"), spy, epochs=1).fit(run, batches(rank), batches())
        seen.append(spy.inside)
    assert seen[0] == seen[1]
    other = Spy()
    trainer(MTJVariation(device="sot_80nm", seed=1), other, epochs=1).fit(model(), batches(), batches())
    assert other.inside != seen[0]


@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_the_masks_are_paired_with_a_training_without(sigma):
    """The global stream draws the masks, and is left alone: with sigma 0 the weights come out the same."""
    weights = []
    for callbacks in ([], [MTJVariation(sigma=sigma)]):
        run = model()
        torch.manual_seed(7)
        trainer(*callbacks, epochs=1).fit(run, batches(), batches())
        weights.append((run.network.state_dict(), torch.get_rng_state()))
    (one, stream), (other, other_stream) = weights
    assert torch.equal(stream, other_stream)
    assert all(torch.equal(one[name], other[name]) for name in one) == (sigma == 0)


@pytest.mark.parametrize(("options", "p"), [({"sigma": 0.1}, 0.3), ({"device": "sot_80nm"}, 0.5)])
def test_a_chip_stays_the_same(options, p):
    spy = Spy()
    trainer(MTJVariation(**options, redraw="chip", seed=4), spy).fit(model(p=p), batches(), batches())
    probability = Variation(**options, redraw="chip", chip=4).probability()
    expected = chip_probabilities(torch.full((3,), p), probability, 4)
    assert all(seen == pytest.approx(expected.tolist()) for seen in spy.inside)
    # one junction serves all layers of a chip; eq. 24 gives each layer a deviation of its own
    assert (len(set(spy.inside[0])) == 1) == ("device" in options)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_when_says_which_steps_are_varied(stage):
    for when, varied in (("eval", True), ("both", True), ("train", False)):
        run = model(Sampling)
        loop = trainer(MTJVariation(sigma=0.1, when=when))
        getattr(loop, stage)(run, batches(), **({} if stage == "predict" else {"verbose": False}))
        assert len(run.seen) == 3
        assert (len({tuple(p) for p in run.seen}) == 3) == varied
        assert all((p == NOMINAL) != varied for p in run.seen)
        assert now(run) == NOMINAL
        prefix = {"validate": "val/", "test": "test/"}.get(stage)
        assert (f"{prefix}hw/p_shift" in loop.callback_metrics) == (varied and prefix is not None)


def test_validation_inside_an_epoch_does_not_disturb_the_training():
    spies = []
    for every in (1, 3):
        spies.append(Spy())
        run = trainer(MTJVariation(sigma=0.1), spies[-1], epochs=1, val_check_interval=every)
        run.fit(model(Sampling), batches(), batches(1))
        assert float(run.callback_metrics["hw/p_shift"]) > 0
    assert spies[0].inside == spies[1].inside
    assert len(spies[0].inside) == 3


def test_probabilities_stay_probabilities_for_any_sigma():
    for within in ("clipped", "truncated"):
        spy = Spy()
        trainer(MTJVariation(sigma=50.0, within=within), spy, epochs=1).fit(model(), batches(), batches())
        assert all(0 <= p <= 1 for seen in spy.inside for p in seen)


def test_a_compiled_layer_sees_them_and_is_not_compiled_again():
    """In a process of its own: jaxtyping's checks, which only tests have, break graphs."""
    program = """
import torch
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.posterior.drop_probability import set_probabilities
layer = ScaleDropout(4, p=0.0).train()
layer.scale.data.fill_(3.0)
forward, x = torch.compile(layer, backend="aot_eager", fullgraph=True), torch.ones(2, 4)
for p, expected in ((0.0, 3.0), (1.0, 1.0), (0.25, None), (0.0, 3.0)):
    set_probabilities([layer], torch.tensor([p]))
    values = forward(x).unique().tolist()
    assert expected is None or values == [expected], (p, values)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=900)


def test_a_failing_step_leaves_nominal_probabilities():
    class Failing(LitClassifier):
        def training_step(self, batch, batch_idx):
            assert now(self) != NOMINAL
            raise RuntimeError("a step fails")

    run = model(Failing)
    with pytest.raises(RuntimeError, match="a step fails"):
        trainer(MTJVariation(sigma=0.1)).fit(run, batches(), batches())
    assert now(run) == NOMINAL


def test_what_cannot_be_varied_is_refused_before_training():
    steps = Spy()
    for run, callback, message in (
        (LitClassifier("lenet5", "fp", width=0.25), MTJVariation(sigma=0.1), "no Scale-Dropout layer"),
        (model(p=0.99999), MTJVariation(device="sot_80nm"), "up to 1.1 V gives switching probability 0.99999"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(callback, steps).fit(run, batches(), batches())
    assert steps.inside == steps.outside == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of them, not neither"),
        ({"sigma": 0.1, "device": "sot_80nm"}, "give one of them, not both"),
        ({"sigma": -0.1}, "must be 0 or above"),
        ({"sigma": float("nan")}, "must be 0 or above"),
        ({"device": "sot_80mn"}, "did you mean 'sot_80nm'"),
        ({"device": "sot_80nm", "within": "truncated"}, "is for sigma"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MTJVariation(**options)


def test_a_callbacks_device_and_temperature_are_the_evaluations():
    asked = Evaluation(correlation=0.2, samples=7)
    callback = MTJVariation(device="sot_80nm", redraw="chip", seed=4, temperature_k=320.0)
    wanted = evaluation_with([callback], asked)
    assert wanted.variation == Variation(device="sot_80nm", redraw="chip", chip=4, temperature_k=320.0, correlation=0.2)
    assert evaluation_with([callback], wanted) == wanted
    with pytest.raises(ValueError, match="make them agree"):
        evaluation_with([MTJVariation(device="sot_80nm", redraw="chip", seed=4)], wanted)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval")
def test_the_example_of_the_documents_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "variation.md").read_text(), re.DOTALL)
    names: dict = {}
    torch.manual_seed(0)
    exec(code, names)
    assert names["prediction"].mean.shape == (64, 3)
    assert 0 < names["trainer"].callback_metrics["hw/p_shift"] < 0.2
    # in the long run the chip's junction drops as often as its own probability says, not as often as was wanted
    options = {"probability": names["chip"].probability(), "chip": 3}
    p = chip_probabilities(torch.tensor([0.2]), options["probability"], 3).item()
    plan = names["PosteriorPredictive"](names["model"].net, 500, **options).plans[0]
    assert abs(plan.draws["1"].mean() - (1 - p)) < 3 * (p * (1 - p) / 500) ** 0.5 < abs(p - 0.2)
