"""Files that can be opened and say something odd: named, and refused or left out; a sound one beside each is read."""

import os
from argparse import ArgumentError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from datamodules.files.integrity import DatasetCorruptError
from datamodules.own.description import load_own
from datamodules.own.medical import DEFLATED, planes, series_of
from hardware.constants import PresetError, read_yaml
from hostile import OWN, dicom
from lit_scaledrop.__main__ import main
from lit_scaledrop.chip.device_data import CurveError, read_curves
from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.cli.on_chip import _measured
from lit_scaledrop.deploy import pack
from lit_scaledrop.deploy.facts import odd_fact
from lit_scaledrop.deploy.open import open_trained
from lit_scaledrop.evaluation.checkpoint import CheckpointError
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.results.result import InvalidResultError, Result
from lit_scaledrop.results.run_logs import logged_runs
from lit_scaledrop.results.yaml_text import load_yaml
from lit_scaledrop.sweep.file import SweepError, load_sweep
from stand_ins import RESULT

DEEP = ["[" * 100_000, "{a: " * 50_000, "- " * 50_000, "a: &a 1\nb: *a\nc: " + "[" * 100_000]


@pytest.mark.parametrize("text", DEEP, ids=["lists", "maps", "blocks", "beside an alias"])
def test_yaml_without_end_ends_no_process(tmp_path, text):
    """The parser in C would: it has no limit, and is not Python's to interrupt."""
    path = tmp_path / "s.yaml"
    path.write_text(text)
    for read, refusal in ((load_sweep, SweepError), (read_yaml, PresetError), (load_own, DatasetCorruptError)):
        with pytest.raises(refusal, match=r"s\.yaml"):
            read(path)
    with pytest.raises(ArgumentError, match=r"--config .*s\.yaml is no valid YAML: it is nested more than 200 deep"):
        plan_fit(["--profile", "quick", "--config", str(path)])
    assert load_yaml("[" * 200 + "]" * 200)
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        load_yaml("[" * 201 + "]" * 201)


@pytest.mark.parametrize(
    ("content", "says"), [(b"\xff\xfea", "is no valid YAML: 'utf-8' codec"), (b"[1, 2]", "holds no settings")]
)
def test_a_configuration_that_is_none_is_named(tmp_path, content, says):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ArgumentError, match=rf"--config .*c\.yaml {says}"):
        plan_fit(["--profile", "quick", "--config", str(tmp_path / "c.yaml")])


ODD_FIELDS = {
    "name": 5, "images": ["x"], "masks": 3, "class_names": ("cat",), "channels": 2, "size": 10**9, "square": "round",
    "window": (2.0, 1.0), "mean": ("a", "b", "c"), "std": (0.2, 0.2, 0.0), "fingerprint": 0,
}  # fmt: skip


@pytest.mark.parametrize("field", ODD_FIELDS)
def test_a_description_of_pictures_says_what_each_field_must(tmp_path, field):
    path = tmp_path / "DATA.yaml"
    path.write_text(OWN.to_yaml())
    assert load_own(path) == OWN
    value = ODD_FIELDS[field]
    plain = yaml.safe_load(OWN.to_yaml()) | {field: list(value) if isinstance(value, tuple) else value}
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(DatasetCorruptError, match=rf"DATA\.yaml is not a description of images .*: {field} is "):
        load_own(path)


