"""Who may import whom, read from the sources."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"lit_scaledrop", "datamodules", "hardware"}
# A cluster node that has these trains and evaluates; see test_bare_install.py for a node that has no more.
CORE = {"torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "numpy", "jaxtyping", "yaml", *OURS}
LIGHT = ("__main__", "__init__", "sweep", "launch", "claims", "report/__init__", "report/results", "report/failures")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; at the top level, not inside functions or ``if TYPE_CHECKING``."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if top_level_only and (
                inside or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            ):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative imports hide who imports whom"
                assert child.module
                yield child.module
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            else:
                yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


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


def test_only_the_doors_open_hardware_and_data():
    doors = {
        # energy.py is where networks meet the hardware model, for the probe and the commands behind it; commands build
        # chips and presets from their flags
        "hardware": (
            "callbacks/",
            "energy.py",
            "energy_command.py",
            "energy_figure.py",
            "cost_command.py",
            "probes/chip.py",  # trained networks on crossbars
            "summary.py",
            "variation.py",
        ),
        "datamodules": (
            "arguments.py",
            "assess.py",
            "classify_images.py",
            "config_files.py",
            "data.py",
            "doctor.py",
            "evaluate_command.py",
            "packed/command.py",
            "probes/",
            "segment_images.py",
            "training_cli.py",
        ),
    }
    for path in sources("lit_scaledrop"):
        for package, allowed in doors.items():
            door = path.relative_to(ROOT / "lit_scaledrop").as_posix().startswith(allowed)
            assert door or package not in packages(path), path


def test_albumentations_and_opencv_are_in_one_file():
    users = [path.name for path in sources(*OURS) if packages(path) & {"albumentations", "cv2"}]
    assert users == ["joint_augment.py"]


def test_report_needs_no_torch():
    for path in sources("lit_scaledrop/report"):
        assert not packages(path) & {"torch", "torchvision", "lightning", "torchmetrics"}, path
        ours = {name for name in imports(path) if name.startswith("lit_scaledrop.")}
        light = ("lit_scaledrop.report", "lit_scaledrop.results.glossary")
        assert all(name.startswith(light) for name in ours), (path, ours)


def test_core_imports_the_fixed_list_only():
    core = [path for path in sources("lit_scaledrop") if "report" not in path.relative_to(ROOT).parts]
    expected = {"modules.py", "posterior.py", "metrics.py", "evaluate.py", "cli.py", "training_cli.py", "resnet.py"}
    assert expected <= {path.name for path in core}
    for path in core:
        foreign = packages(path, top_level_only=True) - CORE - set(sys.stdlib_module_names)
        assert not foreign, f"{path.name} imports {foreign} before they are needed"


def test_what_must_start_fast_imports_nothing_heavy():
    for name in LIGHT:
        heavy = packages(ROOT / "lit_scaledrop" / f"{name}.py", top_level_only=True) - set(sys.stdlib_module_names)
        assert heavy <= {"lit_scaledrop"}, name


def test_no_network_asks_which_method_it_is():
    for path in sources("lit_scaledrop/networks"):
        assert not [name for name in imports(path) if name.endswith(("METHODS", "get_method"))], path


def test_sweeps_is_no_package():
    """It would shadow W&B's engine, which is called sweeps as well."""
    assert (ROOT / "sweeps" / "table3.yaml").is_file()
    assert not list((ROOT / "sweeps").rglob("*.py"))
