"""Devices by name, from a user's file, and what is wrong with one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from hardware.constants import PresetError
from hardware.devices import DEVICE_UNITS, devices, find_device, load_device
from hardware.drop_probability import DeviceProbability
from hardware.mtj import NeelBrown, Sigmoid, Table


def constant(value, unit):
    return {"value": value, "unit": unit, "source": "mine", "status": "assumed"}


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


ACTIVATED = {"law": "neel_brown", "delta": constant(60.0, "1"), "critical_voltage": constant(0.5, "V"),
             "tau0": constant(1.0, "ns")}  # fmt: skip


def test_ours():
    for name, entry in devices().items():
        device, variation = load_device(name)
        assert entry.constants.keys() == DEVICE_UNITS[entry.law].keys()
        assert 0 < device.voltage(0.5) < device.max_voltage_v
        assert variation.threshold_cv > 0
    # 40.82 uA through 9 kOhm, times 1.03
    assert load_device("stt_nvsim")[0].law.threshold_v == pytest.approx(1.03 * 40.82e-6 * 9e3, rel=0.002)
    assert find_device("sot_80nm").fingerprint != find_device("sot_80nm_wide").fingerprint


@pytest.mark.parametrize(
    ("name", "threshold_cv", "spreads"),
    [
        ("sot_80nm", 0.0224, {0.1: (0.13, 0.10), 0.2: (0.23, 0.14), 0.5: (0.50, 0.19)}),
        ("sot_80nm_matched", 0.0031, {0.1: (0.10, 0.02), 0.2: (0.20, 0.03), 0.5: (0.50, 0.03)}),
        ("sot_80nm_wide", 0.0635, {0.1: (0.24, 0.29), 0.2: (0.34, 0.32), 0.5: (0.51, 0.35)}),
    ],
)
def test_mean_and_spread_of_p(name, threshold_cv, spreads):
    """The numbers of docs/variation.md."""
    device, variation = load_device(name)
    assert variation.threshold_cv == threshold_cv
    for p, (mean, deviation) in spreads.items():
        wanted = torch.full((200_000,), p)
        got = DeviceProbability(device, variation).probability(wanted, torch.Generator().manual_seed(0))
        assert got.mean().item() == pytest.approx(mean, abs=0.006)
        assert got.std().item() == pytest.approx(deviation, abs=0.006)
    text = (Path(__file__).parents[2] / "docs" / "variation.md").read_text()
    shown = ", ".join(f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in spreads.values())
    assert shown.replace(", ", " | ") in text


def test_pooled_spread_of_the_sources_two_devices():
    """Standard deviation of a pair is its difference over the root of 2; both directions pooled by mean square."""
    relative = [(a - b) / (a + b) * 2 for a, b in ((0.900, 0.904), (0.917, 0.877))]
    pooled = (sum(r**2 / 2 for r in relative) / 2) ** 0.5
    assert find_device("sot_80nm").constants["threshold_cv"].value == pytest.approx(pooled, rel=0.01)
    assert find_device("sot_80nm_matched").constants["threshold_cv"].value == pytest.approx(
        abs(relative[0]) / 2**0.5, rel=0.02
    )


def test_a_file_changes_adds_and_likens(tmp_path):
    content = {
        "sot_80nm": {"threshold": constant(0.95, "V")},
        "a": {"like": "sot_80nm", "slope": constant(60.0, "/V")},
        "b": {"like": "a", **ACTIVATED},
        "c": {
            "like": "sot_80nm",
            "law": "table",
            "probability_at_mv": constant({800: 0.0, 900: 0.5, 1000: 1.0}, "1"),
        },
    }
    path = write(tmp_path, content)
    ours = load_device("sot_80nm")[0]
    assert load_device("sot_80nm", path)[0].law == replace(ours.law, threshold_v=0.95)
    a, b, c = (load_device(f"{path}:{name}")[0] for name in "abc")
    # `like` takes what the file says of ours
    assert a.law == Sigmoid(0.95, 60.0, 0.75)
    assert b.law == NeelBrown(60.0, 0.5, 1.0)
    assert b.tmr == ours.tmr
    assert c.law == Table((0.8, 0.9, 1.0), (0.0, 0.5, 1.0), 0.75)
    assert load_device("sot_80nm")[0] == ours


def test_a_file_of_one_device_needs_no_name(tmp_path):
    path = write(tmp_path, {"mine": {"like": "sot_80nm", "threshold": constant(0.9, "V")}})
    assert load_device(str(path)) == load_device(f"{path}:mine")
    assert find_device(str(path)).name == "mine"
    plain = write(tmp_path, {"mine": {"like": "sot_80nm", "threshold": "900 mV"}})
    assert load_device(str(plain))[0].law == Sigmoid(0.9, 44.6, 0.75)
    # numbers are what a device is, not its name, its file or its sources
    again = write(tmp_path, {"other": {"like": "sot_80nm", "threshold": {**constant(0.9, "V"), "source": "again"}}})
    assert find_device(str(again)).fingerprint == find_device(f"{again}:other").fingerprint
    changed = write(tmp_path, {"mine": {"like": "sot_80nm", "threshold": constant(0.91, "V")}})
    assert find_device(str(changed)).fingerprint != find_device("sot_80nm").fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"b": {"threshold": constant(0.9, "V")}}, r"lab.yaml: b has law '': say `law: NAME`, one of neel_brown"),
        ({"b": ACTIVATED}, r"lacks anisotropy_exponent, .*`like: sot_80nm`"),
        ({"b": {"law": "sigmod"}}, "has law 'sigmod': .*sigmoid"),
        ({"b": {"like": "sot80nm"}}, "did you mean 'sot_80nm'"),
        ({"b": {"like": "c"}, "c": {"like": "b"}}, "b is like c is like b: one of them must stand alone"),
        ({"b": {"like": "sot_80nm", "delta": constant(60, "1")}}, r"unknown constant 'delta'.* \(law sigmoid\)"),
        ({"sot_80nm": {"threshold": constant(0.9, "ns")}}, r"must be in V \(or mV, uV\), not in ns"),
        ({"sot_80nm": {"threshold": 0.9}}, r"sot_80nm: threshold needs its unit, V"),
        ({"sot_80nm": {"thresold": constant(0.9, "V")}}, "did you mean 'threshold'"),
        ({"sot_80nm": {"threshold": constant(0, "V")}}, "threshold_v of a device must be finite and above 0"),
        ({"sot_80nm": [1]}, "must map names to constants"),
        ({"b": {"like": "sot_80nm", "law": "table", "probability_at_mv": constant(0.5, "1")}}, "for each voltage"),
        ({"b": {"like": "sot_80nm", "law": "table", "probability_at_mv": constant({8: 0.5, 9: 0.1}, "1")}}, "never"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(tmp_path, content, message):
    with pytest.raises(PresetError, match=message):
        devices(write(tmp_path, content))


def test_names_that_nothing_has(tmp_path):
    with pytest.raises(PresetError, match=r"did you mean 'sot_80nm'\? A device of your own: FILE.yaml"):
        load_device("sot80nm")
    with pytest.raises(PresetError, match="there is no device file"):
        load_device("nowhere.yaml:a")
    two = {name: {"like": "sot_80nm"} for name in "ab"}
    with pytest.raises(PresetError, match=r"has 2 devices: say which, .*lab.yaml:a"):
        load_device(str(write(tmp_path, two)))
    with pytest.raises(PresetError, match="unknown device 'c'"):
        load_device(f"{tmp_path}/lab.yaml:c")
