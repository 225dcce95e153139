"""Networks and LightningModules that are not ours: in Python, and through ``fit`` to a record."""

import json
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from datamodules import DigitsDataModule
from fakes.training import Batches, quiet_trainer
from lit_scaledrop import (
    METHODS,
    LitClassifier,
    LitSegmenter,
    PosteriorPredictive,
    ScaleDropout,
    build_network,
    convert,
)
from lit_scaledrop.__main__ import main
from lit_scaledrop.evaluation.checkpoint import CheckpointError, load_trained
from lit_scaledrop.evaluation.evaluate import data_for
from lit_scaledrop.networks.own import OWN, own_network

PROGRAM = """
import torch
from torch import nn
from torch.nn import functional as F
import lightning as L


class Small(nn.Module):
    def __init__(self, num_classes, in_channels=3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3, 4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, num_classes)
        )

    def forward(self, x):
        return {"logits": self.layers(x)}


def of_method(num_classes, in_channels, method, width):
    from lit_scaledrop import build_network
    return build_network("lenet5", method, num_classes, in_channels, width)


def nothing(num_classes):
    return None


def narrow(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))


def wide(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 1000))


def no_classes():
    return nn.Identity()


class Mine(L.LightningModule):
    monitor = "val/right"

    def __init__(self, lr: float = 0.01):
        super().__init__()
        self.net = Small(10).layers
        self.lr = lr

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/right", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.lr)


class Silent(Mine):
    monitor = "val/acc"


class Blind(Mine):
    validation_step = L.LightningModule.validation_step
"""


@pytest.fixture
def folder(place, monkeypatch):
    (place / "strange.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(place))
    yield place
    sys.modules.pop("strange", None)


def plain(classes=10):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, classes))


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_module_of_ones_own_is_trained(tmp_path, precision):
    torch.manual_seed(0)
    net = plain()
    before = net[4].weight.detach().clone()
    module = LitClassifier(network=net, lr=1e-2)
    trainer = quiet_trainer(max_epochs=1, precision=precision)
    trainer.fit(module, Batches(3, 8), Batches(1, 8))
    assert module.network is net
    assert not torch.equal(net[4].weight, before)
    assert 0 <= trainer.callback_metrics["val/acc"] <= 1
    file = tmp_path / "own.ckpt"
    trainer.save_checkpoint(file)
    again = LitClassifier.load_from_checkpoint(file, network=plain(), weights_only=True)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again.eval()(x), module.float().eval()(x))
    assert again.hparams["lr"] == 1e-2
    with pytest.raises(CheckpointError, match=r"a network that was passed as a module: in Python, LitClassifier.load"):
        load_trained(file)
    assert PosteriorPredictive(module, samples=4)(x).variance.max() > 0


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
@pytest.mark.parametrize("method", ["proposed", "dsq", "lab", "spinbayes", "mc_dropout_htanh"])
def test_binary_networks_train_in_other_precisions(method, precision):
    module = LitClassifier(network="lenet5", method=method, width=0.1)
    trainer = quiet_trainer(max_epochs=1, precision=precision)
    trainer.fit(module, Batches(2, 8), Batches(1, 8))
    assert torch.isfinite(trainer.callback_metrics["loss/total"])


def test_a_converted_network_has_the_scale_term():
    net = convert(
        nn.Sequential(*plain()[:3], nn.Linear(256, 32), nn.Tanh(), nn.Linear(32, 10)), input_shape=(3, 32, 32)
    )
    scale = next(m for m in net.network.modules() if isinstance(m, ScaleDropout))
    scale.scale.data.fill_(3.0)
    module = LitClassifier(network=net.network, lambda_scale=0.5)
    images, target = torch.randn(4, 3, 32, 32), torch.arange(4)
    torch.manual_seed(1)
    loss = module.objective(images, target)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, F.cross_entropy(net.network(images), target) + 0.5 * 4)


def test_networks_of_one_logit_and_of_maps():
    module = LitClassifier(network=nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), num_classes=2)
    x = torch.randn(5, 3, 2, 2)
    z = module.network(x)[:, 0]
    target = torch.tensor([0, 1, 1, 0, 1])
    torch.testing.assert_close(
        module.task_loss(module(x), target), F.binary_cross_entropy_with_logits(z, target.float())
    )
    maps = LitSegmenter(network=nn.Conv2d(3, 1, 1))
    assert maps(x).shape == (5, 2, 2, 2)


def test_options_of_networks_that_are_built_here_are_refused():
    with pytest.raises(ValueError, match="p, mask: options of networks that are built here"):
        LitClassifier(network=plain(), p=0.3, mask="element")


