"""Learning curves: from logs of several attempts, from results, in a picture, and into results that lack them."""

import io
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
import yaml

from lit_scaledrop.cli.report import main
from lit_scaledrop.report.figures.learning import LAW_EPOCHS, PAPER_EPOCHS, keep_curves, law, learning_picture
from lit_scaledrop.report.page import write_page
from lit_scaledrop.results.run_logs import logged_points, logged_runs
from lit_scaledrop.results.store import read_result, write_result

CURVE = {"epoch": [1, 2, 3], "val_acc": [0.3, None, 0.5], "loss_task": [2.0, 1.8, 1.5]}
CONFIG = {
    "model": {"init_args": {"network": "resnet20", "method": "proposed", "width": 1.0}},
    "data": {"class_path": "datamodules.CIFAR10DataModule", "init_args": {"limit_train": None}},
    "trainer": {"max_epochs": 300},
    "seed_everything": 1,
}


def attempt(run_dir, version, rows, config=CONFIG):
    """A folder as CSVLogger leaves it: validation and training of an epoch in a line each."""
    folder = run_dir / "logs" / f"version_{version}"
    folder.mkdir(parents=True)
    lines = ["epoch,loss/task,step,val/acc"]
    for epoch, accuracy, loss in rows:
        lines += [f"{epoch},,{epoch},{accuracy}", f"{epoch},{loss},{epoch},"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "hparams.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def finished(make, tmp_path):
    """A result of Table III in a folder, with or without a curve."""

    def write(number, accuracy=0.66, epochs=15, curve=None, **changes):
        training = {"epochs": epochs, "logged": {}} | ({"curve": curve} if curve else {})
        made = make(number, training=training, config=CONFIG, metrics={"cls/acc": accuracy}, **changes)
        write_result(made, tmp_path / "results")
        return made

    return write


def test_a_later_attempt_replaces_what_it_did_again(tmp_path):
    attempt(tmp_path, 0, [(0, 0.1, 2.5), (1, 0.2, 2.4), (2, 0.3, 2.3)])
    attempt(tmp_path, 2, [(1, 0.25, 2.2)])
    attempt(tmp_path, 10, [])
    with (tmp_path / "logs/version_2/metrics.csv").open("a") as file:
        file.write("2,")  # killed while it wrote
    points = logged_points(tmp_path, ("val/acc", "loss/task"))
    assert points == {1: {"val/acc": 0.1, "loss/task": 2.5}, 2: {"val/acc": 0.25, "loss/task": 2.2}}
    assert logged_points(tmp_path / "nowhere", ("val/acc",)) == {}


def test_lines_marks_and_words(finished, tmp_path):
    results, runs = tmp_path / "results", tmp_path / "runs"
    finished(1, profile="long", epochs=3, curve=CURVE)
    finished(2, accuracy=0.6608)
    finished(3, accuracy=0.9, label="IR-Net", method="irnet")
    attempt(runs / "long/table3/abcdefabcdef", 0, [(0, 0.32, 2.0), (1, 0.4, 1.7)])
    attempt(runs / "long/table3/000000000001", 0, [(0, 0.11, 2.0)])  # finished: its result counts
    attempt(runs / "cpu/table3/abcdefabcdee", 0, [(0, 0.32, 2.0)])
    picture = learning_picture(results, "long", runs)
    lines = {one.id: (one.epochs, [round(e, 2) for e in one.errors], one.running) for one in picture.curves}
    assert lines == {
        "000000000001": ((1, 3), [70.0, 50.0], False),
        "abcdefabcdef": ((1, 2), [68.0, 60.0], True),
    }
    marks = {row["what"]: (row["epochs"], round(row["error"], 2)) for row in picture.ends.to_dict("records")}
    assert marks == {"Proposed, cpu": (15, 33.92), "Proposed, long": (3, 34.0), "the paper's": (300, 13.96)}
    words = picture.words()
    assert "ResNet-20 Proposed: running, epoch 2 of 300: validation error 68.0 % after epoch 1, 60.0 %" in words
    assert "the paper's: test error 13.96 % at 300 epochs" in words
    frame = pd.read_csv(io.StringIO(picture.csv()))
    assert list(frame[frame.what == "validation"].error_percent) == [70.0, 50.0, 68.0, 60.0]


def test_the_law_goes_through_the_two_points_it_names():
    assert law(LAW_EPOCHS) == pytest.approx(100 - 66.08, abs=0.05)
    assert law(PAPER_EPOCHS) == pytest.approx(100 - 86.04, abs=0.05)


def test_command_writes_a_picture_that_is_described(finished, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    results = tmp_path / "results"
    finished(1, profile="long", epochs=3, curve=CURVE)
    asked = ["curves", "--results", str(results), "--profile", "long"]
    assert main(asked) == 0
    words = capsys.readouterr().out.strip()
    first = {path.name: path.read_bytes() for path in (results / "long").glob("curves.*")}
    assert first.keys() == {"curves.svg", "curves.png", "curves.csv"}
    root = ET.fromstring(first["curves.svg"])
    assert root.get("role") == "img"
    assert root[1].tag.endswith("desc")
    assert root[1].text == words
    assert main(asked) == 0
    assert {path.name: path.read_bytes() for path in (results / "long").glob("curves.*")} == first
    assert main([*asked, "--figure-format", "pdf"]) == 0
    assert (results / "long" / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert write_page(str(results), ["long"], tmp_path / "index.html") == []
    page = (tmp_path / "index.html").read_text()
    assert 'alt="Error against epochs, profile long' in page


def test_marks_and_law_belong_to_cifar10_alone(finished, tmp_path):
    finished(1, profile="quick", curve=CURVE, data={"name": "digits", "stand_in": True})
    finished(2)
    picture = learning_picture(tmp_path / "results", "quick")
    assert picture.ends.empty
    assert "Law" not in picture.words()
    pytest.importorskip("matplotlib")
    assert picture.files().keys() == {"svg", "png"}


def test_other_data_and_results_without_a_curve_are_named(finished, tmp_path):
    for number in (1, 2):
        finished(number, curve=CURVE, seed=number)
    finished(3, curve=CURVE, data={"name": "digits", "stand_in": True})
    finished(4)
    finished(5, curve={"epoch": [1, 2], "val_iou": [0.2, 0.3]})  # of segmentation
    picture = learning_picture(tmp_path / "results", "cpu")
    assert picture.runs == ["000000000001", "000000000002"]
    assert picture.notes[1:] == ["Left out, of other data: 000000000003.", "1 finished trainings have no curve."]


def test_logged_curves_go_into_results_that_lack_one(finished, tmp_path):
    results, runs = tmp_path / "results", tmp_path / "runs"
    kept, lacking, unlogged = finished(1, curve=CURVE), finished(2, epochs=2), finished(3)
    for number in (1, 2):
        attempt(runs / f"cpu/table3/{number:012x}", 0, [(0, 0.1, 2.5), (1, 0.2, 2.4), (2, 0.9, 2.0)])
    assert keep_curves(results, "cpu", runs) == [lacking.path(results)]
    after = read_result(lacking.path(results))
    assert after.training["curve"] == {"epoch": [1, 2], "loss_task": [2.5, 2.4], "val_acc": [0.1, 0.2]}
    assert {**after.training, "curve": None} == {**lacking.training, "curve": None}
    assert (read_result(kept.path(results)), read_result(unlogged.path(results))) == (kept, unlogged)
    assert keep_curves(results, "cpu", runs) == []


def test_what_cannot_be_drawn_is_said(tmp_path, finished, capsys):
    pytest.importorskip("matplotlib")
    finished(1)
    asked = ["--results", str(tmp_path / "results"), "--profile", "cpu"]
    assert main(["curves", *asked]) == 1
    assert "no training of profile cpu" in capsys.readouterr().err
    for words in (["curves", "--keep"], ["table3", "--runs", "x"]):
        with pytest.raises(SystemExit):
            main([*words, *asked])
    assert "--runs and --keep are for `report curves`" in capsys.readouterr().err


def test_runs_that_validated_nothing_yet_are_no_lines(tmp_path):
    attempt(tmp_path / "long/table3/abcdefabcdef", 0, [])
    assert list(logged_runs(tmp_path, "long")) == []
