"""The notebooks of docs/tutorials: their code runs in an empty folder, their outputs are small and of no machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
FAST = ("1-", "2-")  # the others start `scaledrop` several times: half a minute to a minute each
SHORTER = {"range(15)": "range(5)", "epochs=8": "epochs=1"}
"""Epochs of the trainings in these two: do they run?"""
MACHINE = re.compile(r"/(root|home|work|tmp|Users|usr|opt|var)/|[A-Z]:\\\\")


def cells(path):
    return json.loads(path.read_text())["cells"]


def code(path):
    """All code cells as a program."""
    return "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code")


def in_turn(paths):
    return [
        pytest.param(path, id=path.stem, marks=[] if path.name.startswith(FAST) else pytest.mark.slow) for path in paths
    ]


def test_there_are_six_and_the_page_lists_them():
    page = (ROOT / "docs" / "tutorials" / "README.md").read_text()
    assert re.findall(r"\]\((\S+\.ipynb)\)", page) == [path.name for path in TUTORIALS]
    assert len(TUTORIALS) == 6


@pytest.mark.parametrize("path", in_turn(TUTORIALS))
def test_code_runs(path, tmp_path):
    (tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)}
    environment |= {"HOME": str(tmp_path / "home")}
    program = code(path)
    assert not path.name.startswith(FAST) or any(epochs in program for epochs in SHORTER)
    for epochs, fewer in SHORTER.items():
        program = program.replace(epochs, fewer)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_every_cell_has_run_and_says_nothing_of_a_machine(path):
    assert path.stat().st_size < 200_000
    outputs = [output for cell in cells(path) for output in cell.get("outputs", [])]
    assert outputs
    for output in outputs:
        assert output["output_type"] in ("stream", "execute_result", "display_data")
        assert output.get("name", "stdout") == "stdout", output
        said = json.dumps({key: value for key, value in output.get("data", {}).items() if key != "image/png"})
        said += "".join(output.get("text", ""))
        assert not MACHINE.search(said), said
    assert not re.search(r"^\s*[!%]", code(path), re.MULTILINE), "magics run in Jupyter alone"
    assert all(cell.get("execution_count") is None and not cell["metadata"] for cell in cells(path))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    prose = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", prose):
        assert (path.parent / target).exists(), target


def test_the_counts_are_those_of_the_documents():
    (path,) = (path for path in TUTORIALS if "junction" in path.name)
    lines = (ROOT / "docs" / "sot_80nm.csv").read_text().splitlines(keepends=True)
    assert "".join(line for line in lines if not line.startswith("#")) in code(path)
