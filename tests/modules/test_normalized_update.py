"""The normalized update against its closed form in NumPy, on real networks, and where it is refused."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lit_scaledrop.layers.binary import BinaryConv2d
from lit_scaledrop.layers.quantizers import follow_optimizer
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.modules.normalized_update import ANGLE, TURNED, turn, turn_filters, turning_weights
from lit_scaledrop.modules.objective import parameter_groups
from lit_scaledrop.modules.segmenter import LitSegmenter

FACTORS = (0.25, 1.0, 0.5)  # of the schedule
MOMENTUM = 0.9


def numpy_step(w, b, angle):
    """Filters ``(out, n)`` turned by ``angle`` in the plane of ``w`` and ``-b``, in float64."""
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    u = b - (b * unit).sum(1, keepdims=True) * unit
    t = u / np.linalg.norm(u, axis=1, keepdims=True)
    return np.linalg.norm(w, axis=1, keepdims=True) * (np.cos(angle) * unit - np.sin(angle) * t)


def angles(a, b):
    """Between filters, from their chord: the arc cosine of float32 is off by 3e-4 at angles this small."""
    a, b = (x.flatten(1).double() / x.flatten(1).double().norm(dim=1, keepdim=True) for x in (a, b))
    return 2 * torch.asin((a - b).norm(dim=1) / 2)


def prepared(momentum=MOMENTUM, **arguments):
    torch.manual_seed(0)
    model = LitClassifier("resnet20", width=0.25, optimizer="sgd", update="normalized", momentum=momentum, **arguments)
    groups = parameter_groups(model.network, 5e-5, "normalized")
    optimizer = torch.optim.SGD(groups, 0.1, momentum=momentum, nesterov=momentum > 0)
    turn_filters(optimizer)
    return model, optimizer


def backward(model, seed):
    generator = torch.Generator().manual_seed(seed)
    images, target = torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)
    model.zero_grad()
    F.cross_entropy(model.network(images), target).backward()


@pytest.mark.parametrize("momentum", [MOMENTUM, 0.0])
def test_three_steps_are_the_closed_form(momentum):
    """Every filter of every layer, with the momentum of the steps before."""
    model, optimizer = prepared(momentum)
    weights = turning_weights(model.network)
    assert len(weights) == 18
    buffers = [np.zeros((len(w), w[0].numel())) for w in weights]
    for step, factor in enumerate(FACTORS):
        before = [w.detach().clone() for w in weights]
        backward(model, step)
        optimizer.param_groups[-1]["lr"] = ANGLE * factor
        optimizer.step()
        for n, (w, old) in enumerate(zip(weights, before, strict=True)):
            buffers[n] = momentum * buffers[n] + w.grad.flatten(1).double().numpy()
            torch.testing.assert_close(w.flatten(1).norm(dim=1), old.flatten(1).norm(dim=1), rtol=1e-6, atol=0)
            torch.testing.assert_close(
                angles(w.detach(), old), torch.full((len(w),), ANGLE * factor).double(), rtol=2e-4, atol=0
            )
            expected = numpy_step(old.flatten(1).double().numpy(), buffers[n], ANGLE * factor)
            np.testing.assert_allclose(w.detach().flatten(1).numpy(), expected, rtol=0, atol=2e-6)


def test_a_filter_without_gradient_stays_and_the_loss_falls_against_the_direction():
    weight, direction = torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3)
    direction[1] = 0
    turned = turn(weight, direction, 0.1)
    assert torch.equal(turned[1], weight[1])
    assert ((turned - weight) * direction).flatten(1).sum(1)[[0, 2]].lt(0).all()
    torch.testing.assert_close(turn(weight, 7 * direction + 3 * weight, 0.1)[0], turned[0])  # only the tangent counts
    torch.testing.assert_close(turn(weight, direction, torch.tensor(0.1)), turned)  # as a captured step holds it
    assert turn(weight, direction / 0, 0.1).isnan().all()  # a broken gradient is not hidden


def test_a_layer_without_gradient_stays():
    model, optimizer = prepared()
    first, *others = weights = turning_weights(model.network)
    before = [weight.detach().clone() for weight in weights]
    backward(model, 0)
    first.grad = None
    optimizer.step()
    assert torch.equal(first, before[0])
    assert not any(torch.equal(weight, old) for weight, old in zip(others, before[1:], strict=True))


def test_only_normalized_binary_layers_turn_and_nothing_else_changes_its_group():
    model, _ = prepared()
    plain, other = parameter_groups(model.network, 5e-5), parameter_groups(model.network, 5e-5, "normalized")
    turned = other.pop()
    assert (turned["name"], turned["weight_decay"], turned["lr"], turned["nesterov"]) == (TURNED, 0, ANGLE, False)
    layers = {id(m.weight) for m in model.network.modules() if isinstance(m, BinaryConv2d)}
    assert {id(w) for w in turned["params"]} == layers
    assert [id(w) for w in plain[0]["params"] if id(w) not in layers] == [id(w) for w in other[0]["params"]]
    assert [g["weight_decay"] for g in other] == [g["weight_decay"] for g in plain]
    assert [list(map(id, g["params"])) for g in other[1:]] == [list(map(id, g["params"])) for g in plain[1:]]


def test_training_goes_on_from_a_state_dict_as_without_a_stop():
    model, optimizer = prepared(p=0.0)
    for seed in (0, 1):
        backward(model, seed)
        optimizer.step()
    resumed, again = prepared(p=0.0)
    resumed.load_state_dict(model.state_dict())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((model, optimizer), (resumed, again)):
        backward(one, 2)
        its.step()
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_module_makes_it_with_the_schedule_on_the_angle(monkeypatch):
    model = LitClassifier("resnet20", width=0.25, optimizer="sgd", lr=0.1, warmup_epochs=2.0, update="normalized")
    trainer = type("Trainer", (), {"estimated_stepping_batches": 100, "num_training_batches": 10})()
    trainer.accumulate_grad_batches = 1
    monkeypatch.setattr(type(model), "trainer", trainer)
    made = model.configure_optimizers()
    assert made["lr_scheduler"]["scheduler"].get_last_lr() == pytest.approx([0.1 / 20] * 3 + [ANGLE / 20])
    backward(model, 0)
    weights = turning_weights(model.network)
    before = [w.detach().clone() for w in weights]
    made["optimizer"].step()
    for w, old in zip(weights, before, strict=True):
        torch.testing.assert_close(
            angles(w.detach(), old), torch.full((len(w),), ANGLE / 20).double(), rtol=4e-3, atol=0
        )


def test_estimators_that_act_after_a_step_see_turned_weights():
    """The hook of the filters runs before that of the estimators."""
    model, optimizer = prepared()
    seen, layer = [], next(m for m in model.network.modules() if isinstance(m, BinaryConv2d))
    layer.weight_estimator.after_step = lambda weight: seen.append(weight.detach().clone())
    follow_optimizer(model.network, optimizer)
    backward(model, 0)
    optimizer.step()
    assert torch.equal(seen[0], layer.weight)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (LitClassifier, {"optimizer": "adam"}, "add --model.optimizer=sgd"),
        (LitClassifier, {"optimizer": "sgd", "method": "fp"}, "use --model.update=plain"),
        (LitClassifier, {"optimizer": "sgd", "method": "xnor"}, "does not normalize"),
        (LitSegmenter, {"optimizer": "adam"}, "add --model.optimizer=sgd"),
        (LitSegmenter, {"optimizer": "sgd", "method": "fp"}, "full precision"),
    ],
)
def test_it_is_refused_before_training(module, arguments, message):
    with pytest.raises(ValueError, match=message):
        module(width=0.25, update="normalized", **arguments)


def test_a_segmentation_network_turns_too():
    model = LitSegmenter("unet", width=0.25, optimizer="sgd", update="normalized")
    assert turning_weights(model.network)
