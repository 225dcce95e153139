"""Every file in sweeps/: every point is one that the command line takes, and one point runs."""

from pathlib import Path

import pytest

from lit_scaledrop.cli.sweep import PLANS
from lit_scaledrop.cli.sweep import main as run_sweep
from lit_scaledrop.results.glossary import SWEEP_FILES
from lit_scaledrop.results.store import read_result
from lit_scaledrop.sweep.file import command_of, load_sweep
from lit_scaledrop.sweep.points import plan_points

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
SHORT = {
    "fit": ["--trainer.max_epochs=1", "--data.limit_train=64", "--run.tracking=disabled", "--evaluation.samples=2"],
    "cost": [],
}
SHORT["assess"] = [*SHORT["fit"], "--limit=8"]


def sampled(config) -> dict:
    """Values of the first point of a search."""
    pytest.importorskip("optuna", reason="the extra `search` is not installed")
    from lit_scaledrop.sweep.study import Study

    study = Study(config, 0, 1)
    return study.values(study.sample(0))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_point_parses(path):
    """All points against the real command line."""
    config = load_sweep(path)
    if config["method"] != "grid":
        config = {**config, "parameters": {name: {"value": value} for name, value in sampled(config).items()}}
    points = plan_points(config, {"PROFILE": "quick"}, None, [], PLANS[command_of(config)])
    study = {
        "table3-beyond": "table3",
        "table5-beyond": "table5",
        "table6-beyond": "table6",
        "table7-segmentation": "table7",
    }.get(path.stem, path.stem)
    assert {point.result.parent.name for point in points} == {study}
    assert len({point.name for point in points}) == len(points)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_point_runs(path, tmp_path, monkeypatch, capfd):
    """The first point of ResNet-20, or the first one, in the quick profile: an epoch on 64 images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DATA", raising=False)
    config, short = load_sweep(path), SHORT[command_of(load_sweep(path))]
    if config["method"] == "grid":
        named = plan_points(config, {"PROFILE": "quick"}, None, [], lambda flags: Path("r/p", "-".join(flags)))
        names = [point.name for point in named]
        name = next((name for name in names if name.startswith("resnet20-proposed")), names[0])
        chosen = ["--only", name]
        (point,) = plan_points(config, {"PROFILE": "quick"}, None, short, PLANS[command_of(config)], [name])
        results = [point.result]
    else:
        pytest.importorskip("optuna")
        chosen, results = ["--runs", "1"], []
    assert run_sweep([str(path), "--profile", "quick", *chosen, "--", *short]) == 0, capfd.readouterr().out
    (result,) = results or Path("results/quick", path.stem).glob("*.json")
    assert read_result(result).measurements


def test_captions_name_sweep_files_that_there_are():
    more = ("table3-beyond", "table5-beyond", "table6-beyond", "table7-segmentation")  # further rows of a table
    assert sorted(SWEEP_FILES) == sorted(path.stem for path in FILES if path.stem not in more)