def test_what_makes_a_network_is_asked_by_name(folder):
    made, of_method = own_network("strange.Small", {"num_classes": 7, "in_channels": 1, "width": 2.0})
    assert made(torch.zeros(1, 1, 32, 32))["logits"].shape == (1, 7)
    assert not of_method
    for path, message in {
        "strange.Smal": "has no attribute 'Smal'", "stranger.Small": "No module named 'stranger'",
        "strange.nothing": "returns a NoneType", "strange.no_classes": "must take the keyword argument num_classes",
        "os.abort": "must take the keyword argument num_classes",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            own_network(path, {"num_classes": 7})
    module = LitClassifier(network="strange.of_method", method="irnet", width=0.1)
    expected = build_network("lenet5", METHODS["irnet"], width=0.1)
    assert module.network.state_dict().keys() == expected.state_dict().keys()
    assert module.method == METHODS["irnet"]
    assert LitClassifier(network="strange.Small").method is OWN


def record(folder):
    (file,) = Path(folder, "results", "quick", "tiny").glob("*.json")
    return json.loads(file.read_text())


def test_fit_takes_a_network_of_ones_own_by_its_name(folder):
    assert main(["fit", "--config", "tiny.yaml", "--model.network=strange.Small"]) == 0
    found = record(folder)
    assert (found["network"], found["method"], found["label"], found["bayesian"]) == (
        "strange.Small", "proposed", "Own network", True,
    )  # fmt: skip
    assert found["evaluation"]["samples"] == 3
    (file,) = folder.glob("runs/quick/tiny/*/checkpoints/last.ckpt")
    assert type(load_trained(file).network).__name__ == "Small"


def test_fit_takes_a_module_of_ones_own(folder):
    text = (folder / "tiny.yaml").read_text().split("model:")[0] + "trainer: {max_epochs: 2, accelerator: cpu}\n"
    (folder / "own.yaml").write_text(text + "evaluation: {samples: 3}\n")
    assert main(["fit", "--config", "own.yaml", "--model=strange.Mine", "--model.lr=0.02"]) == 0
    found = record(folder)
    assert (found["network"], found["method"], found["bits_w"]) == ("strange.Mine", "own", 32)
    assert found["config"]["model"]["init_args"]["lr"] == 0.02
    assert list(found["training"]["monitored"]) == ["val/right"]
    assert found["evaluation"]["samples"] == 3  # its dropout is sampled
    assert 0 <= found["measurements"][0]["metrics"]["cls/acc"] <= 1
    (file,) = folder.glob("runs/quick/tiny/*/checkpoints/last.ckpt")
    with pytest.raises(CheckpointError, match=r"trained by a user.s module: .* load it with its class"):
        load_trained(file)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model.network=strange.narrow", "network 'strange.narrow' does not accept the images of 'cifar10', 3 x 32 x "
         "32 (channels, height, width): mat1 and mat2 shapes cannot be multiplied (2x3072 and 784x10)"),
        ("--model.network=strange.wide", "gives (2, 1000) for 2 images, and 'cifar10' has 10 classes"),
        ("--data=PhantomDataModule", "'phantom' has a mask for each image: take a network that segments, --model"),
        ("--model=strange.Silent", "'val/acc' selects the checkpoint, but Silent does not log it (its "),
        ("--model=strange.Blind", "Blind does not log it (it has no validation_step)"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_or_chosen_is_refused_first(folder, capsys, flag, message):
    text = (folder / "tiny.yaml").read_text().split("model:")[0] + "trainer: {max_epochs: 2, accelerator: cpu}\n"
    (folder / "own.yaml").write_text(text)
    assert main(["fit", "--config", "own.yaml", flag]) == 1
    assert message in capsys.readouterr().err
    assert not list(folder.rglob("last.ckpt"))


def test_a_network_is_evaluated_on_data_of_ones_own():
    module = LitClassifier(network="lenet5", width=0.1)
    assert type(data_for(module, "datamodules.classification.digits.DigitsDataModule")) is DigitsDataModule
    with pytest.raises(ValueError, match=r"data set 'clinic.Clinic' cannot be imported \(No module named 'clinic'\)"):
        data_for(module, "clinic.Clinic")


def test_a_class_in_place_of_a_name_is_refused(folder, capsys):
    assert main(["fit", "--config", "tiny.yaml", "--model.network.class_path=strange.Small"]) == 1
    assert "model.network must be a name: --model.network=strange.Small" in capsys.readouterr().err


def test_modules_of_ones_own_need_no_settings():
    from lit_scaledrop.modules.anybody import method_of, monitor_of, network_of

    module = L.LightningModule()
    assert (monitor_of(module), network_of(module), method_of(module)) == ("val/acc", module, OWN)
