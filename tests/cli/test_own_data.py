"""``--images``: the page docs/your-own-data.md, command by command, and the numbers of a built-in set."""

import csv
import glob
import json
import os
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import datamodules
from datamodules import CIFAR10DataModule
from fakes.real import REAL
from fakes.segmentation import write_fake_breast_ultrasound
from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.flags import expand_configs
from lit_scaledrop.results.store import read_result

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-own-data.md").read_text()
TINY = ["--trainer.max_epochs=1", "--model.width=0.25", "--data.batch_size=8", "--run.tracking=disabled"]
TINY += ["--trainer.accelerator=cpu"]


def real_busi(folder):
    """Thirty pictures of the real set, in its layout; skipped where it is absent."""
    for place in (REAL, ROOT.parent / "shared" / "data"):
        if (archive := place / "busi-256.tar").is_file():
            with tarfile.open(archive) as tar:
                wanted = re.compile(r"busi-256/\w+/\w+ \(\d\)(_mask)?\.png")
                tar.extractall(folder, [m for m in tar if wanted.fullmatch(m.name)], filter="data")
            return folder / "busi-256"
    pytest.skip("no busi-256.tar under DATA or ../shared/data")


@pytest.fixture(params=["generated", "real"])
def clinic(request, tmp_path, monkeypatch):
    """BUSI as a stranger would keep it: a folder a class, and pictures beside outlines; two new pictures."""
    root = tmp_path / "source"
    busi = write_fake_breast_ultrasound(root) if request.param == "generated" else real_busi(root)
    here = tmp_path / "clinic"
    for mask in sorted(busi.glob("*/*_mask*.png")):
        name, _, number = mask.stem.partition("_mask")
        place = int(name.split("(")[1][:-1])
        new = f"P{place:04}-{name[0]}{place:03}"
        picture = mask.with_name(f"{name}.png")
        copies = {f"ultrasound/{mask.parent.name}/{new}.png": picture, f"scans/{new}.png": picture}
        copies |= {f"outlines/{new}_roi{number.strip('_')}.png": mask}
        if place < 2:
            copies[f"new_pictures/{name[0]}.png"] = picture
        for path, source in copies.items():
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, here / path)
    monkeypatch.chdir(here)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return here


def run(line, more=()):
    """A line of a shell."""
    words = shlex.split(line)[1:]
    found = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word and "/" in word else [word])]
    assert main([*found, *more]) == 0, line


@pytest.mark.parametrize("block", [0, 1])
def test_the_page_leads_from_a_folder_to_a_report(clinic, block, capsys):
    lines = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)[block].splitlines()
    assert len(lines) == (5, 4)[block]
    before = {path: path.read_bytes() for path in clinic.rglob("*.png")}
    (clinic / "new_pictures" / "notes.txt").touch()
    said = {}
    for line in lines:
        command = line.split()[1]
        # one after another: the last one is told what the first one was
        run(line, {"fit": [*TINY, "--size=32"], "assess": [*TINY, "--limit=4"]}.get(command, ()))
        said[command] = capsys.readouterr()
    study = ("ultrasound", "scans")[block]
    (result,) = map(read_result, clinic.glob(f"results/own/{study}/*.json"))
    assert result.data["name"] == study
    assert "description" in result.data["source"]
    asked = json.loads(said["evaluate"].out)
    assert (asked["data"]["fingerprint"], asked["evaluation"]["samples"]) == (result.data["fingerprint"], 50)
    assert "checkpoint: runs/own" in said["fit"].out
    assert ("accuracy" if block == 0 else "IoU") in said["report"].out
    out = clinic / ("predictions", "outlined")[block]
    rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
    assert len(rows) == len(list(clinic.glob("new_pictures/*.png")))
    assert "1 .txt (read are PNG, JPEG, BMP, WebP, DICOM, NIfTI)" in said["predict"].err
    if block == 0:
        assert {"p(benign)", "p(malignant)", "p(normal)"} <= rows[0].keys()
        assert list(clinic.glob("results/own/reliability/*.json"))
        (drawn,) = re.findall(r"`(scaledrop report \w+ [^`]+)`", PAGE)
        run(drawn)
        assert (clinic / "results/own/reliability.svg").exists()
    for path in clinic.glob("outlined/*_mask.png"):
        picture = clinic / "new_pictures" / f"{path.name.removesuffix('_mask.png')}.png"
        with Image.open(path) as mask, Image.open(picture) as shown:
            assert mask.size == shown.size
    assert before == {path: path.read_bytes() for path in before}  # nothing of the user's is touched
    assert not [path for path in clinic.rglob("*.yaml") if path.parent != clinic and "runs" not in path.parts]


