"""What a GPU does otherwise than a CPU, in a few minutes: `make test-gpu`, which leaves out the checks of shapes (they
break graphs of torch.compile). SCALEDROP_TEST_DEVICE=cpu rehearses it."""

import math
import os

import pytest
import torch
from torch import nn

from datamodules import DigitsDataModule
from fakes.training import quiet_trainer
from lit_scaledrop.callbacks import EstimatorSchedule
from lit_scaledrop.evaluation.evaluate import evaluate_network, normalized_test_set
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.modules import LitClassifier, LitSegmenter
from lit_scaledrop.modules.stepping import WARM_UP, Stepper, require_gradients
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive

DEVICE = torch.device(os.environ.get("SCALEDROP_TEST_DEVICE", "cuda"))
ABSENT = DEVICE.type == "cuda" and not torch.cuda.is_available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(ABSENT, reason="no GPU here")]
TRAINED = sorted(name for name, method in METHODS.items() if method.members == 1)
MASKED = sorted(name for name, method in SEGMENTATION_METHODS.items() if method.members == 1)


def classifier(method="proposed", network="resnet20", **options):
    torch.manual_seed(0)
    return LitClassifier(network=network, method=method, width=0.5, lr=0.01, **options)


def some_images(count=8, channels=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, 32, 32, generator=generator), torch.arange(count) % 10


def lived_in(network):
    """Statistics and scales that are none of a fresh network."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.5, generator=generator)
            if isinstance(getattr(module, "scale", None), nn.Parameter):
                module.scale.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def steps(module, images, target, capture, count=WARM_UP + 3):
    """The weights behind some steps, all of them from the same seed."""
    module = module.to(DEVICE).train()
    optimizer = torch.optim.SGD(module.network.parameters(), lr=0.01)
    stepper = Stepper(module.network, module.objective, optimizer, capture, DEVICE)
    torch.manual_seed(3)
    for _ in range(count):
        stepper.step(images.to(DEVICE), target.to(DEVICE))
    assert (stepper._graph is not None) == (capture == "auto" and DEVICE.type == "cuda")
    return nn.utils.parameters_to_vector(module.network.parameters()).detach().cpu()


@pytest.mark.parametrize("method", TRAINED)
def test_captured_steps_are_the_steps(method):
    images, target = some_images()
    taken, captured = (steps(classifier(method), images, target, capture) for capture in ("off", "auto"))
    start = nn.utils.parameters_to_vector(classifier(method).network.parameters()).detach()
    moved = (taken - start).norm()
    assert moved > 0
    # atomics add in another order from run to run, and a sign may turn
    assert (captured - taken).norm() < 0.1 * moved


@pytest.mark.parametrize("method", MASKED)
def test_segmentation_takes_a_step(method):
    torch.manual_seed(0)
    module = LitSegmenter(network="unet", method=method, width=0.125, image_size=32).to(DEVICE).train()
    module.objective(torch.rand(2, 3, 32, 32, device=DEVICE), torch.randint(2, (2, 32, 32), device=DEVICE)).backward()
    require_gradients(module.network)


@pytest.mark.parametrize("method", ["proposed", "proposed_affine", "irnet", "recu"])
def test_compiled_gradients_are_none_of_zero(method):
    module = classifier(method, "lenet5", compile_network=True).to(DEVICE).train()
    images, target = (part.to(DEVICE) for part in some_images())
    with torch.autocast(DEVICE.type, torch.bfloat16):
        module.objective(images, target).backward()
    require_gradients(module.network)
    gradients = [parameter.grad for parameter in module.network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("network", ["vgg_small", "resnet20", "lenet5"])
def test_executions_agree(network):
    module = lived_in(classifier(network=network).network).to(DEVICE)
    x = some_images()[0].to(DEVICE)
    loop = PosteriorPredictive(module, 6, 1, "loop")
    expected = loop(x)
    for execution in ("folded", "shared"):
        found = PosteriorPredictive(module, 6, 1, execution)(x)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-2, atol=1e-2)
    assert loop.multiplied[0] == ("torch" if DEVICE.type == "cuda" else "bits")
    if network == "vgg_small":
        exact = PosteriorPredictive(module, execution="exact")(x).mean
        many = PosteriorPredictive(module, 2000, 1, "shared")(x).mean
        assert (exact - many).abs().max() < 5 * math.sqrt(0.25 / 2000)


def test_the_cpu_has_the_same_posterior():
    module = lived_in(classifier().network)
    x = some_images()[0]
    here = PosteriorPredictive(module, 6, 1)(x).mean
    there = PosteriorPredictive(module.to(DEVICE), 6, 1)(x.to(DEVICE)).mean.cpu()
    assert (here - there).abs().mean() < 0.02


def digits(**options):
    return DigitsDataModule(batch_size=32, limit_train=320, **options)


def trained(epochs, start=None, precision="32-true", **options):
    module = classifier(network="lenet5", **options)
    torch.manual_seed(4)
    trainer = quiet_trainer(
        accelerator="gpu" if DEVICE.type == "cuda" else "cpu", devices=1, max_epochs=epochs, precision=precision,
        callbacks=[EstimatorSchedule()],
    )  # fmt: skip
    trainer.fit(module, datamodule=digits(), ckpt_path=start, weights_only=None if start is None else True)
    return trainer, module


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_training_learns_and_resumes(tmp_path, precision):
    trainer, module = trained(4, precision=precision)
    first, _ = trained(2, precision=precision)
    first.save_checkpoint(tmp_path / "half.ckpt")
    again, resumed = trained(4, tmp_path / "half.ckpt", precision)
    assert trainer.global_step == again.global_step == 40
    for one in (trainer, again):
        assert float(one.callback_metrics["val/acc"]) > 0.5
        assert float(one.callback_metrics["loss/total"]) < 1.6
    assert stochastic_layers(resumed.network).keys() == stochastic_layers(module.network).keys()


def test_an_evaluation_is_that_of_the_cpu():
    _, module = trained(2)
    data = digits()
    data.prepare_data()
    data.setup("test")
    batches = list(normalized_test_set(data))
    evaluation = Evaluation(samples=8, execution="shared")
    there, how = evaluate_network(module.network, batches, evaluation, module.test_metrics(evaluation), DEVICE)
    here, _ = evaluate_network(module.network.cpu(), batches, evaluation, module.test_metrics(evaluation), "cpu")
    assert how["images"] == sum(len(labels) for _, labels in batches)
    for key in ("cls/acc", "cls/nll"):
        assert there[key] == pytest.approx(here[key], abs=0.02)