@pytest.mark.parametrize(
    "row", [{"image": 5, "class": "cat"}, {"image": "a", "class": "emu"}, {"image": "a"}, {"image": "a", "masks": "b"}]
)
def test_a_description_of_pictures_names_files_and_classes(tmp_path, row):
    plain = yaml.safe_load(OWN.to_yaml())
    plain["val"] = [row]
    (tmp_path / "DATA.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(DatasetCorruptError, match=r"DATA\.yaml is not a description of images"):
        load_own(tmp_path / "DATA.yaml")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "fields",
    [
        {"Rows": 0}, {"Rows": None}, {"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": "100000000"},
        {"NumberOfFrames": "-1"}, {"PixelData": None}, {"BitsAllocated": 7}, {"RescaleSlope": "1e300"},
        {"SamplesPerPixel": 3}, {"Rows": [4, 5]}, {"PhotometricInterpretation": ["MONOCHROME2", "X"]},
        {"RescaleIntercept": ""},
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_dicom_file_is_named(tmp_path, fields):
    dicom(tmp_path / "x.dcm", **fields)
    with pytest.raises(
        DatasetCorruptError, match=r"x\.dcm (is no readable DICOM file: |has colours|is of a CT and does)"
    ):
        planes(tmp_path / "x.dcm", (-1024.0, -1004.0))


def test_empty_and_repeated_fields_of_dicom_are_those_that_are_absent(tmp_path):
    dicom(tmp_path / "x.dcm", WindowCenter="", WindowWidth="", RescaleSlope=["1", "2"])
    (plane,) = planes(tmp_path / "x.dcm", (-1024.0, -1004.0))
    assert np.abs(np.asarray(plane).ravel() - np.arange(20) * 255 / 20).max() <= 0.5
    with pytest.raises(DatasetCorruptError, match=r"x\.dcm contains no window"):
        planes(tmp_path / "x.dcm", "stored")


def test_a_dicom_file_unpacks_to_no_more_than_is_allowed(tmp_path, monkeypatch):
    """Deflated, pydicom would unpack it whole; more pixels than its header says are more planes to it."""
    dicom(tmp_path / "x.dcm", DEFLATED)
    assert len(planes(tmp_path / "x.dcm", (0.0, 1.0))) == 1
    monkeypatch.setenv("SCALEDROP_LIMIT_GB", "0.01")
    dicom(tmp_path / "x.dcm", DEFLATED, PixelData=b"\0" * 40_000_000)
    assert (tmp_path / "x.dcm").stat().st_size < 50_000
    for read in (lambda path: planes(path, (0.0, 1.0)), series_of):
        with pytest.raises(
            DatasetCorruptError, match=r"what is deflated in it needs .* SCALEDROP_LIMIT_GB=1 allows it"
        ):
            read(tmp_path / "x.dcm")
    dicom(tmp_path / "x.dcm", PixelData=b"\0" * 4_000_000)
    with pytest.raises(DatasetCorruptError, match=r"it needs 0\.0 GB, more than the 0\.01 that one file may"):
        planes(tmp_path / "x.dcm", (0.0, 1.0))


FACTS = {"mean": [0.5], "std": [0.2], "border": 2, "class_names": list("0123456789"), "name": "digits"}
ODD_FACTS = {
    "mean": ["a"], "std": [0.0], "border": -1, "class_names": ["a"], "name": None, "size": 10**9, "square": "round",
    "window": [3, 1],
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    return LitClassifier("lenet5", "fp", in_channels=1, width=0.1)


@pytest.mark.parametrize("name", ODD_FACTS)
def test_what_a_file_says_of_its_pictures_is_checked(tmp_path, small, name):
    """By a packed file and a checkpoint alike, before a picture goes through it."""
    assert odd_fact(FACTS, small) == odd_fact(FACTS | {"size": 32, "square": "pad", "window": [0, 1.5]}, small) == ""
    odd = FACTS | {name: ODD_FACTS[name]}
    saved = {
        "state_dict": small.state_dict(),
        "epoch": 0,
        "hyper_parameters": dict(small.hparams),
        "task": "LitClassifier",
    }
    for images in (odd, FACTS):
        torch.save({**saved, "images": images}, tmp_path / "a.ckpt")
        pack(LitClassifier(**small.hparams), images).write(tmp_path / "a.packed")
        for file in ("a.ckpt", "a.packed"):
            if images is FACTS:
                assert open_trained(tmp_path / file)[1] == FACTS
                continue
            with pytest.raises(
                CheckpointError, match=rf"{file} has no valid description of its image preprocessing.*: {name} is"
            ):
                open_trained(tmp_path / file)


def test_names_are_no_markup(tmp_path, monkeypatch, capsys):
    """Of files, in the tables of a terminal."""
    monkeypatch.chdir(tmp_path)
    Path("p/[").mkdir(parents=True)
    for name in ("[/red].png", "[bold]x.png", ":smile:.png"):
        Image.new("RGB", (32, 32)).save(f"p/{name}")
    assert main(["predict", "--model", "lenet5-proposed", "--images", "p", "--samples", "2"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("[/red].png", "[bold]x.png", ":smile:.png"))


@pytest.mark.parametrize(
    "curve",
    [{"epoch": [1], "val_acc": [0.1, 0.2]}, {"val_acc": [0.1]}, {"epoch": ["a"], "val_acc": [0.1]}, {"epoch": 5}],
)
def test_a_learning_curve_has_columns_of_its_epochs(curve):
    sound = RESULT.replace('"val_acc": 1', '"val_acc": 1, "curve": {"epoch": [1, 2], "val_acc": [null, 0.5]}')
    assert Result.from_json(sound).training["curve"]["epoch"] == [1, 2]
    odd = Result.from_json(sound)
    with pytest.raises(InvalidResultError, match=r"training\.curve\."):
        replace(odd, training={**odd.training, "curve": curve})


LOGGED = b"epoch,val/acc\n0,0.5\n1,0.6\n"


@pytest.mark.parametrize(
    ("log", "settings"),
    [(LOGGED, "5"), (LOGGED, "[" * 100_000), (b'epoch,val/acc\n"' + b"x" * 200_000 + b"\n\n", "{}"), (None, "{}")],
    ids=["settings are a number", "settings without end", "an endless field", "a pipe"],
)
def test_odd_logs_are_left_out_beside_sound_ones(tmp_path, log, settings):
    for id, text, given in (("a", LOGGED, "model: {}"), ("b", log, settings)):
        folder = tmp_path / f"quick/s/{id}/logs/version_0"
        folder.mkdir(parents=True)
        (folder / "hparams.yaml").write_text(given)
        os.mkfifo(folder / "metrics.csv") if text is None else (folder / "metrics.csv").write_bytes(text)
    (tmp_path / "quick/s/a/logs/version_old").mkdir()
    (tmp_path / "quick/s/a/logs/version_old/metrics.csv").touch()
    (run,) = logged_runs(tmp_path, "quick")
    assert (run.id, run.points[2]) == ("a", {"val/acc": 0.6})


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"asked": {"a": 1}}'])
def test_measured_effects_are_not_written_over_another_file(tmp_path, content):
    out = tmp_path / "e.json"
    assert _measured(out, {"a": 1}) == {}
    out.write_text('{"asked": {"a": 1}, "parts": {"wire/1": {}}}')
    assert _measured(out, {"a": 1}) == {"wire/1": {}}
    assert _measured(out, {"a": 2}) == {}
    out.write_text(content)
    with pytest.raises(ValueError, match=r"e\.json was not written by this command"):
        _measured(out, {"a": 1})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"voltage_v,shots,switched\n\xff", "UTF-8 text"),
        (b"voltage_v,shots,switched\n" + b'"' + b"1" * 200_000, "a line of a CSV"),
    ],
    ids=["bytes", "an endless field"],
)
def test_a_curve_that_is_no_csv_is_named(tmp_path, content, says):
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(CurveError, match=rf"c\.csv.* is not {says}"):
        read_curves(tmp_path / "c.csv", 1.0)
