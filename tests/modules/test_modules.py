"""The LightningModule: objective, optimizer and schedule, the streams it keeps, and the losses it refuses."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_scaledrop.layers.binary import BinaryConv2d
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.modules import LitClassifier, NonFiniteLossError
from lit_scaledrop.modules.objective import scale_regularization


def training_loss(model: LitClassifier, images: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, dict]:
    """Loss of the only step of an epoch, and what is logged at its end."""
    logged: dict[str, torch.Tensor] = {}
    model.log_dict = lambda terms, **_: logged.update(terms)  # type: ignore[method-assign]
    model._trainer = _Trainer()  # type: ignore[assignment]
    loss = model.training_step((images, target), 0)
    model.on_train_batch_end(loss, (images, target), 0)
    return loss, logged


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)


def test_objective_is_the_sum_of_its_terms(batch):
    torch.manual_seed(0)
    model = LitClassifier("lenet5", width=0.5, lambda_scale=0.3, lambda_weight=0.02, p=0.0).train()
    for layer in model.modules():
        if isinstance(layer, ScaleDropout):
            layer.scale.data.uniform_(0.2, 2)
    loss, logged = training_loss(model, *batch)
    logits = model(batch[0])
    scale = sum((1 - m.scale.mean()) ** 2 for m in model.modules() if isinstance(m, ScaleDropout))
    weight = sum((m.weight**2).sum() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    torch.testing.assert_close(logged["loss/task"], F.cross_entropy(logits, batch[1]))
    torch.testing.assert_close(logged["loss/scale"], scale.detach())
    torch.testing.assert_close(logged["loss/weight"], weight.detach())
    expected = logged["loss/task"] + 0.3 * logged["loss/scale"] + 0.02 * logged["loss/weight"]
    torch.testing.assert_close(logged["loss/total"], expected)
    torch.testing.assert_close(loss.detach(), expected - 0.02 * weight.detach())  # the rest is the optimizer's


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_is_the_gradient_of_the_weight_term(batch, optimizer):
    """One step with the decay equals one step of a plain optimizer on the whole objective."""
    torch.manual_seed(0)
    model = LitClassifier("lenet5", "fp", width=0.5, lambda_weight=0.02, optimizer=optimizer, lr=0.1)
    model._trainer = _Trainer()  # type: ignore[assignment]
    twin = copy.deepcopy(model.network)
    if optimizer == "adam":
        plain: torch.optim.Optimizer = torch.optim.Adam(twin.parameters(), 0.1)
    else:
        plain = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9, nesterov=True)
    ours = model.configure_optimizers()["optimizer"]
    assert {group["name"] for group in ours.param_groups} == {"weights", "rest"}
    for _ in range(3):
        ours.zero_grad()
        training_loss(model.train(), *batch)[0].backward()
        ours.step()
        plain.zero_grad()
        weight = sum((m.weight**2).sum() for m in twin.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        (F.cross_entropy(twin.train()(batch[0]), batch[1]) + 0.02 * weight).backward()
        plain.step()
    for (name, one), other in zip(model.network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_terms_are_means_over_the_epoch(batch):
    torch.manual_seed(0)
    model = LitClassifier("lenet5", width=0.5).train()
    logged: list[dict] = []
    model.log_dict = lambda terms, **_: logged.append(terms)  # type: ignore[method-assign]
    model._trainer = _Trainer()  # type: ignore[assignment]
    for last in (1, 2):
        losses = []
        for step in range(3):
            model._trainer.is_last_batch = step == 2
            losses.append(model.training_step(batch, step).item())
            model.on_train_batch_end(None, batch, step)
        assert len(logged) == last
        without_weights = logged[-1]["loss/total"] - model.hparams["lambda_weight"] * logged[-1]["loss/weight"]
        assert without_weights.item() == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_the_affine_layer_is_pulled_towards_one_and_zero():
    layer = ScaleDropout(4, bias=True, start=(0.3, 0.6))
    expected = (1 - layer.scale.mean()) ** 2 + layer.bias.mean() ** 2
    torch.testing.assert_close(scale_regularization(layer), expected)


def test_label_smoothing_is_in_training_only(batch):
    model = LitClassifier("lenet5", "fp", width=0.5, label_smoothing=0.2).train()
    _, logged = training_loss(model, *batch)
    logits = model(batch[0])
    torch.testing.assert_close(logged["loss/task"], F.cross_entropy(logits, batch[1], label_smoothing=0.2))
    seen = {}
    model.eval().log = lambda name, value, **_: seen.update({name: value})  # type: ignore[method-assign]
    model.validation_step(batch, 0)
    torch.testing.assert_close(seen["val/nll"], F.cross_entropy(model(batch[0]), batch[1]))


class _Trainer:
    estimated_stepping_batches, max_epochs, current_epoch = 100, 10, 0
    num_training_batches, accumulate_grad_batches = 10, 1
    is_last_batch, world_size, strategy = True, 1, SimpleNamespace(root_device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "constant"}, lambda s: 1.0),
        ({"schedule": "cosine"}, lambda s: 0.5 * (1 + math.cos(math.pi * s / 100))),
        ({"schedule": "constant", "warmup_epochs": 2.0}, lambda s: min(1, (s + 1) / 20)),
        (
            {"schedule": "cosine", "warmup_epochs": 2.0},
            lambda s: min(1, (s + 1) / 20) * 0.5 * (1 + math.cos(math.pi * s / 100)),
        ),
    ],
)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_learning_rate_of_every_step(settings, expected, optimizer):
    model = LitClassifier("lenet5", width=0.25, optimizer=optimizer, lr=0.2, **settings)
    model._fabric = None
    model._trainer = _Trainer()  # type: ignore[assignment]
    made = model.configure_optimizers()
    schedule = made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    for step in range(100):
        assert schedule.get_last_lr()[0] == pytest.approx(0.2 * expected(step), abs=1e-12)
        made["optimizer"].step()
        schedule.step()


def test_a_schedule_needs_an_end():
    model = LitClassifier("lenet5", width=0.25)
    model._trainer = type("Endless", (_Trainer,), {"estimated_stepping_batches": math.inf})()  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"needs a length: set trainer\.max_epochs"):
        model.configure_optimizers()


def test_optimizers_are_the_papers_adam_and_nesterov_sgd():
    made = {}
    for optimizer in ("adam", "sgd"):
        model = LitClassifier("lenet5", width=0.25, optimizer=optimizer, lr=0.1, momentum=0.8)
        model._trainer = _Trainer()  # type: ignore[assignment]
        made[optimizer] = model.configure_optimizers()["optimizer"]
        parameters = [p for group in made[optimizer].param_groups for p in group["params"]]
        assert {id(p) for p in parameters} == {id(p) for p in model.parameters()}
    assert type(made["adam"]) is torch.optim.Adam
    assert made["adam"].defaults["betas"] == (0.9, 0.999)
    assert [g["weight_decay"] for g in made["adam"].param_groups] == [1e-4, 0, 0]  # weights, scales, the rest
    assert type(made["sgd"]) is torch.optim.SGD
    assert (made["sgd"].defaults["momentum"], made["sgd"].defaults["nesterov"]) == (0.8, True)


def test_non_finite_losses_are_refused(batch):
    model = LitClassifier("lenet5", width=0.25).train()
    next(model.parameters()).data.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"the loss is nan in epoch 0: .* Lower --model\.lr"):
        training_loss(model, *batch)


def test_a_loss_that_breaks_late_is_refused_before_a_checkpoint(batch):
    model = LitClassifier("lenet5", width=0.25).train()
    model.on_validation_start()  # nothing was trained yet
    training_loss(model, *batch)
    model.on_validation_start()
    model.network.classifier.weight.data.fill_(float("nan"))
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    model.training_step(batch, 1)  # no step that is looked at
    with pytest.raises(NonFiniteLossError):
        model.on_validation_start()


def test_random_stream_goes_through_a_checkpoint():
    model, checkpoint = LitClassifier("lenet5", width=0.25), {}
    torch.manual_seed(5)
    model.on_save_checkpoint(checkpoint)
    expected = torch.rand(3)
    torch.manual_seed(6)
    resumed = LitClassifier("lenet5", width=0.25)
    resumed.on_load_checkpoint(checkpoint)
    torch.rand(7)
    resumed.on_train_start()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(5)
    LitClassifier("lenet5", width=0.25).on_train_start()  # a fresh one leaves the stream alone


def test_checkpoints_hold_plain_hyper_parameters(batch, tmp_path):
    model = LitClassifier("lenet5", width=0.25, mask="element")
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}, tmp_path / "x")
    loaded = torch.load(tmp_path / "x", weights_only=True)
    again = LitClassifier(**loaded["hyper_parameters"])
    again.load_state_dict(loaded["state_dict"])
    assert torch.equal(again.eval()(batch[0]), model.eval()(batch[0]))
    assert not {"samples", "quantile", "threshold", "execution"} & model.hparams.keys()


def test_prediction_is_a_distribution(batch):
    model = LitClassifier("lenet5", "irnet", width=0.25, num_classes=7).eval()
    probabilities = model.predict_step(batch, 0)
    assert probabilities.shape == (8, 7)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(8))
    torch.testing.assert_close(probabilities, model(batch[0]).softmax(-1))


def test_channels_last_changes_no_number(batch):
    models = []
    for options in ({}, {"channels_last": True}):
        torch.manual_seed(0)
        models.append(LitClassifier("resnet20", width=0.1, **options).eval())
    plain, other = models
    assert plain.state_dict().keys() == other.state_dict().keys()
    torch.testing.assert_close(other(batch[0]), plain(batch[0]), atol=1e-5, rtol=1e-4)
    weight = next(m.weight for m in other.modules() if isinstance(m, BinaryConv2d) and m.weight.shape[1] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "irnett"}, "unknown method 'irnett'; did you mean 'irnet'"),
        ({"network": "resnet"}, "unknown network 'resnet'; did you mean 'resnet20'"),
        ({"p": 1.01}, r"must lie in \[0, 1\], got 1.01"),
        ({"method": "fp", "mask": "element"}, "has no Scale-Dropout: drop the option mask"),
        ({"width": -1.0}, "width must be above 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LitClassifier(**{"network": "lenet5", **arguments})
