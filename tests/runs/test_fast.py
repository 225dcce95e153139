"""``--fast``: what the switch does, what it needs, and that nothing in a training step stands in its way."""

import sys
import sysconfig
from argparse import ArgumentError
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.cli.flags import expand_configs
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.networks import NETWORKS
from lit_scaledrop.runs.compiler import require_compiler

METHODS = ("proposed", "mc_dropout_htanh", "spindrop", "spatial_spindrop")
CPU = torch.device("cpu")


def names(*words: str) -> list[str]:
    """What the words become, files by their name alone."""
    return [Path(word).name for word in expand_configs(["fit", *words]) if word != "--config"]


def test_the_switch_stands_behind_the_profile_and_before_the_flags():
    row = ["--row", "resnet18/proposed"]
    flags = ["--model.network=resnet18", "--model.method=proposed"]
    base = ["fit", "classify.yaml", "cpu.yaml"]
    assert names("--profile", "cpu", *row, "--fast") == [*base, "cpu.resnet18.yaml", "fast.yaml", *flags]
    assert names("--fast", "--profile=cpu", "--model.p=0.1") == [*base, "fast.yaml", "--model.p=0.1"]
    assert names("--profile", "cpu", "--config", "my.yaml", "--fast") == [*base, "fast.yaml", "my.yaml"]
    assert names("--fast", "--profile=cpu", "--no-fast")[-1] == "slow.yaml"  # the last word counts
    assert names("--config", "my.yaml", "--fast", "--model.p=0.1")[-3:] == ["my.yaml", "fast.yaml", "--model.p=0.1"]
    assert names("--fast") == ["fit", "classify.yaml", "fast.yaml"]
    with pytest.raises(ValueError, match="take no value, got '--fast=true'"):
        names("--fast=true")


def settings(*words: str) -> tuple[bool, str | None]:
    config = plan_fit(words).config
    return config["model"]["init_args"]["compile_network"], config["trainer"]["precision"]


@pytest.mark.parametrize("profile", ["quick", "cpu", "paper"])
def test_it_works_both_ways_in_every_profile(place, profile):
    assert settings("--profile", profile, "--fast") == (True, "bf16-mixed")
    assert settings("--profile", profile, "--no-fast") == (False, None)
    over = ("--model.compile_network=false", "--trainer.precision=32-true")
    assert settings("--profile", profile, *over, "--fast") == (False, "32-true")


def test_a_misspelt_switch(place):
    with pytest.raises(ArgumentError, match="unknown flag '--fsat'; did you mean '--fast'"):
        plan_fit(["--profile=quick", "--fsat"])


def test_help_tells_of_it(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert "--fast, torch.compile and bf16" in " ".join(capsys.readouterr().out.split())


def test_a_missing_compiler_is_refused_before_training(place, capsys, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["fit", "--config=tiny.yaml", "--fast"]) == 1
    error = capsys.readouterr().err
    assert "torch.compile on cpu needs the compiler 'no-such-compiler' (install one, or name yours" in error
    assert "--no-fast" in error
    assert not list(place.rglob("*.ckpt"))


def test_what_compilation_needs(tmp_path, monkeypatch):
    for name in ("CXX", "CC"):
        monkeypatch.setenv(name, sys.executable)  # any program that is there
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(RuntimeError, match=r"torch\.compile on cpu needs Python\.h \(install"):
        require_compiler(CPU)
    (tmp_path / "Python.h").touch()
    require_compiler(CPU)
    monkeypatch.setattr("lit_scaledrop.runs.compiler.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"torch\.compile on cuda needs Triton"):
        require_compiler(torch.device("cuda"))


class HostWaitError(RuntimeError):
    """An operation whose result the host, or the shape of what follows, depends on."""


class NoHostWait(TorchDispatchMode):
    """Refuse what makes the host wait for a GPU; on a CPU the same operations are called."""

    WAITS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "_unique2")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.WAITS:
            raise HostWaitError(str(func))
        return func(*args, **(kwargs or {}))


def step(model: LitClassifier, device: str, batch_idx: int) -> None:
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    batch = torch.zeros(2, 3, 32, 32, device=device), torch.zeros(2, dtype=torch.long, device=device)
    model.training_step(batch, batch_idx).backward()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_step_never_waits_for_the_device(network, method):
    model = LitClassifier(network, method, width=0.0625).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    with NoHostWait():
        step(model, "cpu", batch_idx=1)
        optimizer.step()
        # the look at the loss, once in 50 steps, is such a wait
        with pytest.raises(HostWaitError):
            step(model, "cpu", batch_idx=50)


@pytest.mark.parametrize("method", METHODS)
def test_a_training_step_needs_no_value(method):
    """Tensors without data: lists, numpy arrays and tensors on another device would fail as well."""
    model = LitClassifier("lenet5", method, width=0.0625).to("meta").train()
    step(model, "meta", batch_idx=1)
    with pytest.raises(RuntimeError, match="meta tensors"):
        step(model, "meta", batch_idx=50)
