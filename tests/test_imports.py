"""Who may import whom, read from the sources."""

import re
import sys
from pathlib import Path

import pytest

import rooms
from rooms import imports, sources

ROOT = Path(__file__).parents[1]
OURS = {"lit_scaledrop", "datamodules", "hardware"}
# A cluster node that has these trains and evaluates; see test_bare_install.py for a node that has no more.
CORE = {
    "torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "docstring_parser", "numpy", "jaxtyping",
    "yaml", *OURS,
}  # fmt: skip
LIGHT = (
    "__main__",
    "__init__",
    "cli/sweep",
    "cli/report",
    "sweep/points",
    "sweep/runner",
    "sweep/remote",
    "sweep/slurm",
    "sweep/ray",
    "results/locks",
)
WITHOUT_TORCH = ("report", "results", "sweep", "naming.py")


def packages(path: Path, top_level_only: bool = False) -> set[str]:
    return {name.split(".")[0] for name in imports(path, top_level_only)}


def test_the_rules_see_imports(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import torch.nn\nif x:\n    from a import b\ndef f():\n    import wandb\nclass C:\n    import rich\n"
    )
    assert packages(path) == {"torch", "a", "wandb", "rich"}
    assert packages(path, top_level_only=True) == {"torch", "a", "rich"}
    assert sources("lit_scaledrop")
    assert sources("datamodules")
    assert sources("hardware")


@pytest.mark.parametrize("folder", ["datamodules", "hardware"])
def test_data_and_hardware_stand_alone(folder):
    for path in sources(folder):
        assert packages(path) & OURS <= {folder}, path


def test_a_file_imports_its_own_room_and_lower_floors():
    arrows = rooms.graph()
    assert not rooms.upward(arrows)
    assert not rooms.circles(arrows)
    assert len(list((ROOT / "lit_scaledrop").glob("*.py"))) <= 6
    known = {path.name for path in (ROOT / "lit_scaledrop").iterdir() if path.suffix in ("", ".py")}
    assert known - {"__pycache__", "configs", "__init__.py", "__main__.py"} == {
        name if (ROOT / "lit_scaledrop" / name).is_dir() else f"{name}.py" for name in rooms.FLOOR
    } - {"hardware.py", "datamodules.py"}


def test_the_rule_sees_what_breaks_it():
    up = {"lit_scaledrop.layers.binary": {"lit_scaledrop.cli.fit"}, "lit_scaledrop.cli.fit": {"lit_scaledrop.naming"}}
    assert rooms.upward(up) == ["lit_scaledrop.layers.binary (floor 2) imports lit_scaledrop.cli.fit (floor 9)"]
    assert rooms.upward({"lit_scaledrop.methods.method": {"lit_scaledrop.posterior.plans"}})  # the same floor
    assert rooms.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


def test_the_drawing_and_the_table_of_the_architecture_are_those_of_the_code(tmp_path):
    pytest.importorskip("matplotlib")
    rooms.draw(rooms.graph(), tmp_path / "rooms.svg")
    now, kept = (
        re.findall(r'<g id="((?:room|arrow)-[^"]+)"', path.read_text())
        for path in (tmp_path / "rooms.svg", ROOT / "docs" / "rooms.svg")
    )
    assert {"room-cli-9", "arrow-cli-runs"} <= set(now)
    assert sorted(kept) == sorted(now), "run `python tests/rooms.py docs/rooms.svg`"
    table = re.findall(r"^\| (\d) \| `(\w+)` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "lit_scaledrop").glob("*/__init__.py")} - {"configs"}
    assert sorted(table) == sorted((str(rooms.FLOOR[room]), room) for room in folders)


def test_albumentations_and_opencv_are_in_one_file():
    users = [path.name for path in sources(*OURS) if packages(path) & {"albumentations", "cv2"}]
    assert users == ["joint_augment.py"]


def test_results_and_their_report_need_no_torch():
    for path in sources(*(f"lit_scaledrop/{room}" for room in WITHOUT_TORCH)):
        heavy = {"torch", "torchvision", "lightning", "torchmetrics"}
        assert not packages(path, top_level_only=True) & heavy, path


def test_core_imports_the_fixed_list_only():
    core = [path for path in sources("lit_scaledrop") if not {"report", "results"} & set(path.parts)]
    assert {"classifier.py", "posterior.py", "evaluate.py", "lightning.py", "resnet.py"} <= {path.name for path in core}
    for path in core:
        foreign = packages(path, top_level_only=True) - CORE - set(sys.stdlib_module_names)
        assert not foreign, f"{path.name} imports {foreign} before they are needed"


def test_what_must_start_fast_imports_nothing_heavy():
    for name in LIGHT:
        heavy = packages(ROOT / "lit_scaledrop" / f"{name}.py", top_level_only=True) - set(sys.stdlib_module_names)
        assert heavy <= {"lit_scaledrop"}, name


def test_no_network_asks_which_method_it_is():
    for path in sources("lit_scaledrop/networks"):
        if path.name in ("__init__.py", "tasks.py", "convert.py"):
            continue
        assert not [name for name in imports(path) if name.endswith(("METHODS", "get_method"))], path


def test_sweeps_is_no_package():
    """A folder of YAML files; as a package it would be installed under a name that W&B's own engine has."""
    assert (ROOT / "sweeps" / "table3.yaml").is_file()
    assert not list((ROOT / "sweeps").rglob("*.py"))


def test_tests_stand_in_the_rooms_that_they_test():
    rooms = {path.name for path in (ROOT / "lit_scaledrop").iterdir() if path.is_dir()} | {"datamodules", "hardware"}
    tests = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("test_*.py"))}
    assert tests - {"faults"} <= rooms  # faults, against the whole
