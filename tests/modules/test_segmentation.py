"""Segmentation from the command line: training, evaluation, pictures of one's own, Figure 8."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import PhantomDataModule
from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.flags import expand_configs
from lit_scaledrop.evaluation.checkpoint import load_trained
from lit_scaledrop.functional.segmentation import IGNORE
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.modules.segmenter import LitSegmenter
from lit_scaledrop.results.store import load_results, read_result

TINY = """
run: {profile: quick, study: table5, tracking: disabled}
data:
  class_path: datamodules.PhantomDataModule
  init_args: {images: 40, image_size: 32, batch_size: 8, augment: flip}
model:
  class_path: lit_scaledrop.modules.LitSegmenter
  init_args: {width: 0.0625, lr: 0.01}
trainer: {max_epochs: 2, accelerator: cpu}
evaluation: {samples: 3}
"""
FIT = ["fit", "--config", "segment.yaml", "--config", "tiny.yaml"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with one finished run of U-Net."""
    folder = tmp_path_factory.mktemp("segmentation")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("tiny.yaml").write_text(TINY)
        assert main(FIT) == 0
    return folder


@pytest.fixture
def place(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def checkpoint():
    (path,) = Path("runs/quick/table5").glob("*/checkpoints/best*.ckpt")
    return path


def test_a_run_trains_evaluates_and_records(place, capsys):
    (path,) = Path("results/quick/table5").glob("*.json")
    result = read_result(path)
    assert (result.network, result.label, result.bits_w, result.bits_a) == ("unet", "Proposed", 1, 4)
    assert result.data["stand_in"]
    assert 0 <= result.metrics["seg/iou"] <= 1
    assert {"seg/image_dice", "seg/mean_mask_iou", "cal/ece", "unc/mutual_information"} <= result.metrics.keys()
    assert 0 <= result.training["val_iou"] <= 1
    assert main(FIT) == 0
    assert "finished already" in capsys.readouterr().out
    assert main(["report", "table5"]) == 0
    assert "U-Net" in Path("results/quick/table5.md").read_text()


def test_evaluate_finds_the_numbers_of_the_record(place, capsys, monkeypatch):
    import datamodules

    whole = datamodules.PhantomDataModule
    monkeypatch.setitem(datamodules.SEGMENTATION_DATAMODULES, "phantom", lambda **options: whole(images=40, **options))
    assert main(["evaluate", str(checkpoint()), "--data", "phantom", "--samples", "3", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    recorded = read_result(next(Path("results/quick/table5").glob("*.json"))).metrics
    assert found == pytest.approx({name: recorded[name] for name in found}, abs=1e-5)


def test_the_checkpoint_is_a_segmenters(place):
    module = load_trained(checkpoint())
    assert isinstance(module, LitSegmenter)
    assert torch.load(checkpoint(), weights_only=True)["images"]["class_names"] == ["background", "lesion"]


def test_unlabelled_pixels_have_no_gradient():
    module = LitSegmenter("unet", "fp", in_channels=1, image_size=16, width=0.0625)
    logits = torch.randn(2, 2, 16, 16, requires_grad=True)
    target = torch.randint(0, 2, (2, 16, 16))
    target[:, :8] = IGNORE
    module.task_loss(logits, target).backward()
    assert logits.grad[:, :, :8].abs().max() == 0
    assert logits.grad[:, :, 8:].abs().max() > 0


def test_a_deep_ensemble_averages_its_members(place, monkeypatch):
    ensemble = replace(SEGMENTATION_METHODS["deep_ensemble"], members=2)
    monkeypatch.setitem(SEGMENTATION_METHODS, "deep_ensemble", ensemble)
    words = [*FIT, "--trainer.max_epochs=1", "--run.study=ensemble", "--model.method"]
    assert main([*words, "deep_ensemble"]) == 0
    results = {result.method: [] for result in load_results("results", "quick", "ensemble")[0]}
    for result in load_results("results", "quick", "ensemble")[0]:
        results[result.method].append(result)
    (ours,) = results["deep_ensemble"]
    assert sorted(member["id"] for member in ours.training["members"]) == sorted(run.id for run in results["fp"])
    data = PhantomDataModule(images=40, image_size=32)
    data.setup()
    images, masks = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    saved = []
    for run in results["fp"]:
        (path,) = Path(f"runs/quick/ensemble/{run.id}/checkpoints").glob("best*.ckpt")
        with torch.no_grad():
            saved.append(load_trained(path)(images).softmax(1))
    expected = (torch.stack(saved).mean(0).argmax(1) == masks).double().mean()
    assert ours.metrics["seg/acc"] == pytest.approx(float(expected), abs=1e-6)


PICTURES = {
    "grey.png": ("L", (40, 70)),
    "colour.jpg": ("RGB", (33, 17)),
    "transparent.png": ("RGBA", (64, 64)),
    "deeper/grey.png": ("L", (100, 20)),
}


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    for name, (mode, (width, height)) in PICTURES.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
        Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode).save(path)
    return tmp_path / "pictures"


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_pictures_of_any_size_and_mode(place, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["predict", "--ckpt_path", str(checkpoint()), f"--images={pictures}", "--out", str(out), "--samples", "3"]
    assert main(words) == 0
    assert "4 pictures" in capsys.readouterr().out
    for name, (_, size) in PICTURES.items():
        stem = out / Path(name).with_suffix("")
        for what, mode in (("mask", "L"), ("uncertainty", "L"), ("overlay", "RGB")):
            with Image.open(stem.with_name(f"{stem.name}_{what}.png")) as written:
                assert (written.size, written.mode) == (size, mode)
    with (out / "predictions.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == 4
    row = rows["grey.png"]
    assert (row["width"], row["height"]) == ("40", "70")
    with Image.open(out / "grey_mask.png") as mask:
        share = (np.asarray(mask) == 1).mean()
    assert float(row["share(lesion)"]) == pytest.approx(share, abs=1e-5)
    assert float(row["share(lesion)"]) + float(row["share(background)"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_outputs_are_never_read_as_inputs(place, pictures, capsys):
    (pictures / "._grey.png").write_bytes(b"of macOS")
    (pictures / "scan.dcm").write_bytes(b"x")
    for out in (pictures / "out", pictures):
        words = ["predict", "--ckpt_path", str(checkpoint()), f"--images={pictures}", "--out", str(out), "--samples=1"]
        for attempt in range(2):
            assert main(words) == 0
            printed = capsys.readouterr()
            assert "4 pictures" in printed.out
            assert "1 .dcm" in printed.err
            assert "1 hidden" in printed.err
            assert ("12 earlier outputs" in printed.err) == (attempt == 1)
        shutil.rmtree(pictures / "out", ignore_errors=True)


def test_pictures_that_cannot_be_segmented(place, tmp_path, capsys):
    words = ["predict", "--ckpt_path", str(checkpoint()), "--out", str(tmp_path / "out"), "--images"]
    (tmp_path / "empty").mkdir()
    assert main([*words, str(tmp_path / "empty")]) == 1
    assert "no images in" in capsys.readouterr().err
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert main([*words, str(tmp_path / "broken.png")]) == 1
    assert "broken.png is no readable picture" in capsys.readouterr().err
    assert (tmp_path / "out" / "predictions.csv").read_text().startswith("file,")


def test_figure8_shows_two_images_of_each_data_set(place, capsys):
    words = ["figure8", "--rows", "unet/skin_lesion", "--", "--config", "tiny.yaml", "--trainer.max_epochs=1"]
    assert main(words) == 0
    shown = json.loads(Path("results/quick/figure8.json").read_text())["shown"]
    ((title, one),) = shown.items()
    assert title.startswith("U-Net, phantom")
    assert set(one["runs"]) == {"fp", "mc_dropout", "proposed"}
    assert [example["example"] for example in one["examples"]] == ["median", "lower quartile"]
    assert Path("results/quick/figure8.png").stat().st_size > 10_000


def files(*words):
    return [Path(word).name for word in expand_configs(["fit", *words]) if word.endswith(".yaml")]


def test_profiles_and_data_sets():
    assert files("--model.network=unet", "--profile", "quick") == ["segment.yaml", "quick.yaml"]
    row = ["--profile=cpu", "--row=segnet/covid_ct.3/fp"]
    assert files(*row) == ["segment.yaml", "cpu.yaml", "cpu.covid_ct.yaml"]
    assert "--data.init_args.fold=3" in expand_configs(["fit", *row])
    # the stand-in has no folds
    quick = expand_configs(["fit", "--profile=quick", "--row=segnet/covid_ct.3/fp"])
    assert not any("fold" in word for word in quick)
    words = expand_configs(["fit", "--profile", "cpu", "--model.network=segnet", "--dataset", "skin_lesion"])
    assert Path(words[words.index("--model.network=segnet") - 1]).name == "cpu.skin_lesion.yaml"
    assert Path(words[4]).parent.name == "segment"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--profile=cpu", "--row=unet/skin_lesions/fp"],
            "unknown data set 'skin_lesions'; did you mean 'skin_lesion'?",
        ),
        (["--row=resnet20/skin_lesion/fp"], "unknown network 'resnet20'"),
        (["--row=unet/skin_lesion/irnet"], "unknown method 'irnet'"),
        (["--row=a/b/c/d"], "NETWORK/DATA/METHOD"),
        (["--profile=cpu", "--model.network=unet", "--dataset=ph2"], "has settings for .*, not for 'ph2'"),
        (["--model.network=unet", "--dataset=skin_lesion"], "add --profile"),
    ],
)
def test_rows_that_are_none(words, message):
    with pytest.raises(ValueError, match=message):
        expand_configs(["fit", *words])
