"""`scaledrop verify`: a committed result, measured again from its weights; weights by whatever names them."""

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch

import datamodules
from lit_scaledrop import from_pretrained
from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.verify import TOLERANCE
from lit_scaledrop.deploy.open import MODELS, model_names

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
    assert "other data, which cannot verify it" in capsys.readouterr().err


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


def test_a_name_wherever_a_checkpoint_is(trained, tmp_path, monkeypatch, fake_cifar):
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


@pytest.mark.data
def test_the_packaged_resnet20_on_real_images(capsys):
    root = ROOT.parent / "shared" / "data"
    if not (root / "cifar-10-batches-py").is_dir():
        pytest.skip("CIFAR-10 is not unpacked in ../shared/data")
    assert main(["verify", "table3", "resnet20/proposed", "--limit=100", f"--root={root}"]) == 0
    assert "They agree" in capsys.readouterr().out
