"""The record: round trips, atomic writes, and what happens to files that are no result."""

import json
import logging
import math
import os
from dataclasses import replace

import pytest

from lit_scaledrop.results import atomic
from lit_scaledrop.results.result import InvalidResultError, Result, ResultError
from lit_scaledrop.results.store import is_finished, load_results, read_result, write_result


def test_round_trip_keeps_everything(make, tmp_path):
    result = make(1, training={"optimizer": "Adam", "lr": 1e-3}, provenance={"host_load": [1, 2.5, None]})
    path = write_result(result, tmp_path)
    assert path == tmp_path / "cpu" / "table3" / "000000000001.json"
    assert read_result(path) == result
    assert Result.from_json(result.to_json()) == result
    assert json.loads(path.read_text())["schema"] == 2
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_load_results_sorts_and_names_problems(make, tmp_path):
    for number in (3, 1, 2):
        write_result(make(number, seed=number), tmp_path)
    folder = tmp_path / "cpu" / "table3"
    (folder / "000000000002.json").write_text("{")
    (folder / "00000000000f.json").write_text(make(3).to_json())
    (folder / ".000000000001.json.77.tmp").write_text("half")
    loaded, problems = load_results(tmp_path, "cpu", "table3")
    assert [result.seed for result in loaded] == [1, 3]
    assert len(problems) == 2
    assert "000000000002.json" in problems[0]
    assert "it is that of run 000000000003" in problems[1]
    assert load_results(tmp_path, "paper", "table3") == ([], [])


@pytest.mark.parametrize("text", ["", '{"schema": 1, "id": "00', "[]", '{"schema": 1}', "\udcff"])
def test_broken_file_names_path_and_remedy(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidResultError, match=r"a\.json is no valid result .*delete it"):
        read_result(path)


def test_broken_file_is_moved_aside_and_nothing_is_lost(make, tmp_path, caplog):
    path = write_result(make(), tmp_path)
    whole = path.read_text()
    for half in (whole[:100], whole[:50]):
        path.write_text(half)
        assert not is_finished(path, move_broken=False)
        assert path.read_text() == half
        with caplog.at_level(logging.WARNING):
            assert not is_finished(path)
        assert not path.exists()
    assert "000000000001.json.broken" in caplog.text
    assert path.with_name(path.name + ".broken").read_text() == whole[:100]
    assert path.with_name(path.name + ".broken2").read_text() == whole[:50]
    assert not is_finished(path)
    write_result(make(), tmp_path)
    assert is_finished(path)


def test_a_newer_schema_is_refused_and_left_alone(make, tmp_path):
    path = write_result(make(), tmp_path)
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 3'))
    for function in (read_result, is_finished):
        with pytest.raises(ResultError, match="schema 3, this release reads 1 and 2") as caught:
            function(path)
        assert not isinstance(caught.value, InvalidResultError)
    assert path.exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused_everywhere(make, tmp_path, value):
    with pytest.raises(InvalidResultError, match=r"cls/nll is .*finite"):
        make(metrics={"cls/nll": value})
    with pytest.raises(InvalidResultError, match=r"training\.val_acc is .*finite"):
        make(training={"val_acc": value})
    with pytest.raises(InvalidResultError, match="only finite numbers"):
        write_result(make(config={"lr": value}), tmp_path)
    sneaky = make()
    sneaky.metrics["cls/acc"] = value  # after it was checked
    with pytest.raises(InvalidResultError, match="finite"):
        write_result(sneaky, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"cls/acc": 86.0}}, "cls/acc is 86.0, but must be a fraction"),
        ({"training": {"epochs": 3.5}}, "training.epochs must be of type int"),
        ({"data": {"stand_in": 1}}, "data.stand_in must be of type bool"),
        ({"seed": True}, "seed must be of type int"),
        ({"id": "XYZ"}, "12 hexadecimal digits"),
        ({"profile": "../cpu"}, "plain folder name"),
        ({"evaluation": {"checkpoint": "first"}}, "'best' or 'last'"),
    ],
)
def test_wrong_content_is_named(make, changes, message):
    with pytest.raises(InvalidResultError, match=message):
        make(**changes)


