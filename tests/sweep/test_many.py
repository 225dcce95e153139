"""Thousands of points: planned by the values of their flags, with the files that each has by itself."""

import itertools

import pytest

from lit_scaledrop.cli import many
from lit_scaledrop.cli.fit import plan_fit


def grid(**values) -> list[list[str]]:
    names = [name.replace("__", ".") for name in values]
    product = itertools.product(*values.values())
    common = ["--profile", "quick", "--run.results=out"]
    return [[*common, *(f"--{n}={v}" for n, v in zip(names, each, strict=True))] for each in product]


POINTS = grid(
    row=["lenet5/proposed", "resnet20/proposed", "vgg_small/proposed"],
    model__p=[0.1, 0.2, 0.3, 0.15],
    model__lr=[0.1, 0.01],
    seed_everything=[1, 2, 3],
)
SEEDS = grid(seed_everything=range(70))


def test_files_are_those_of_each_point_and_each_value_is_parsed_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = []
    monkeypatch.setattr(many, "plan_fit", lambda flags: parsed.append(flags) or plan_fit(flags))
    found = many.planned_results(POINTS)
    assert len(parsed) == 1 + 2 + 3 + 1 + 2 + 12  # the first, other values of four flags, the sample
    assert [*found] == [tuple(point) for point in POINTS]
    others = POINTS[::5]  # every value of every flag
    assert all(
        {*values} == {*some} for values, some in zip(zip(*POINTS, strict=True), zip(*others, strict=True), strict=True)
    )
    for point in others:
        assert found[tuple(point)] == plan_fit(point).result
    assert len({*found.values()}) == 72
    assert {path.parts[:2] for path in found.values()} == {("out", "quick")}


def test_a_bad_value_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = grid(model__p=[0.1, 0.2, 7.0], seed_everything=range(30))
    with pytest.raises(ValueError, match="7"):
        many.planned_results(points)


@pytest.mark.parametrize(
    "points",
    [
        grid(model__p=[0.1, 0.2], seed_everything=range(10)),  # few
        [["--row", f"lenet5/{name}", *point] for name in ("fp", "proposed") for point in SEEDS],
        [*SEEDS, ["--profile", "quick"]],
        [[f"--run.study=s{n}", *point] for n, point in enumerate(SEEDS)],
    ],
)
def test_what_is_no_such_grid_is_planned_point_by_point(tmp_path, monkeypatch, points):
    """Few points, values that are words of their own, other lengths, other folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(many, "check", lambda plan: None)
    assert many.planned_results(points) == {}


def test_flags_that_change_one_setting_or_a_class_are_seen():
    one, other = {("model", "lr"): 1}, {("model", "p"): 1}
    assert many._overlap({0: {"a": one}, 1: {"b": {**one, **other}}})
    assert many._overlap({0: {"a": one}, 1: {"b": {("data", "class_path"): "x"}}})
    assert not many._overlap({0: {"a": one}, 1: {"b": other}})


def test_a_point_that_its_flags_forbid_together_is_refused(tmp_path, monkeypatch):
    """A drop probability for a method without Scale-Dropout."""
    monkeypatch.chdir(tmp_path)
    points = grid(row=["lenet5/proposed", "lenet5/fp"], model__p=[0.1, 0.2], seed_everything=range(20))
    with pytest.raises(ValueError, match="'FP' has no Scale-Dropout"):
        many.planned_results(points)


def test_a_sample_that_is_planned_otherwise_is_believed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(many, "run_identity", lambda config, method: "0" * 12)
    assert many.planned_results(POINTS) == {}
