"""Files that come from elsewhere are read and never run: checkpoints, configurations, sweeps, archives, batches."""

import ast
import io
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from datamodules.files.tree import unpack
from lit_scaledrop.__main__ import main
from lit_scaledrop.evaluation.checkpoint import CheckpointError, read_checkpoint
from lit_scaledrop.sweep.file import SweepError, load_sweep
from lit_scaledrop.sweep.points import plan_points
from lit_scaledrop.sweep.runner import Runner

ROOT = Path(__file__).parents[1]
SOURCES = [
    path for name in ("lit_scaledrop", "datamodules", "hardware") for path in sorted((ROOT / name).rglob("*.py"))
]
# Names of functions that run what they are given. pickle writes miniature data in three files; cifar10.py reads batches
# by an unpickler that knows arrays only (tests/datamodules/test_published.py).
RUNS = {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "pickle.load", "pickle.loads", "marshal.loads"}


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text())
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def arguments(call: ast.Call) -> dict[str, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg}


def test_nothing_that_runs_code_is_called():
    found = [(path.name, name) for path in SOURCES for name, _ in calls(path) if name in RUNS]
    assert found == []


def test_every_load_is_a_safe_one():
    """torch.load with weights_only, YAML by safe_load, NumPy without pickles, no shell, tar with the data filter."""
    seen = set()
    for path in SOURCES:
        for name, call in calls(path):
            given = arguments(call)
            seen.add(name)
            assert given.get("shell", "False") == "False", path
            if name == "torch.load":
                assert given["weights_only"] == "True", path
            if name == "np.load":
                assert given["allow_pickle"] == "False", path
            if name in ("yaml.load", "yaml.compose", "yaml.parse"):  # faster, and bounded
                assert path.name in ("yaml_text.py", "constants.py", "description.py"), path
                assert "SafeLoader" in ast.unparse(call), path
            elif name == "yaml.dump":
                assert "SafeDumper" in ast.unparse(call), path
            elif name.startswith("yaml."):
                assert name in ("yaml.safe_load", "yaml.safe_dump", "yaml.YAMLError"), path
            if name == "tar.extractall":
                assert given["filter"] == "'data'", path
            if name == "pickle.Unpickler":
                raise AssertionError(path)
    assert {"torch.load", "yaml.load", "np.load", "tar.extractall", "subprocess.Popen"} <= seen


def test_no_table_takes_names_for_markup():
    consoles = [(path, arguments(call)) for path in SOURCES for name, call in calls(path) if name == "Console"]
    shown = [(path, given) for path, given in consoles if given.get("stderr") != "True"]
    assert len(shown) > 3
    for path, given in shown:
        assert (given["markup"], given["emoji"]) == ("False", "False"), path


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # for those who do not say what they want
    state = {"hyper_parameters": {}, "state_dict": {}, "epoch": 0, "x": Malicious()}
    if how == "torch":
        torch.save(state, "a.ckpt")
    else:
        Path("a.ckpt").write_bytes(pickle.dumps(state))
    with pytest.raises(CheckpointError, match="is no checkpoint, or it is damaged"):
        read_checkpoint("a.ckpt")
    assert not Path("executed").exists()
    torch.load("a.ckpt", weights_only=False) if how == "torch" else pickle.loads(Path("a.ckpt").read_bytes())
    assert Path("executed").exists(), "it would have run"


@pytest.mark.parametrize("tag", ["python/object/apply:pathlib.Path.touch", "python/object/new:pathlib.Path.touch"])
def test_yaml_builds_no_objects(place, tag, capsys):
    text = f"!!{tag} [!!python/object/apply:pathlib.Path [executed]]"
    Path("s.yaml").write_text(f"method: grid\nparameters: {{a: {{value: {text}}}}}\ncommand: [fit, '${{args}}']\n")
    with pytest.raises(SweepError, match="could not determine a constructor"):
        load_sweep(Path("s.yaml"))
    Path("c.yaml").write_text(f"seed_everything: {text}\n")
    assert main(["fit", "--config", "tiny.yaml", "--config", "c.yaml"]) != 0
    assert main(["fit", "--config", "tiny.yaml", f"--seed_everything={text}"]) != 0
    assert not Path("executed").exists()


