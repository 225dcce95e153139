"""The core imports and trains with torch, torchvision, lightning, torchmetrics, jsonargparse and numpy alone."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).parents[1]
PROGRAM = '''
import sys

ABSENT = {"jaxtyping", "beartype", "rich", "wandb", "pandas", "tabulate", "matplotlib", "sklearn", "scipy"}
ABSENT |= {"albumentations", "cv2", "nibabel"}

class Without:
    """A finder that does not find what a bare node lacks."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def find_distributions(self, context):
        for found in getattr(self.finder, "find_distributions", lambda _: [])(context):
            if found.name.lower() not in ABSENT | {"scikit-learn"}:
                yield found

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import torch
import lit_scaledrop.cli, lit_scaledrop.evaluation.evaluate, lit_scaledrop.metrics, lit_scaledrop.posterior, datamodules
from lit_scaledrop.__main__ import main
code = main(["fit", "--profile", "cpu", "--data=CIFAR10DataModule", f"--data.root={sys.argv[1]}",
             "--data.checksums=recorded", "--data.batch_size=64", "--trainer.max_epochs=1", "--model.network=lenet5",
             "--evaluation.samples=2"])
assert code == 0, code
assert not {m.split(".")[0] for m in sys.modules} & ABSENT
'''


def test_fit_without_anything_else_installed(tmp_path, fake_cifar):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(fake_cifar)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wandb is not installed" in done.stderr
    assert len(list(tmp_path.glob("results/cpu/lenet5/*.json"))) == 1


# --- a wheel in a virtual environment that has what the package asks for, and no more ---


def asked_for(lines: Iterable[str], extras: Iterable[str], found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Projects that lines of metadata ask for, and those that these ask for; with the extras that were followed."""
    for requirement in map(Requirement, lines):
        if not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            known = found.setdefault(canonicalize_name(requirement.name), set())
            if new := {"", *requirement.extras} - known:
                known |= new
                asked_for(metadata.requires(requirement.name) or [], new, found)
    return found


class Environment:
    """A virtual environment with our wheel; what it asks for is linked from the environment of the tests."""

    def __init__(self, folder: Path) -> None:
        source = folder / "source"
        for name in ("lit_scaledrop", "datamodules", "hardware", "sweeps"):
            shutil.copytree(
                ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        build = "from setuptools import build_meta; build_meta.build_wheel('.')"
        subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=source, check=True, capture_output=True)
        (self.wheel,) = source.glob("*.whl")
        venv.create(folder / "venv", with_pip=True)
        self.bin = folder / "venv" / "bin"
        self.run("python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(self.wheel), cwd=folder)
        (self.site,) = (folder / "venv").glob("lib/python*/site-packages")
        self.add()

    def add(self, *extras: str) -> None:
        """Link what the core and some extras need."""
        (ours,) = metadata.distributions(path=[str(self.site)], name="lit-scaledrop")
        for project in asked_for(ours.requires or [], extras, {}):
            for name in {file.parts[0] for file in metadata.files(project) or []} - {"..", "__pycache__"}:
                if not (self.site / name).exists():
                    (self.site / name).symlink_to(str(metadata.distribution(project).locate_file(name)))

    def run(self, program: str, *words: str, cwd: Path, code: int = 0) -> str:
        """Standard and error output of a program of the environment."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WANDB", "VIRTUAL"))}
        done = subprocess.run(
            [self.bin / program, *words], cwd=cwd, env=env, text=True, capture_output=True, timeout=900
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


SMALL = ("--trainer.max_epochs=1", "--trainer.precision=32-true", "--evaluation.samples=2", "--model.width=0.1")
LACKING = """
import sys
from lit_scaledrop.__main__ import main
phantom = ["--data=PhantomDataModule", "--data.image_size=32"]
for words in (["report", "table3"], ["fit", "--profile=quick"], ["sweep", "search-proposed", "--profile=quick"],
              ["sweep", "table3", "--launcher=slurm"], ["sweep", "table3", "--launcher=ray"],
              ["export", "--model=lenet5-proposed", "--format=onnx", "--out=lenet5.onnx"],
              ["predict", "--model=lenet5-proposed", "--images=a.png", "--figure=a.svg"],
              ["device", "fit", sys.argv[1]], ["fit", "--profile=quick", *phantom, "--data.augment=full"],
              ["fit", "--profile=quick", *phantom, "--model.network=unet_smp", "--model.width=1", "--model.method=fp"]):
    assert main(words) == 2, words
"""


@pytest.mark.slow  # builds the wheel; two trainings
def test_a_wheel_in_a_bare_environment(tmp_path, fake_cifar):
    place = Environment(tmp_path / "e")
    if shutil.which("cc"):  # a wheel has the kernels, for one kind of machine and any Python from 3.11 on
        assert "-cp311-abi3-" in place.wheel.name
        compiled = "from lit_scaledrop.layers.bits.build import packaged; print(packaged())"
        assert "kernels.abi3.so" in place.run("python", "-c", compiled, cwd=tmp_path)
    scaledrop = partial(place.run, "scaledrop", cwd=tmp_path)
    data = (f"--data.root={fake_cifar}", "--data.checksums=recorded", "--data.batch_size=64")
    scaledrop("fit", "--profile=cpu", "--model.network=lenet5", "--data=CIFAR10DataModule", *data, *SMALL)
    (result,) = tmp_path.glob("results/cpu/lenet5/*.json")
    (checkpoint,) = tmp_path.glob(f"runs/**/{result.stem}/**/best*.ckpt")
    assert "They agree" in scaledrop("verify", str(result), str(checkpoint), "--root", str(fake_cifar))
    assert len(scaledrop("sweep", "table3", "--profile=cpu", "--dry-run").splitlines()) > 26
    # the command of the README, where there is no such file
    scaledrop("sweep", "sweeps/table3.yaml", "--profile=cpu", "--only=resnet20-proposed*", "--", *data, *SMALL)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    assert "a.png" in scaledrop("predict", "--model", "lenet5-proposed", "--images", "a.png")
    # each extra that lacks is one line, with what to install
    said = place.run("python", "-W", "ignore", "-c", LACKING, str(ROOT / "docs" / "sot_80nm.csv"), cwd=tmp_path)
    lines = [line for line in said.splitlines() if "error:" in line]
    wanted = ["report", "data", "search", "slurm", "ray", "onnx", "report", "scipy", "segmentation", "segmentation"]
    assert [name in line and "pip install '" in line for name, line in zip(wanted, lines, strict=True)] == [True] * 10
    assert not [line for line in said.splitlines() if "Traceback" in line or "SCALEDROP_TRACEBACK" in line]
    assert "complete -o default -F _scaledrop scaledrop" in scaledrop("completion", "bash")
    place.add("report")
    assert "Proposed" in scaledrop("report", "table3", "--profile=cpu")
    assert len(list(tmp_path.glob("results/cpu/table3.*"))) == 2


def test_every_pin_may_be_installed_on_the_oldest_python():
    """One that may not makes pip search without end."""
    pins = [line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    needs = {
        found.name: found.metadata["Requires-Python"] or ""
        for found in metadata.distributions()
        if canonicalize_name(found.name) in set(map(canonicalize_name, pins))
    }
    assert len(needs) > 100
    assert not {name: asked for name, asked in needs.items() if "3.11.0" not in SpecifierSet(asked)}