@pytest.fixture
def same_pictures(finished, fake_cifar, tmp_path, monkeypatch):
    """The checkpoint of the tiny training; its images as PNG files in folders of parts and classes."""
    data = CIFAR10DataModule(root=str(fake_cifar), checksums="recorded")
    data.setup()
    parts = {"train": data.train_set, "val": data.val_set, "test": data.test_set}
    for part, images in parts.items():
        for number, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
            path = tmp_path / "photos" / part / data.class_names[label] / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.movedim(0, -1).numpy()).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA", str(fake_cifar))
    (checkpoint,) = finished.glob("runs/quick/tiny/*/checkpoints/best*.ckpt")
    return str(checkpoint)


def test_the_numbers_are_those_of_the_built_in_set(same_pictures, monkeypatch, capsys):
    how = ["evaluate", same_pictures, "--samples", "5", "--device", "cpu"]
    assert main([*how, "--images", "photos"]) == 0
    own = json.loads(capsys.readouterr().out)
    module = datamodules.own_module("DATA.yaml")

    class SameMoments(CIFAR10DataModule):
        mean, std = module.mean, module.std

        def __init__(self, **options):
            super().__init__(checksums="recorded", **options)

    monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", SameMoments)
    assert main([*how, "--data", "cifar10"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert own["evaluation"]["images"] == theirs["evaluation"]["images"] == 60
    # the images come in another order, and mutual information is a difference of entropies in float32
    assert own["metrics"] == pytest.approx(theirs["metrics"], rel=1e-6, abs=1e-7)
    assert own["metrics"].keys() == theirs["metrics"].keys()
    built = SameMoments()
    built.setup()
    module.setup()
    assert module.sizes() == built.sizes()
    pixels = built.train_set.images.double() / 255  # measured on the training part
    assert module.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=6e-5)
    assert torch.equal(*(part.images.flatten(1).unique(dim=0) for part in (built.test_set, module.test_set)))


def test_words(clinic, capsys):
    words = expand_configs(["fit", "--images", "ultrasound", "--size=32", "--model.lr=0.5"])
    assert "--run.study=ultrasound" in words
    lenet5 = expand_configs(["fit", "--images=DATA.yaml", "--profile=quick", "--model.network=lenet5"])
    assert lenet5.index("--run.study=ultrasound") > max(n for n, word in enumerate(lenet5) if word == "--config")
    assert words[-1] == "--model.lr=0.5"
    assert [Path(word).name for word in words if word.endswith(".yaml")][:2] == ["classify.yaml", "own_classes.yaml"]
    again = expand_configs(["fit", "--images=DATA.yaml", "--profile", "cpu", "--run.study=mine"])
    digests = [word for word in words if word.startswith("--data.digest=")]
    assert len(digests) == 2  # behind our files, and behind the user's
    assert digests == [word for word in again if word.startswith("--data.digest=")]
    assert "--run.study=ultrasound" not in again
    (clinic / "odd.yaml").write_text("[1]")
    capsys.readouterr()
    for line, why in {
        "fit --masks outlines": "--masks: of --images DIR",
        "fit --images DATA.yaml --size=64": "DATA.yaml already says how its images are read: remove --size",
        "fit --images ultrasound --size=64": "DATA.yaml exists already, with other settings",
        "fit --images ultrasound --size=big --data-file=b.yaml": "--size is the side",
        "fit --images ultrasound --square=pat --data-file=b.yaml": "did you mean 'pad'",
        "fit --images ultrasound --window=lnug --data-file=b.yaml": "a window is lung, soft",
        "fit --images nowhere --data-file=b.yaml": "there is no folder nowhere",
        "fit --images DATA.yaml --model.network=unet": "network 'unet' is for images with masks",
        "fit --images scans --masks outlines --data-file=b.yaml --model.network=lenet5": "with masks use segnet",
        "fit --images .": "would be among the images of .",
        "report --images ultrasound": "takes the file that",
        "report --images nothing.yaml": "there is no such file; `fit --images DIR` writes DATA.yaml",
        "report --images odd.yaml": "odd.yaml was not written by",
        "evaluate lenet5-proposed --images DATA.yaml": "takes 1 channels and tells 10 classes apart",
    }.items():
        assert main(shlex.split(line)) != 0, line
        assert why in capsys.readouterr().err, line
    assert (
        main(["fit", "--images=ultrasound", "--size=64", "--data-file=c.yaml", "--model.method=spindrop", *TINY]) == 1
    )
    assert "does not accept images of 64 x 64 pixels" in capsys.readouterr().err
    assert not os.path.exists("runs")


def test_a_folder_that_is_called_like_a_known_set_is_another(tmp_path, monkeypatch, capsys):
    for number in range(6):
        path = tmp_path / "cifar10" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 30 * number, np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    words = expand_configs(["fit", "--images", "cifar10"])
    assert "--run.study=own-cifar10" in words
    assert datamodules.own_module("DATA.yaml").name == "own-cifar10"


def test_probes_refuse_masks_before_they_train(clinic, capsys):
    how = ["--images=scans", "--masks=outlines", "--size=32", *TINY]
    assert main(["assess", "--probe=reliability", *how]) == 1
    assert "probes are for classification, and scans has masks; `scaledrop evaluate" in capsys.readouterr().err
    assert not os.path.exists("runs")