def test_a_value_of_a_sweep_reaches_no_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = "$(touch executed); `touch executed` && touch executed | 'x' ${HOME}"
    Path("child.py").write_text("import sys, pathlib; pathlib.Path('seen').write_text(sys.argv[-1])")
    config = {"parameters": {"a": {"value": odd}}, "command": [sys.executable, "child.py", "fit", "${args}"]}
    points = plan_points(config, {}, None, [], lambda flags: Path("r/quick/s/a.json"))
    assert Runner(points, 1, env={}).run() == 1  # it leaves no result
    assert Path("seen").read_text() == f"--a={odd}"
    assert not Path("executed").exists()


def tar_of(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in ("data/a.png", "data/../../up.png", "data/sub/../../../up.png", "/absolute/up.png"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))


def tar_with_link(path: Path, target: str) -> None:
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("data/link")
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)
        member = tarfile.TarInfo("data/link/up.png")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))


def zip_of(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for name in ("data/a.png", "data/../../up.png", "data/sub/../../../up.png", "/absolute/up.png"):
            packed.writestr(name, b"x")


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python has no filters: the next test is of it")
def test_a_tar_archive_cannot_leave_its_folder(tmp_path):
    tar_of(tmp_path / "a.tar")
    with pytest.raises(tarfile.OutsideDestinationError):
        unpack(tmp_path / "a.tar", "data/", tmp_path / "in" / "here")
    for target in ("../../..", "/tmp"):
        tar_with_link(tmp_path / "b.tar", target)
        with pytest.raises((tarfile.LinkOutsideDestinationError, tarfile.AbsoluteLinkError)):
            unpack(tmp_path / "b.tar", "data/", tmp_path / "in" / target.strip("/.") / "there")
    assert not list(tmp_path.rglob("up.png"))


def test_a_tar_archive_cannot_leave_its_folder_on_a_python_without_filters(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    tar_of(tmp_path / "a.tar")
    with pytest.raises(tarfile.TarError, match="would be outside"):
        unpack(tmp_path / "a.tar", "data/", tmp_path / "in" / "here")
    tar_with_link(tmp_path / "b.tar", "/tmp")
    with pytest.raises(tarfile.TarError, match="is no file and no folder"):
        unpack(tmp_path / "b.tar", "data/", tmp_path / "in" / "there")
    assert not list(tmp_path.rglob("up.png"))
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        member = tarfile.TarInfo("data/deep/a.png")
        member.size, member.mode = 3, 0o4777
        tar.addfile(member, io.BytesIO(b"abc"))
    unpack(tmp_path / "c.tar", "data/", tmp_path / "out")
    assert (tmp_path / "out" / "data" / "deep" / "a.png").read_bytes() == b"abc"
    assert not (tmp_path / "out" / "data" / "deep" / "a.png").stat().st_mode & 0o7111  # neither set-uid nor executable


def test_a_zip_archive_cannot_leave_its_folder(tmp_path):
    zip_of(tmp_path / "a.zip")
    place = tmp_path / "in" / "here"
    unpack(tmp_path / "a.zip", "data/", place)
    assert (place / "data" / "a.png").is_file()
    assert all(path.is_relative_to(place) for path in tmp_path.rglob("*.png"))
    assert not Path("/absolute").exists()


def test_a_mirror_cannot_be_a_file(tmp_path):
    from datamodules.files.fetch import download

    for url in ("file:///etc/passwd", "ftp://host/x", "/etc/passwd"):
        with pytest.raises(ValueError, match="must be an http or https address"):
            download([url], tmp_path / "x", "0" * 32)
    assert not list(tmp_path.iterdir())
