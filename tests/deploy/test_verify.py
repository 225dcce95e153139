"""`scaledrop verify`: a committed result, measured again from its weights; weights by whatever names them."""

import contextlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import datamodules
from lit_scaledrop import from_pretrained
from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.verify import TOLERANCE
from lit_scaledrop.deploy.open import MODELS, model_names
from lit_scaledrop.methods.classification import METHODS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trained(finished, monkeypatch, fake_cifar):
    """Result and checkpoint of the tiny training; DATA is what it was trained on."""
    monkeypatch.setenv("DATA", str(fake_cifar))
    (result,) = finished.glob("results/quick/*/*.json")
    (checkpoint,) = finished.glob("runs/quick/*/*/checkpoints/best*.ckpt")
    return result, checkpoint


def changed(result, path, change):
    said = json.loads(result.read_text())
    change(said)
    path.write_text(json.dumps(said))
    return path


def test_models_come_with_their_committed_results():
    for name in model_names():
        said = (MODELS / f"{name}.json").read_text()
        known = json.loads(said)
        committed = ROOT / "results" / known["profile"] / known["study"] / f"{known['id']}.json"
        assert committed.read_text() == said


def test_numbers_that_are_right_and_one_that_is_not(trained, tmp_path, capsys):
    result, checkpoint = trained
    assert main(["verify", str(result), str(checkpoint)]) == 0
    told = capsys.readouterr().out
    accuracy = next(m for m in json.loads(result.read_text())["measurements"] if "cls/acc" in m["metrics"])
    shown = f"{accuracy['metrics']['cls/acc']:.4f}"
    assert next(line.split() for line in told.splitlines() if "cls/acc" in line) == ["cls/acc", shown, shown, "+0.0000"]
    assert f"by more than {TOLERANCE}" in told

    def better(said):
        for measurement in said["measurements"]:
            if "cls/acc" in measurement["metrics"]:
                measurement["metrics"]["cls/acc"] += TOLERANCE + 0.001

    wrong = changed(result, tmp_path / "better.json", better)
    assert main(["verify", str(wrong), str(checkpoint)]) == 1
    assert "do not agree: cls/acc" in capsys.readouterr().out


def test_other_data_verify_nothing(trained, tmp_path, capsys):
    result, checkpoint = trained
    other = changed(result, tmp_path / "other.json", lambda said: said["data"].update(fingerprint="0" * 16))
    assert main(["verify", str(other), str(checkpoint)]) == 1
    assert "other data cannot verify it" in capsys.readouterr().err


def evaluated(checkpoint, monkeypatch, *how):
    """Metrics of the tiny training, evaluated otherwise."""
    monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", RecordedCIFAR10)
    assert main(["evaluate", str(checkpoint), "--data=cifar10", "--samples=3", *how, "--out=found.json"]) == 0
    return json.loads(Path("found.json").read_text())


def with_metrics(said, metrics):
    for measurement in said["measurements"]:
        if measurement.keys() == {"metrics"}:
            measurement["metrics"] = metrics