def test_missing_and_unknown_fields_are_named(make):
    whole = json.loads(make().to_json())
    lacking = {**whole, "data": {k: v for k, v in whole["data"].items() if k != "fingerprint"}}
    with pytest.raises(InvalidResultError, match=r"data\.fingerprint is missing"):
        Result.from_json(json.dumps(lacking))
    with pytest.raises(InvalidResultError, match="surprise"):
        Result.from_json(json.dumps({**whole, "surprise": 1}))
    for broken, message in (
        ({"metrics": {"cls/acc": "0.86"}}, "cls/acc must be of type float"),
        ({"metrics": {"cls/acc": 0.86}, "suit": "svhn"}, "unknown coordinate 'suit'; there are condition, "),
        ({"metrics": {"cls/acc": 0.86}, "chip": "3"}, "coordinate chip must be of type int"),
        ({"metrics": {}}, "there are no numbers"),
        ({"cls/acc": 0.86}, "a measurement has coordinates and metrics"),
        (0.86, "a measurement has coordinates and metrics"),
    ):
        with pytest.raises(InvalidResultError, match=message):
            Result.from_json(json.dumps({**whole, "measurements": [broken]}))
    with pytest.raises(InvalidResultError, match="measurements is empty"):
        replace(make(), measurements=[])
    with pytest.raises(InvalidResultError, match="cls/acc was measured twice at"):
        replace(make(), measurements=2 * make().measurements)


def test_schema_1_is_read_with_its_coordinates(make, tmp_path):
    """Files of earlier releases, and a name of each kind that they have."""
    record = json.loads(make().to_json())
    del record["measurements"]
    record |= {"schema": 1, "metrics": {"cls/acc": 0.5, "chip/3/cls/acc": 0.4, "chip/3/uniform/ood/rate": 0.9}}
    record["metrics"] |= {"plan/2/T/7/cls/nll": 1.5, "image/0/T/10/class/3/bin/4": 2.0, "logits/3/mean": -1.0}
    record["metrics"] |= {
        "stuck/0.01/2/cls/acc": 0.3,
        "energy/loop/digital/operations/adc": 9.0,
        "layer/conv1/draws": 1.0,
    }
    read = Result.from_json(json.dumps(record))
    assert read.metrics == {"cls/acc": 0.5}
    assert read.at(chip=3) == {"cls/acc": 0.4}
    assert read.at(chip=3, suite="uniform") == {"ood/rate": 0.9}
    assert read.at(plan=2, passes=7) == {"cls/nll": 1.5}
    assert read.at(image=0, passes=10, bin=4, **{"class": 3}) == {"count": 2.0}
    assert read.at(of="logits", **{"class": 3}) == {"mean": -1.0}
    assert read.at(effect="stuck", level=0.01, chip=2) == {"cls/acc": 0.3}
    assert read.at(execution="loop", real_layers="digital", component="adc") == {"operations": 9.0}
    assert read.at(layer="conv1") == {"draws": 1.0}
    assert json.loads(read.to_json())["schema"] == 2
    assert Result.from_json(read.to_json()) == read
    with pytest.raises(InvalidResultError, match="invalid literal"):
        Result.from_json(json.dumps({**record, "metrics": {"chip/three/cls/acc": 0.5}}))


def test_a_finished_result_is_not_overwritten(make, tmp_path):
    path = write_result(make(), tmp_path)
    assert write_result(make(), tmp_path) == path
    other = make(metrics={"cls/acc": 0.5})
    with pytest.raises(ResultError, match="already holds a finished result"):
        write_result(other, tmp_path)
    assert read_result(path) == make()
    write_result(other, tmp_path, overwrite=True)
    assert read_result(path) == other


def test_a_broken_file_does_not_block_writing(make, tmp_path):
    path = make().path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    write_result(make(), tmp_path)
    assert read_result(path) == make()


def test_unwritable_folder_is_a_clear_error(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match=r"cannot write .*file.*choose a results folder"):
        write_result(make(), tmp_path / "file")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file(make, tmp_path, monkeypatch, step):
    path = write_result(make(), tmp_path)

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, step, crash)
    with pytest.raises(ResultError, match="No space left"):
        write_result(make(metrics={"cls/acc": 0.1}), tmp_path, overwrite=True)
    monkeypatch.undo()
    assert read_result(path) == make()
    assert os.listdir(path.parent) == [path.name]
