"""Points that failed, as a report shows them."""

import json
from pathlib import Path

import pytest

from lit_scaledrop.cli.report import main
from lit_scaledrop.results.failures import (
    Failure,
    failure_path,
    forget_failure,
    load_failures,
    notes,
    read_failure,
    write_failure,
)
from lit_scaledrop.results.store import load_results, write_result

FAILURE = Failure("resnet18-fp-seed2", "exit code 1: the loss is nan in epoch 3", "node7", "2026-01-01T00:00:00+00:00")
NOTE = "FAILED: resnet18-fp-seed2: exit code 1: the loss is nan in epoch 3. The same sweep runs it again."


def fail(folder: Path, id: str, failure: Failure = FAILURE) -> Path:
    write_failure(failure, path := folder / "cpu" / "table3" / f"{id}.json")
    return path


def test_it_comes_and_goes(tmp_path):
    path = fail(tmp_path, "f" * 12)
    assert failure_path(path).name == "ffffffffffff.failed.json"
    assert read_failure(path) == FAILURE
    assert notes(load_failures(path.parent, [])) == [NOTE]
    assert load_failures(path.parent, ["f" * 12]) == []  # finished meanwhile
    forget_failure(path)
    forget_failure(path)
    assert read_failure(path) is None
    assert load_failures(path.parent, []) == []


def test_it_is_no_result(tmp_path, make):
    write_result(make(), tmp_path)
    fail(tmp_path, "f" * 12)
    results, problems = load_results(tmp_path, "cpu", "table3")
    assert (len(results), problems) == (1, [])


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"', '{"name": "x", "odd": 1}'])
def test_a_broken_record_is_none(tmp_path, text):
    path = fail(tmp_path, "f" * 12)
    failure_path(path).write_text(text)
    assert read_failure(path) is None
    assert load_failures(path.parent, []) == []


def test_the_table_says_which_cell_failed_and_why(tmp_path, make, capsys):
    write_result(make(), tmp_path)
    argv = ["table3", "--results", str(tmp_path), "--profile", "cpu", "--format", "markdown"]
    assert main(argv) == 0
    before = capsys.readouterr().out
    fail(tmp_path, "f" * 12)
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert f"- {NOTE}\n" in out
    assert (tmp_path / "cpu" / "table3.md").read_text() == out
    fail(tmp_path, make().id)  # that one has a result
    forget_failure(tmp_path / "cpu" / "table3" / f"{'f' * 12}.json")
    assert main(argv) == 0
    assert capsys.readouterr().out == before


def test_a_table_without_results_says_what_failed(tmp_path, capsys):
    fail(tmp_path, "f" * 12)
    assert main(["table3", "--results", str(tmp_path), "--profile", "cpu"]) == 1
    err = capsys.readouterr().err
    assert NOTE in err
    assert "no results in" in err


def test_a_figure_says_what_failed(tmp_path, make, capsys):
    path = tmp_path / "cpu" / "figure7" / f"{'f' * 12}.json"
    write_failure(FAILURE, path)
    assert main(["figure7", "--results", str(tmp_path), "--profile", "cpu"]) == 1
    assert NOTE in capsys.readouterr().err
    assert json.loads(failure_path(path).read_text())["host"] == "node7"
