"""Classes of one's own pictures: any size and mode, by a model of the package, a packed file or a checkpoint."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import MNISTDataModule
from datamodules.pictures import picture_paths, standardized
from lit_scaledrop import LitClassifier
from lit_scaledrop.__main__ import main
from lit_scaledrop.deploy.open import model_names, open_trained
from lit_scaledrop.layers import sampling
from lit_scaledrop.posterior import draw_plan
from lit_scaledrop.posterior.posterior import PosteriorPredictive


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (32, 32, 4), dtype=np.uint8)
    Image.fromarray(noise[..., :3]).save(folder / "a.png")
    Image.fromarray(noise[..., 0]).resize((50, 20)).save(folder / "grey.bmp")
    Image.fromarray(noise).resize((200, 300)).save(folder / "alpha.webp")
    Image.fromarray(noise[..., :3]).convert("P").resize((7, 9)).save(folder / "more" / "palette.PNG")
    (folder / "notes.txt").write_text("no picture")
    return folder


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_model_of_the_package(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert model_names() == ["lenet5-proposed", "resnet20-proposed"]
    words = [
        "predict",
        "--model",
        "resnet20-proposed",
        "--images",
        "pictures",
        "--samples",
        "4",
        "--figure",
        "sheet.png",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "4 pictures, " in printed
    assert "palette.PNG" in printed
    found = rows("predictions/predictions.csv")
    assert [row["file"] for row in found] == ["a.png", "alpha.webp", "grey.bmp", "more/palette.PNG"]
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 500
    module, images = open_trained("resnet20-proposed")
    x = torch.from_numpy(np.asarray(Image.open("pictures/a.png")).transpose(2, 0, 1).copy())[None]
    x = standardized(x, images["mean"], images["std"])
    plan, probs = draw_plan(module.network, 4, seed=0), []
    with torch.no_grad():
        for index in range(4):
            with sampling(module.network, plan.single(index)):
                probs.append(module.network(x)[0].softmax(-1))
    mean = torch.stack(probs).mean(0)
    row = found[0]
    assert row["class"] == images["class_names"][int(mean.argmax())]
    shown = [float(row[f"p({name})"]) for name in images["class_names"]]
    assert shown == pytest.approx(mean.tolist(), abs=1e-5)
    assert float(row["confidence"]) == pytest.approx(mean.max().item(), abs=1e-4)
    assert float(row["entropy"]) == pytest.approx(torch.special.entr(mean).sum().item(), abs=1e-4)
    assert float(row["lower"]) <= float(row["confidence"]) <= float(row["upper"])
    # eq. 26: some class is above the threshold in all but a tenth of the passes
    sure = torch.stack(probs).quantile(0.1, 0).max() >= 0.95
    assert row["decision"] == ("accept" if sure else "reject")


def test_digits_get_the_border_of_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[4:24, 12:16] = 255
    Image.fromarray(digit).save("one.png")
    assert main(["predict", "--model", "lenet5-proposed", "--images", "one.png", "--samples", "3"]) == 0
    (row,) = rows("predictions/predictions.csv")
    module, images = open_trained("lenet5-proposed")
    data = MNISTDataModule()
    assert images == data.image_facts
    x = data.normalized(torch.from_numpy(np.pad(digit, 2))[None, None])
    mean = PosteriorPredictive(module.network, samples=3, seed=0)(x).mean[0]
    assert [float(row[f"p({name})"]) for name in images["class_names"]] == pytest.approx(mean.tolist(), abs=1e-5)
    assert row["class"] == "1"


def test_threshold_and_csv_file(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for threshold, decision in (("0", "accept"), ("1", "reject")):
        words = ["predict", "--model=lenet5-proposed", "--images=pictures/grey.bmp", f"--threshold={threshold}"]
        assert main([*words, "--out=own/list.csv"]) == 0
        (row,) = rows("own/list.csv")
        assert row["decision"] == decision
        assert row["class"] in "0123456789"


def test_a_checkpoint_and_its_packed_file_agree(pictures, place, finished, capsys):
    checkpoint = next(finished.rglob("best-*.ckpt"))
    shutil.copy(checkpoint, "net.ckpt")
    assert main(["predict", "--ckpt_path", "net.ckpt", "--images", str(pictures), "--out", "a.csv"]) == 0
    place.joinpath("empty").mkdir()
    assert main(["export", "--ckpt_path", "net.ckpt", "--out", "net.packed", "--root", "empty"]) == 0
    assert main(["predict", "--model", "net.packed", "--images", str(pictures), "--out", "b.csv"]) == 0
    assert rows("a.csv") == rows("b.csv")


def test_good_pictures_are_classified_beside_bad_ones(pictures, tmp_path, monkeypatch, capsys):
    """A broken file, an empty one, a pipe, a dangling link, a folder, and names that are no UTF-8 or formulas."""
    monkeypatch.chdir(tmp_path)
    good = next(path for path in sorted(pictures.iterdir()) if path.suffix == ".png")
    number = len(picture_paths(pictures))
    for name in (b"=1+1.png", b"\xff.png", b"\x1b[31m.png"):
        Path(os.fsdecode(os.fsencode(pictures) + b"/" + name)).write_bytes(good.read_bytes())
    (pictures / "a_broken.png").write_bytes(b"\x89PNG nothing")
    (pictures / "b_empty.png").touch()
    (pictures / "c_link.png").symlink_to("nowhere")
    (pictures / "d_folder.png").mkdir()
    os.mkfifo(pictures / "e_pipe.png")
    assert main(["predict", "--model=resnet20-proposed", "--images=pictures", "--samples=2"]) == 0
    said = capsys.readouterr()
    for name in ("a_broken.png", "b_empty.png", "c_link.png", "e_pipe.png"):
        assert f"{name} is no readable picture" in said.err
    assert "4 left out" in said.out
    with open("predictions/predictions.csv", newline="", encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert len(names) == number + 3
    assert {"'=1+1.png", "?.png", "?[31m.png"} <= {*names}


def test_errors(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    (pictures / "broken.png").write_bytes(b"\x89PNG nothing")
    for words, message in (
        (["--model=resnet20-propose", "--images=pictures"], "did you mean 'resnet20-proposed'"),
        (["--model=resnet20-proposed", "--images=none"], "there are no images in none (PNG, JPEG, BMP, WebP)"),
        (["--model=resnet20-proposed", "--images=pictures/broken.png"], "broken.png is no readable picture"),
        (["--model=absent.ckpt", "--images=pictures"], "no checkpoint absent.ckpt"),
    ):
        assert main(["predict", *words]) == 1
        assert message in capsys.readouterr().err


def test_a_window_for_measured_values(tmp_path, monkeypatch, capsys):
    nibabel = pytest.importorskip("nibabel", reason="the extra `medical` is not installed")
    monkeypatch.chdir(tmp_path)
    values = np.linspace(-1000, 1000, 32 * 32).reshape(32, 32, 1)
    Path("scans").mkdir()
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.diag([-1, -1, 5, 1])), "scans/a.nii.gz")
    about = {"name": "x", "class_names": ["a", "b"], "mean": [0.5], "std": [0.25]}
    about |= {"size": 32, "square": "squeeze", "window": None}  # of a training on PNG files
    shown = []

    class Watching(LitClassifier):
        def __init__(self):
            super().__init__("lenet5", width=0.1, in_channels=1, num_classes=2)
            self.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))

    monkeypatch.setattr("lit_scaledrop.cli.predict.open_trained", lambda _: (Watching(), dict(about)))
    words = ["predict", "--model=mine.ckpt", "--images=scans", "--samples=1", "--device=cpu"]
    assert main(words) == 1
    assert "choose an intensity window with --window lung|soft" in capsys.readouterr().err
    assert main([*words, "--window=0,500"]) == 0
    levels = shown[-1] * 0.25 + 0.5
    assert (levels.min(), levels.max()) == (0, 1)
    assert abs((levels == 0).double().mean() - 0.5) < 0.01  # all that is below 0
    assert abs((levels == 1).double().mean() - 0.25) < 0.01  # all from 500
    assert main([*words, "--window=lnug"]) == 1
    assert "a window is lung, soft" in capsys.readouterr().err
    about.pop("window")
    assert main([*words, "--window=lung"]) == 1
    assert "mine.ckpt was not trained with --images" in capsys.readouterr().err
