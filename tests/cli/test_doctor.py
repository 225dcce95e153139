"""What the machine has, and how long a training would take on it."""

import copy
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from lit_scaledrop.__main__ import main
from lit_scaledrop.cli import doctor
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.runs import forecast


def test_a_healthy_machine(place, capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert f"Python {sys.version.split()[0]}" in printed
    assert torch.__version__.split("+")[0] in printed
    assert "offline, no API key" in printed
    assert "cifar10" in next(line for line in printed.splitlines() if line.startswith("  data "))
    assert "packaged, for the quick profile: digits, phantom" in printed
    assert printed.endswith("nothing is missing\n")


def test_what_is_old_or_missing_is_said_with_its_remedy(place, capsys, monkeypatch):
    versions = {"torch": "2.4.1+cpu", "lightning": None, "wandb": None}
    true = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: versions.get(name, true(name)))
    assert main(["doctor", "--root", "nowhere"]) == 1
    printed = capsys.readouterr().out
    assert "! torch" in printed
    assert "2.4.1+cpu is too old: pip install -U 'torch>=2.11'" in printed
    assert re.search(r"! lightning +not installed: pip install 'lightning>=2\.6'", printed)
    assert re.search(r"- extra track +not installed: pip install 'wandb>=0\.22'", printed)
    assert "in nowhere: nothing" in printed
    assert "2 to fix" in printed
    assert main(["fit", "--config=tiny.yaml"]) == 1
    assert (
        "torch: 2.4.1+cpu is too old: pip install -U 'torch>=2.11'; lightning: not installed" in capsys.readouterr().err
    )
    assert not list(place.rglob("*.ckpt"))


def test_a_long_training_is_announced(monkeypatch):
    network = build_network("lenet5", METHODS["proposed"], in_channels=1, width=0.25)
    before, stream = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    hours = forecast.training_hours(network, (1, 32, 32), images=1000, epochs=10)
    assert hours * 3600 < 1000 * 10
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    monkeypatch.setattr(forecast, "training_hours", lambda *_, **__: 2160.0)
    data = SimpleNamespace(train_set=[(torch.zeros(1, 32, 32), 0)] * 45_000)
    said = forecast.warning(network, data, 300, "paper", fast=False)
    assert said is not None
    assert "about 90 days on this CPU: 300 epochs of 45,000 images; `--profile cpu` is made for CPUs" in said
    assert "about 30 days" in str(forecast.warning(network, data, 300, "paper", fast=True))
    assert forecast.warning(network, data, 15, "cpu", fast=True) is None


def test_fit_says_it(place, capsys, monkeypatch):
    monkeypatch.setattr(forecast, "WORTH_MEASURING", 0)
    monkeypatch.setattr(forecast, "WORTH_SAYING_H", 0.0)
    assert main(["fit", "--config=tiny.yaml", "--trainer.max_epochs=1"]) == 0
    assert "this training will take about 0 hours on this CPU: 1 epoch of 180 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("machine", "native", "emulates"),
    [("x86_64", False, True), ("AMD64", False, True), ("x86_64", True, False), ("aarch64", False, False)],
)
def test_bfloat16_without_its_instructions(monkeypatch, capsys, machine, native, emulates):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(forecast, "native_bfloat16", lambda: native)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data = SimpleNamespace(setup=lambda stage: None, train_set=[None])
    model = SimpleNamespace(hparams={}, network=torch.nn.Identity())

    def said(precision: str, device: str = "cpu") -> str:
        strategy.root_device = torch.device(device)
        trainer = SimpleNamespace(strategy=strategy, global_rank=0, precision=precision, max_epochs=1)
        forecast.announce(trainer, model, data, "cpu")
        return capsys.readouterr().err

    assert said("32-true") == said("bf16-mixed", "cuda") == ""
    line = "no bfloat16 instructions and emulates bf16-mixed"
    assert (line in said("bf16-mixed")) == emulates
    assert ("--trainer.precision=32-true" in said("bf16-true")) == emulates
    found = {finding.topic: finding for finding in doctor.devices()}
    assert ("bfloat16" in found) == emulates
    assert not emulates or found["bfloat16"].state == "note"


@pytest.mark.parametrize(("line", "least"), [("torch", "2.11"), ("numpy", "1.26"), ("jsonargparse", "4.41")])
def test_lowest_versions_are_those_of_the_package(line, least):
    assert doctor.minimum_versions()[line] == least
