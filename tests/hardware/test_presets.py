"""Every constant has value, unit, source and status; a user's file cannot slip a wrong one in."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from hardware.constants import FOLDER, PresetError, Status
from hardware.devices import devices
from hardware.presets import components, published

ENTRY = {"value": 0.5, "unit": "pJ", "source": "me", "status": "assumed"}


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_constant_has_a_source():
    others = components()
    entries = [converter.constants for converter in others.converters.values()]
    entries += [new for known in others.alternatives.values() for new in known.values()]
    groups = [*entries, others.constants, published(), *(preset.constants for preset in devices().values())]
    assert len(list(FOLDER.glob("*.yaml"))) == 3
    for group in groups:
        for name, constant in group.items():
            assert len(constant.source) > 5, name
            assert constant.unit, name
            assert constant.status in get_args(Status), name
    assert components().constants["module_power"].status == "paper"


def test_override_replaces_one_constant(tmp_path):
    mine = components(write(tmp_path, {"adder_energy": ENTRY}))
    assert mine.number("adder_energy", "pJ") == 0.5
    assert mine.constants["adder_energy"].source == "me"
    assert mine.number("comparator_energy", "pJ") == components().number("comparator_energy", "pJ")
    mine = components(write(tmp_path, {"sram_word_energy": {**ENTRY, "value": {1024: 1.0, 4096: 4.0}}}))
    assert mine.table("sram_word_energy", "pJ") == {1024: 1.0, 4096: 4.0}
    with pytest.raises(PresetError, match="table"):
        mine.number("sram_word_energy", "pJ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"adder_enrgy": ENTRY}, "did you mean 'adder_energy'"),
        ({"adder_energy": {**ENTRY, "unit": "ns"}}, r"must be in pJ \(or fJ, nJ\), not in ns"),
        ({"adder_energy": "0.2 joule"}, "unknown unit 'joule'"),
        ({"sram_energy": ENTRY}, "did you mean 'sram_"),
        ({"adder_energy": {k: v for k, v in ENTRY.items() if k != "source"}}, "source"),
        ({"adder_energy": {k: v for k, v in ENTRY.items() if k != "unit"}}, "unit"),
        ({"adder_energy": {**ENTRY, "source": " "}}, "must not be empty"),
        ({"adder_energy": {**ENTRY, "status": "guessed"}}, "paper, cited, derived, assumed, given"),
        ({"adder_energy": {**ENTRY, "value": "much"}}, "a number"),
        ({"adder_energy": {**ENTRY, "value": -1}}, "not negative"),
        ({"adder_energy": {**ENTRY, "value": {"four": 1.0}}}, "by bits"),
        ({"adder_energy": 0.5}, r"needs its unit, pJ \(or fJ, nJ\): 0.5 is a mere number"),
        ({"adder_energy": True}, "value, unit, source and status"),
        ({"adder_energy": [0.5]}, "value, unit, source and status"),
        ({"adder_energy": {**ENTRY, "per": 3}}, "value, unit, source and status"),
        ([1, 2], "map names"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, message):
    with pytest.raises(PresetError, match=message):
        components(write(tmp_path, content))


def test_no_yaml_and_asking_in_another_unit(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(PresetError, match="no YAML"):
        components(tmp_path / "a.yaml")
    with pytest.raises(PresetError, match="in pJ, not in nJ"):
        components().number("adder_energy", "nJ")
    with pytest.raises(PresetError, match="in pJ, not in uJ"):
        components().table("sram_word_energy", "uJ")


ALONE = """
import sys

class Only:
    '''A finder that finds nothing but torch, what torch itself needs, and hardware.'''

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        absent = {"yaml", "jaxtyping", "beartype", "lightning", "torchvision", "rich", "pandas", "matplotlib", "scipy",
                  "lit_scaledrop", "datamodules", "torchmetrics", "jsonargparse", "sklearn"}
        return None if name.split(".")[0] in absent else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
import importlib, pkgutil, torch
before = {name.split(".")[0] for name in sys.modules}
import hardware
names = [module.name for module in pkgutil.iter_modules(hardware.__path__)]
for name in names:
    importlib.import_module(f"hardware.{name}")
foreign = {name.split(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names) - {"hardware"}
foreign = {name for name in foreign if not name.startswith("_")}
assert not foreign, foreign
assert {"mtj", "devices", "chip_file", "dropout_modules", "crossbar", "energy", "presets"} <= set(names), names
from hardware.crossbar import CrossbarLayer
print(CrossbarLayer(torch.ones(1, 3))(torch.ones(1, 3)).item())
from hardware.presets import components
try:
    components()
except ValueError as error:
    print(error)
"""


def test_hardware_needs_torch_alone():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE], cwd=root, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == "3.0"
    assert "pip install pyyaml" in done.stdout
