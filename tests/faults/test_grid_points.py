"""One point of a table fails, by NaN or by the GPU's memory: real trainings in a real sweep, from file to table."""

import shutil
from pathlib import Path

import pytest
import yaml

from lit_scaledrop.__main__ import main

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

# `fit` with the fault that its method has been given
PROGRAM = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import injections
if not Path("mended").exists():
    if "--model.method=proposed" in sys.argv: injections.weights_become_nan()
    if "--model.method=irnet" in sys.argv: injections.step("out of memory", 7)
from lit_scaledrop.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_nan_and_out_of_memory_in_two_points(place, undisturbed, record_property, monkeypatch, capfd):
    """The others finish, the table says which cells failed and why, and the same sweep mends it."""
    monkeypatch.chdir(place.folder)
    for name, value in {"DATA": "data", "HOME": ".", "WANDB_MODE": "disabled", "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    for path in place.results().values():
        path.unlink()
    shutil.rmtree(place.folder / "runs")
    (place.folder / "program.py").write_text(PROGRAM)
    command = ["${interpreter}", "-W", "ignore", "program.py", "fit", "--config", "tiny.yaml", "${args}"]
    grid = {"model.method": {"values": ["proposed", "irnet", "fp"]}}
    (place.folder / "t.yaml").write_text(yaml.safe_dump({"method": "grid", "parameters": grid, "command": command}))
    assert main(["sweep", "t.yaml", "--jobs", "2"]) == 1
    assert "3 points: 1 done, 0 skipped, 2 failed" in capfd.readouterr().out
    assert place.report() == 0
    nan = "FAILED: proposed: exit code 1: the loss is nan in epoch 1: training stopped, the last good"
    memory = "FAILED: irnet: exit code 1: CUDA out of memory. Tried to allocate 2.00 GiB. More of the driver's words."
    text = (place.folder / "results/quick/table3.md").read_text()
    assert nan in text
    assert memory in text
    assert list(place.results()) == ["fp"]
    (place.folder / "mended").touch()
    assert main(["sweep", "t.yaml", "--jobs", "2"]) == 0
    assert "3 points: 2 done, 1 skipped, 0 failed" in capfd.readouterr().out
    assert place.table() == undisturbed.table
    record_property("fault", "not a number in one point of a sweep")
    record_property("fault", "CUDA out of memory in one point of a sweep")
