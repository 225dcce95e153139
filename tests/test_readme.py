"""Every command of the documents is run, also of the notebooks' prose, code too; generated parts are up to date."""

import functools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

import datamodules
from lit_scaledrop.__main__ import main
from tools.documents import badge, badges, refresh

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text):
    blocks = re.findall(r"```bash\n(.*?)```", text.replace("\\\n ", ""), re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def prose(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def named(text):
    """Commands within sentences; one alone is asked for its help."""
    found = (" ".join(inline.split()) for inline in re.findall(r"`(scaledrop [^`]+)`", text))
    return [command if command.count(" ") > 1 else f"{command} --help" for command in found]


PROSE = [prose(notebook) for notebook in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))]
TEXTS = [*(document.read_text() for document in DOCUMENTS), *PROSE]
COMMANDS = sorted(
    {command for text in TEXTS for command in commands(text)} | {c for text in PROSE for c in named(text)}
)
MAKE = [command for command in COMMANDS if command.startswith("make ")]
SCALEDROP = [command for command in COMMANDS if command.startswith("scaledrop ")]
ELSEWHERE = re.compile(
    r"^scaledrop (export .*-passes .*--out \S+\.onnx|verify .*|(?!predict --model).*--images .*)$", re.MULTILINE
)
"""Commands whose files the Python code beside them reads, those that need the real images, and those of
docs/your-own-data.md, which come one after another: tests/cli/test_own_data.py."""


def test_every_command_is_one_that_is_run_here():
    assert sorted(MAKE + SCALEDROP) == COMMANDS
    assert {"make reproduce-table3", "make test"} <= set(MAKE)
    # commands in prose and tables are the same two kinds
    for inline in re.findall(r"`(make [^`]+)`", README):
        words = shlex.split(inline.replace("\n", " "))
        assert subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True).returncode == 0, inline


@pytest.mark.parametrize("command", MAKE)
def test_make_command(command):
    """A dry run: the targets exist and expand. CI runs `make test` itself."""
    done = subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [command for command in SCALEDROP if not ELSEWHERE.match(command)])
def test_scaledrop_command(command, tmp_path, monkeypatch, capsys, fake_cifar):
    """The real thing in an empty folder; trainings are cut to an epoch on a few images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("DATA", raising=False)
    for folder in ("sweeps", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 50), "olive").save(tmp_path / "pictures" / "olive.png")
    words = shlex.split(command)[1:]
    for name in ("junction.yaml",) if words[:2] == ["chip", "new"] else ("junction.yaml", "chip.yaml"):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    if words[:2] in (["chip", "report"], ["chip", "effects"]):
        monkeypatch.setenv("DATA", str(fake_cifar))
        recorded = functools.partial(datamodules.CIFAR10DataModule, checksums="recorded")
        monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", recorded)
        words += ["--samples=2", "--limit=6", *(["--chips=1"] if words[1] == "report" else ["--parts=adc/4"])]
    if words[0] == "fit" and "--help" not in words:
        words += ["--trainer.max_epochs=1", "--data.limit_train=64", "--run.tracking=disabled"]
        words += ["--evaluation.samples=2", "--data.val_fraction=0.05"]
    if words[0] == "report":
        (tmp_path / "results").mkdir()
        for profile in (ROOT / "results").iterdir():
            if profile.is_dir():
                subprocess.run(["cp", "-r", str(profile), str(tmp_path / "results")], check=True)
    if words[0] == "sweep" and "--dry-run" not in words:
        words.insert(words.index("--") if "--" in words else len(words), "--dry-run")
    try:
        status = main(words)
    except SystemExit as ended:  # of --help
        status = ended.code
    assert status == 0
    assert capsys.readouterr().out.strip()


def test_verify_says_which_data_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA", raising=False)
    for command in (command for command in SCALEDROP if command.startswith("scaledrop verify ")):
        assert main(shlex.split(command)[1:]) == 1
        assert "scaledrop data get cifar10" in capsys.readouterr().err


def test_python_code_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    torch.manual_seed(0)
    exec(code, names)
    assert names["prediction"].mean.shape == (8, 3)
    assert names["prediction"].mutual_information.shape == names["prediction"].is_ood().shape == (8,)
    assert (names["prediction"].mutual_information > 0).all()


def test_python_code_of_the_documents_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = [command for command in SCALEDROP if "-passes" in command and ELSEWHERE.match(command)]
    assert written
    for command in written:
        assert main(shlex.split(command)[1:]) == 0
    for document in DOCUMENTS[1:]:
        for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
            exec(code, {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_generated_parts_are_up_to_date(document):
    text = document.read_text()
    assert refresh(text, ROOT / "results") == text, "run `python tools/documents.py`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_stand_alone(document):
    """Behind a line of text, or with a comment behind its head, a table is shown as text."""
    lines = document.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|[ :|-]+\|", line):
            assert re.fullmatch(r"(<!-- .* -->)?", lines[number - 2]), lines[number - 2]
            assert lines[number + 1].startswith("|"), lines[number + 1]


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_readme_is_short_and_narrow():
    assert len(README.splitlines()) <= 180
    assert max(map(len, README.splitlines())) <= 120


def test_badges_say_what_the_repository_says():
    shown = badges(ROOT)
    assert {path.stem for path in (ROOT / "docs" / "badges").iterdir()} == shown.keys()
    for name, (left, right) in shown.items():
        drawn = (ROOT / "docs" / "badges" / f"{name}.svg").read_text()
        assert drawn == badge(left, right), "run `python tools/documents.py`"
        assert not re.search(r"(?:href|src)=|url\(|@import", drawn)
    (cited,) = set(re.findall(r"arXiv:([\d.]+)", README))
    assert shown["paper"][1] == f"arXiv {cited}"
    assert shown["license"][1].split("-")[0] in (ROOT / "LICENSE").read_text()
    assert re.findall(r"!\[[^]]*]\(https?:", README) == []


def test_what_was_measured_is_generated_on_the_front():
    """Numbers with a unit stand between marks, where a test compares them with committed files."""
    prose = re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->|```.*?```", "", README, flags=re.DOTALL)
    assert not re.search(
        r"\d ?(?:%|times|nats|points|[nu]J)\b|\d\.\d{2,3}(?!\d)(?!\S*arxiv)", prose.replace("2311.15816", "")
    )
