"""A deep ensemble: members are ordinary runs, its numbers the average of theirs, its record a result like others."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from datamodules import DATAMODULES
from lit_scaledrop import methods
from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.evaluation.checkpoint import load_trained
from lit_scaledrop.evaluation.evaluate import normalized_test_set
from lit_scaledrop.results.store import load_results
from lit_scaledrop.runs.ensemble import member_seeds
from stand_ins import FIT


@pytest.fixture
def three(monkeypatch):
    """Ensembles of three."""
    for name in ("deep_ensemble", "deep_ensemble_irnet"):
        monkeypatch.setitem(methods.METHODS, name, replace(methods.METHODS[name], members=3))


def results():
    found, problems = load_results("results", "quick", "tiny")
    assert not problems
    return {(result.method, result.seed): result for result in found}


def test_ensemble_from_members_that_are_there_and_that_are_missing(place, three, capsys, monkeypatch):
    # a deterministic row with seed 2 is a member of the ensemble of seed 1, with its own command line
    assert main([*FIT, "--model.method=irnet", "--seed_everything=2"]) == 0
    first = results()["irnet", 2]
    assert main([*FIT, "--model.method=deep_ensemble_irnet"]) == 0
    found = results()
    assert set(found) == {("irnet", 1), ("irnet", 2), ("irnet", 3), ("deep_ensemble_irnet", 1)}
    assert found["irnet", 2] == first
    ensemble = found["deep_ensemble_irnet", 1]
    members = [found["irnet", seed] for seed in (1, 2, 3)]
    assert (ensemble.label, ensemble.bits_w, ensemble.bayesian) == ("Deep Ensemble (IR-Net)", 1, True)
    assert [m["id"] for m in ensemble.training["members"]] == [member.id for member in members]
    assert ensemble.training["epochs"] == 2
    assert ensemble.training["seconds"] == pytest.approx(sum(m.training["seconds"] for m in members), abs=0.1)
    assert ensemble.evaluation["samples"] == 3
    assert ensemble.data == first.data

    # by hand: mean of the probabilities that each member's checkpoint gives
    data = DATAMODULES["cifar10"](batch_size=32, checksums="recorded")
    images, labels = (torch.cat(parts) for parts in zip(*normalized_test_set(data), strict=True))
    checkpoints = [next(place.glob(f"runs/quick/tiny/{member.id}/checkpoints/best*.ckpt")) for member in members]
    with torch.no_grad():
        saved = [load_trained(path)(images).softmax(-1) for path in checkpoints]
    mean = torch.stack(saved).mean(0)
    assert ensemble.metrics["cls/acc"] == pytest.approx((mean.argmax(1) == labels).float().mean().item())
    assert ensemble.metrics["cls/nll"] == pytest.approx(F.nll_loss(mean.log(), labels).item(), abs=1e-5)
    entropy = -(mean * mean.log()).sum(1).mean().item()
    assert ensemble.metrics["unc/predictive_entropy"] == pytest.approx(entropy, abs=1e-5)
    # it is an average of networks that differ
    assert ensemble.metrics["unc/mutual_information"] > 0
    assert all(ensemble.metrics["cls/nll"] != member.metrics["cls/nll"] for member in members)

    # the evaluate command finds the same from the checkpoints
    capsys.readouterr()
    monkeypatch.setitem(DATAMODULES, "cifar10", partial(DATAMODULES["cifar10"], checksums="recorded"))
    assert main(["evaluate", *map(str, checkpoints), "--data", "cifar10", "--out", "e.json", "--device", "cpu"]) == 0
    metrics = json.loads((place / "e.json").read_text())["metrics"]
    assert metrics == pytest.approx(ensemble.metrics, abs=1e-6)

    # finished is finished
    capsys.readouterr()
    assert main([*FIT, "--model.method=deep_ensemble_irnet"]) == 0
    assert capsys.readouterr().out.startswith("finished already")


def test_a_member_whose_checkpoint_is_gone_is_trained_anew(place, three, capsys):
    assert main([*FIT, "--model.method=fp", "--trainer.max_epochs=1"]) == 0
    recorded = results()["fp", 1]
    for checkpoint in place.glob("runs/**/*.ckpt"):
        checkpoint.unlink()
    assert main([*FIT, "--model.method=deep_ensemble", "--trainer.max_epochs=1"]) == 0
    assert "retrained: accuracy" in capsys.readouterr().out
    assert results()["fp", 1] == recorded
    assert results()["deep_ensemble", 1].training["members"][0]["id"] == recorded.id


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--seed_everything=0", "seed must be above 0"),
        ("--trainer.devices=2", "on one device each"),
        ("--trainer.fast_dev_run=true", "no networks to evaluate"),
        ("--ckpt_path=start.ckpt", "random weights"),
    ],
)
def test_what_an_ensemble_refuses(place, flag, message, capsys):
    (place / "start.ckpt").write_bytes(b"x")
    assert main([*FIT, "--model.method=deep_ensemble", flag]) == 1
    assert message in capsys.readouterr().err
    assert not list(place.glob("runs/**/*.ckpt"))


def test_an_ensemble_is_not_trained_as_one_network():
    from lit_scaledrop import LitClassifier

    with pytest.raises(ValueError, match="train 5 networks of method 'fp'"):
        LitClassifier(network="lenet5", method="deep_ensemble", width=0.25).configure_optimizers()


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_a_member_is_the_run_that_its_own_command_plans(profile):
    assert member_seeds(3, 2) == [5, 6]
    words = ["--profile", profile, "--row=vgg_small/deep_ensemble", "--data.root=x", "--seed_everything=4"]
    member = plan_fit(words).replace({"model.method": "fp", "seed_everything": 9})
    alone = plan_fit(["--profile", profile, "--row=vgg_small/fp", "--data.root=x", "--seed_everything=9"])
    assert (member.id, member.config, member.settings) == (alone.id, alone.config, alone.settings)
    assert member.words == ("fit", *words, "--model.method=fp", "--seed_everything=9")
    assert plan_fit(member.words[1:]).id == member.id
    with pytest.raises(ValueError, match=r"no setting 'model\.methd'"):
        member.replace({"model.methd": "fp"})