def test_a_network_on_a_chip_is_verified_on_it(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result, checkpoint = trained
    Path("lab.yaml").write_text("device: {like: sot_80nm}\nconverter: {bits: 5}\n")
    found = evaluated(checkpoint, monkeypatch, "--chip", "lab.yaml")

    def on_chip(said):
        with_metrics(said, found["metrics"])
        said["config"]["evaluation"]["chip_file"] = "lab.yaml"
        said["evaluation"]["on_chip"] = found["evaluation"]["on_chip"]

    changed(result, tmp_path / "chip.json", on_chip)
    assert main(["verify", "chip.json", str(checkpoint)]) == 0
    Path("lab.yaml").write_text("device: {like: sot_80nm}\nconverter: {bits: 6}\n")
    assert main(["verify", "chip.json", str(checkpoint)]) == 1
    then = found["evaluation"]["on_chip"]["fingerprint"]
    assert f"was evaluated with lab.yaml {then}, now it is" in capsys.readouterr().err


def test_the_variation_of_a_callback_is_that_of_the_record(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result, checkpoint = trained[0], tmp_path / "apart.ckpt"
    torch.manual_seed(0)
    state = torch.load(trained[1], weights_only=True)
    for name, values in state["state_dict"].items():
        if name.endswith(".scale"):
            values.normal_(1, 0.7)  # so that a dropped scale turns signs
    torch.save(state, checkpoint)
    nominal = evaluated(checkpoint, monkeypatch)
    found = evaluated(checkpoint, monkeypatch, "--sigma=0.4", "--redraw=chip", "--chip=3")
    assert abs(nominal["metrics"]["cls/nll"] - found["metrics"]["cls/nll"]) > TOLERANCE

    def varied(said):
        with_metrics(said, found["metrics"])
        said["evaluation"]["variation"] = found["evaluation"]["variation"]

    changed(result, tmp_path / "varied.json", varied)
    assert main(["verify", "varied.json", str(checkpoint)]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    ours = next(line for line in told if line and line[0] == "cls/nll")
    assert ours[1:] == [f"{found['metrics']['cls/nll']:.4f}"] * 2 + ["+0.0000"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said["config"].update(assess={"probe": "table6"}), "reproduce it with: scaledrop fit"),
        (lambda said: said.update(method="irnet"), "is of lenet5/irnet, and"),
        (lambda said: said.update(method="deep_ensemble"), "has 5 trained networks (fp), and 1 files were given"),
        (lambda said: said["config"]["data"].update(class_path="theirs.Data"), "call verify in the folder where"),
    ],
)
def test_a_result_and_weights_that_do_not_go_together(trained, tmp_path, capsys, change, message):
    result, checkpoint = trained
    other = changed(result, tmp_path / "other.json", change)
    with contextlib.suppress(SystemExit):
        assert main(["verify", str(other), str(checkpoint)]) == 1
    assert message in capsys.readouterr().err


def test_an_ensemble_is_verified_of_its_members(trained, tmp_path, monkeypatch):
    """Five times the same weights, whose masks differ."""
    monkeypatch.chdir(tmp_path)
    result, checkpoint = trained
    monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", RecordedCIFAR10)
    ensemble = replace(METHODS["deep_ensemble"], members=2, member="proposed")
    monkeypatch.setitem(METHODS, "pair", ensemble)
    words = ["evaluate", *[str(checkpoint)] * 2, "--data=cifar10", "--samples=3", "--out=found.json"]
    assert main(words) == 0
    found = json.loads(Path("found.json").read_text())

    def paired(said):
        with_metrics(said, found["metrics"])
        said["method"] = "pair"

    pair = changed(result, tmp_path / "pair.json", paired)
    assert main(["verify", str(pair), str(checkpoint), str(checkpoint)]) == 0


class RecordedCIFAR10(datamodules.CIFAR10DataModule):
    def __init__(self, root=None):
        super().__init__(root=root, checksums="recorded")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet20-propose"], "did you mean 'resnet20-proposed'"),
        (["table3", "resnet20/fp"], "table3 resnet20/proposed"),
        (["resnet20-proposed", "--limit=10"], "at least 50"),
    ],
)
def test_what_cannot_be_verified(capsys, words, message):
    with contextlib.suppress(SystemExit):
        assert main(["verify", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_name_wherever_a_checkpoint_is(trained, tmp_path, monkeypatch, fake_cifar, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", RecordedCIFAR10)
    torch.manual_seed(0)
    network = from_pretrained("resnet20-proposed").network
    assert from_pretrained(MODELS / "resnet20-proposed.packed").network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert not network.training
    words = ["evaluate", "resnet20-proposed", "--data=cifar10", "--samples=2", "--out=found.json"]
    assert main(words) == 0
    found = json.loads(Path("found.json").read_text())
    assert found["checkpoints"] == ["resnet20-proposed"]
    assert math.isfinite(found["metrics"]["cls/nll"])
    assert main(["summary", "--checkpoint=resnet20-proposed", "--data=cifar10", "--images=10", "--samples=2"]) == 0
    said = capsys.readouterr().out
    assert "resnet20, Proposed" in said
    assert "does not name its held-out images" in said
    assert re.search(r"units.0.block.scale +[\d.]+ % +[\d.]+ %", said)


@pytest.mark.data
def test_the_packaged_resnet20_on_real_images(capsys):
    root = ROOT.parent / "shared" / "data"
    if not (root / "cifar-10-batches-py").is_dir():
        pytest.skip("CIFAR-10 is not unpacked in ../shared/data")
    assert main(["verify", "table3", "resnet20/proposed", "--limit=100", f"--root={root}"]) == 0
    assert "Accuracy agrees" in capsys.readouterr().out
