"""One chip in one file: what it says reaches every object, what it does not say is the default chip's."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from hardware.cells import Imperfections
from hardware.chip import Chip
from hardware.chip_fields import FIELDS
from hardware.chip_file import find_junction, load_chip
from hardware.chip_lines import explain, template
from hardware.constants import PresetError
from hardware.mapping import Crossbar
from hardware.presets import components
from hardware.workload import LayerShape

LAB = {
    "like": "sot_80nm",
    "device": {"threshold": "920 mV", "slope": "38 /V", "threshold_cv": "1 %"},
    "cell": {"resistance_p": "0.05 MOhm", "conductance_cv": "5 %", "stuck_ap": 0.001, "node": "28 nm"},
    "wires": {"per_cell": "0.002 kOhm"},
    "converter": {
        "name": "lab", "bits": 6, "energy": "900 fJ", "time": "1.2 ns", "area": "500 um2", "node": "28 nm",
        "offset": 0.4,
    },
    "geometry": {"columns": 64, "mapping": "kernel_split"},
    "arithmetic": {"scale": "multiplied", "skip_bits": 8},
    "constants": {"adder_energy": "0.1 pJ"},
}  # fmt: skip


def write(tmp_path: Path, content: object, name: str = "lab.yaml") -> Path:
    path = tmp_path / name
    path.write_text(yaml.safe_dump(content))
    return path


def test_what_a_file_says_reaches_every_object(tmp_path):
    lab, ours = load_chip(write(tmp_path, LAB)), load_chip("sot_80nm")
    junction, spread = lab.device.build()
    assert float(junction.probability(0.92)) == 0.5
    assert junction.law.slope_per_v == 38.0
    assert junction.pulse_ns == ours.device.build()[0].pulse_ns
    assert spread.threshold_cv == pytest.approx(0.01)
    assert lab.chip.crossbar == Crossbar(columns=64, mapping="kernel_split")
    assert (lab.chip.adc, lab.chip.adc_bits, lab.chip.scale, lab.chip.skip_bits) == ("lab", 6, "multiplied", 8)
    assert lab.chip.converter.at(6, 1.0, 0.25).energy_pj == pytest.approx(0.9)
    assert lab.chip.converter.yours
    constants = lab.chip.components
    assert constants.number("cell_resistance_p", "kOhm") == pytest.approx(50.0)
    assert constants.number("cell_area", "um2") == pytest.approx(57.5 * 0.028**2)
    assert constants.number("adder_energy", "pJ") == 0.1
    assert constants.number("multiplier_energy", "pJ") == components().number("multiplier_energy", "pJ")
    cells = lab.cells
    assert (cells.resistance_p_kohm, cells.conductance_cv, cells.stuck_ap) == pytest.approx((50.0, 0.05, 0.001))
    assert (cells.wire_ohm_per_cell, cells.adc_bits, cells.adc_offset_matches) == (pytest.approx(2.0), 6, 0.4)
    # what it does not say is the default chip's, whose converters tell all sums of its rows apart
    assert ours.cells == Imperfections(adc_bits=8)
    assert ours.chip.crossbar == Crossbar()


def test_the_identity_is_what_is_said_and_not_how(tmp_path):
    lab = load_chip(write(tmp_path, LAB))
    said = {**LAB, "cell": {"stuck_ap": "0.1 %", "node": "28 nm", "conductance_cv": 0.05, "resistance_p": "50 kOhm"}}
    said["constants"] = {"adder_energy": {"value": 0.1, "unit": "pJ", "source": "our flow", "status": "derived"}}
    other = load_chip(write(tmp_path, said, "other.yaml"))
    assert other.fingerprint == lab.fingerprint
    (line,) = (line for line in explain(other) if line.name == "constants.adder_energy")
    assert (line.value, line.source, line.given) == ("0.1 pJ", "our flow", True)
    changes = [
        ("device", "slope", "39 /V"),
        ("cell", "stuck_ap", 0.002),
        ("cell", "read_time", "6 ns"),
        ("wires", "per_cell", "3 Ohm"),
        ("converter", "bits", 5),
        ("converter", "energy", "901 fJ"),
        ("geometry", "columns", 128),
        ("arithmetic", "skip_bits", 16),
        ("constants", "adder_energy", "0.2 pJ"),
    ]
    found = {lab.fingerprint}
    for section, name, value in changes:
        found.add(load_chip(write(tmp_path, {**LAB, section: {**LAB[section], name: value}}, "c.yaml")).fingerprint)
    assert len(found) == 1 + len(changes)


def test_a_chip_like_another_file(tmp_path):
    write(tmp_path, LAB)
    (tmp_path / "below").mkdir()
    like = load_chip(write(tmp_path, {"like": "../lab.yaml", "geometry": {"rows": 64}}, "below/mine.yaml"))
    assert (like.chip.crossbar.rows, like.chip.crossbar.columns, like.chip.adc) == (64, 64, "lab")
    # another junction has nothing of the former
    other = load_chip(write(tmp_path, {"like": "lab.yaml", "device": "stt_nvsim"}, "stt.yaml"))
    assert other.device.fingerprint == load_chip("stt_nvsim").device.fingerprint
    assert other.chip.adc == "lab"
    # what is wrong is said of the file that says it
    write(tmp_path, {"geometry": {"rows": 0}}, "wrong.yaml")
    with pytest.raises(PresetError, match=r"wrong\.yaml: geometry: rows"):
        load_chip(write(tmp_path, {"like": "wrong.yaml", "geometry": {"rows": 64}}, "right.yaml"))
    write(tmp_path, {"like": "a.yaml"}, "b.yaml")
    with pytest.raises(PresetError, match="like itself"):
        load_chip(write(tmp_path, {"like": "b.yaml"}, "a.yaml"))


def test_the_template_uncommented_is_the_chip(tmp_path):
    lab = load_chip("sot_80nm")
    path = tmp_path / "new.yaml"
    path.write_text(template(lab, "sot_80nm"))
    assert load_chip(path).fingerprint == lab.fingerprint
    text = "\n".join(line.removeprefix("# ") for line in template(lab, "sot_80nm").splitlines())
    content = yaml.safe_load(text.replace("A chip like", "# A chip like").replace("constants:", "# constants:"))
    assert content.pop("converter").keys() > {"name", "bits"}
    everything = load_chip(write(tmp_path, content, "all.yaml"))
    assert everything.fingerprint == lab.fingerprint
    assert sum(line.given for line in explain(everything)) > 40


@pytest.mark.parametrize(("rows", "bits"), [(15, 4), (16, 6), (31, 6), (63, 6)])
def test_sums_are_simulated_with_the_converter_that_is_counted(tmp_path, rows, bits):
    """Sums of 16 to 31 rows need 5 bits, in which this converter does not come: both take 6 then."""
    table = {"value": {4: 0.4, 6: 0.9}, "unit": "pJ", "source": "ours", "status": "assumed"}
    lab = {"name": "lab", "energy": table, "time": "1 ns", "area": "500 um2", "node": "28 nm"}
    described = load_chip(write(tmp_path, {"converter": lab, "geometry": {"rows": rows}}))
    assert described.cells.adc_bits == bits
    layer = LayerShape("fc", rows=rows, columns=8, positions=1, binary=True, inputs=rows)
    assert described.chip.layer_adc(layer).bits == described.cells.adc_bits


def test_junctions_by_name_by_device_file_and_by_chip_file(tmp_path):
    chip = write(tmp_path, LAB)
    device = write(tmp_path, {"mine": {"like": "sot_80nm", **LAB["device"]}}, "device.yaml")
    assert find_junction(str(chip)).fingerprint == find_junction(str(device)).fingerprint
    for content in ({"like": "device.yaml"}, {"device": "device.yaml:mine"}, {"device": {"like": "device.yaml"}}):
        assert (
            load_chip(write(tmp_path, content, "c.yaml")).device.fingerprint == find_junction(str(device)).fingerprint
        )
    # paths are those of the file that says them
    (tmp_path / "below").mkdir()
    below = load_chip(write(tmp_path, {"like": "../c.yaml", "device": {"slope": "38 /V"}}, "below/d.yaml"))
    assert below.device.fingerprint == find_junction(str(device)).fingerprint
    # an entry of one of our names changes that device, as in any device file
    changed = write(tmp_path, {"sot_80nm": LAB["device"]}, "ours.yaml")
    assert load_chip(changed).device.fingerprint == find_junction(str(changed)).fingerprint
    assert find_junction(str(changed)).fingerprint == find_junction(str(device)).fingerprint
    assert load_chip(device).device.fingerprint == find_junction(str(device)).fingerprint
    assert find_junction("sot_80nm").fingerprint == load_chip("sot_80nm").device.fingerprint


def test_a_file_can_say_everything_that_a_chip_has():
    owners = {"cells": Imperfections, "crossbar": Crossbar, "chip": Chip}
    said = {part: {f.key for section in FIELDS.values() for f in section.values() if f.part == part} for part in owners}
    known = {part: {field.name for field in fields(owner)} for part, owner in owners.items()}
    assert said["crossbar"] == known["crossbar"]
    # resistance, TMR and bits come from what they are for the energy
    assert said["cells"] == known["cells"] - {"adc_bits", "tmr", "resistance_p_kohm"}
    assert said["chip"] == known["chip"] - {"crossbar", "adc", "junction", "components"}
    of_cells = {f.key for f in FIELDS["cell"].values() if f.part == "constant"}
    assert of_cells == {name for name in components().constants if name.startswith("cell_")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"devise": {}}, "unknown section 'devise'; did you mean 'device'"),
        ({"device": "sot80"}, "did you mean 'sot_80nm'"),
        ({"device": {"threshold": "0.9 volts"}}, "device: threshold: unknown unit 'volts'"),
        ({"device": {"threshold": "0.9 pJ"}}, r"device: threshold must be in V \(or mV, uV\), not in pJ"),
        ({"device": {"treshold": "0.9 V"}}, "did you mean 'threshold'"),
        ({"device": {"tmr": 0}}, "tmr of a device must be finite and above 0"),
        ({"cell": {"stuck_p": [1]}}, "cell: stuck_p must be a number"),
        ({"cell": {"resistance": "5 kOhm"}}, "cell: unknown field 'resistance'; did you mean 'resistance_p'"),
        ({"cell": {"conductance_cv": "5 mV"}}, r"cell: conductance_cv must be in 1 \(or %\), not in mV"),
        ({"cell": {"area": "1 um2", "node": "28 nm"}}, "area or node"),
        ({"cell": {"stuck_p": "150 %"}}, "stuck_p"),
        ({"cell": {"real_reference": "yes please"}}, "true or false"),
        ({"cell": [1]}, "cell must map names to values"),
        ({"wires": {"per_cell": 1}}, r"wires: per_cell needs its unit, Ohm"),
        ({"wires": {"per_cell": "1 Ohm", "per_device": "1 Ohm"}}, "not as both"),
        ({"converter": {"name": "sar"}}, "unknown converter 'sar'"),
        ({"converter": {"energy": "1 pJ"}}, "it lacks name, time, area, node"),
        ({"converter": {"enegy": "1 pJ"}}, "did you mean 'energy'"),
        ({"converter": {"bits": 0}}, "converter: bits must be a whole number, at least 1"),
        ({"converter": {"name": "mnsim", "bits": 2}}, "mnsim"),
        ({"geometry": {"rows": 256}}, "comes in up to 8 bits"),
        (
            {"converter": {"name": "lab", "energy": "1 pJ", "time": "1 ns", "area": "1 um2", "node": 28}},
            "28.0 is a mere",
        ),
        ({"cell": {"tmr": 3}, "constants": {"cell_tmr": 2}}, "cell_tmr of constants is also given by cell"),
        ({"geometry": {"rows": 12.5}}, "geometry: rows must be a whole number"),
        ({"geometry": {"mapping": "rolled"}}, "geometry: mapping must be one of unrolled, kernel_split"),
        ({"arithmetic": {"scale": "foldet"}}, "arithmetic: scale must be one of folded, multiplied"),
        ({"constants": {"adder_enrgy": "1 pJ"}}, "did you mean 'adder_energy'"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(PresetError, match=message) as error:
        load_chip(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"cell: [", b"- 1\n- 2\n", b"", b"[" * 5000])
def test_what_is_no_yaml_is_named(tmp_path, content):
    path = tmp_path / "lab.yaml"
    path.write_bytes(content)
    with pytest.raises(PresetError, match=re.escape(str(path))):
        load_chip(path)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(PresetError, match=r"folder\.yaml"):
        load_chip(tmp_path / "folder.yaml")


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(PresetError, match="scaledrop chip new"):
        load_chip(tmp_path / "lab.yaml")
