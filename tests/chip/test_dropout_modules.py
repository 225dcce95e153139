"""`scaledrop cost`: counts that equal the bits which the methods draw, its record, and what it refuses."""

from pathlib import Path

import pytest

from hardware.presets import components
from lit_scaledrop.__main__ import main
from lit_scaledrop.chip import dropout_modules
from lit_scaledrop.chip.dropout_modules import SCHEMES, TOPOLOGIES, build, cost_measurements, count_modules, schemes_of
from lit_scaledrop.chip.energy import image_shape
from lit_scaledrop.cli.cost import planned_cost
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.results.measurement import flat_names
from lit_scaledrop.results.store import read_result

LENET = ["cost", "--network", "lenet5"]
OVERRIDE = "module_power: {value: 1.0, unit: mW, source: a made-up module, status: assumed}\n"


@pytest.mark.parametrize(("network", "scheme"), [(name, scheme) for name in TOPOLOGIES for scheme in schemes_of(name)])
def test_counts_are_the_bits_that_are_drawn(network, scheme, monkeypatch):
    """At full width, with draws really made; smaller images for segmentation, whose counts would take long."""
    channels, size, _ = image_shape(network)
    monkeypatch.setattr(dropout_modules, "image_shape", lambda _: (channels, min(size, 32), min(size, 32)))
    nets = []
    monkeypatch.setattr(dropout_modules, "build", lambda *what: nets.append(build(*what)) or nets[-1])
    counts, (net,) = count_modules(network, scheme), nets
    drawn = [layer.draw(1)[0].numel() for layer in stochastic_layers(net).values()]
    if schemes_of(network)[scheme].convention:
        # another's count: fewer modules, re-used from pixel to pixel
        drawn = [count.draws for count in counts]
    assert sorted(count.draws for count in counts) == sorted(drawn)
    measured = cost_measurements(counts, components())
    cost = flat_names(measured)
    assert cost["draws"] == cost["separate/modules"] == sum(drawn)
    assert cost["reused/modules"] == max(drawn)
    for key in ("modules", "area_um2", "power_mw"):
        layerwise = [one.metrics[key] for one in measured if "layer" in one.at]
        assert sum(layerwise) == pytest.approx(cost[f"separate/{key}"])
        assert max(layerwise) == pytest.approx(cost[f"reused/{key}"])
    if scheme == "scale_dropout":
        assert (cost["reused/modules"], cost["reused/power_mw"]) == (1, 0.0225)  # the paper's one module


def test_a_network_whose_bits_are_not_those_of_the_shapes_is_refused(monkeypatch):
    monkeypatch.setitem(SCHEMES, "scale_dropout", dropout_modules.Dropout("spindrop"))
    with pytest.raises(ValueError, match="its layers draw"):
        count_modules("lenet5", "scale_dropout")


def test_results_are_recorded_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*LENET, "--profile", "cpu"]) == 0
    paths = sorted(Path("results/cpu/table7").glob("*.json"))
    assert len(paths) == len(SCHEMES)
    assert capsys.readouterr().err == ""
    for path in paths:
        result = read_result(path)
        assert (result.network, result.study, result.data, result.training) == ("lenet5", "table7", {}, {})
        assert result.config["constants"]["module_power"]["status"] == "paper"
    written = {path: path.stat().st_mtime_ns for path in paths}
    assert main([*LENET, "--profile", "cpu"]) == 0
    assert capsys.readouterr().out.count("finished already") == len(SCHEMES)
    assert {path: path.stat().st_mtime_ns for path in paths} == written
    one = planned_cost(["--network=lenet5", "--scheme=spindrop", "--profile=cpu"])
    assert read_result(one).label == "SpinDrop"
    elements = planned_cost(["--network=lenet5", "--scheme=scale_dropout_element", "--profile=cpu"])
    assert read_result(elements).label == "Proposed, element-wise"


def test_constants_of_ones_own_are_another_result(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text(OVERRIDE)
    point = ["--network=lenet5", "--scheme=scale_dropout", f"--run.results={tmp_path}"]
    mine = planned_cost([*point, f"--preset={preset}"])
    assert mine != planned_cost(point)
    assert main(["cost", *point, f"--preset={preset}"]) == 0
    result = read_result(mine)
    assert result.at(condition="reused")["power_mw"] == 1.0
    assert str(tmp_path) not in result.provenance["command"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--network", "lenet"], "did you mean 'lenet5'"),
        (["--scheme", "spin_drop"], "did you mean 'spindrop'"),
        (["--network", "unet", "--scheme", "dropconnect"], "unet has scale_dropout,"),
    ],
)
def test_unknown_names(flags, message, capsys):
    assert main(["cost", *flags]) == 1
    assert message in capsys.readouterr().err


def test_a_point_of_a_sweep_is_one_result():
    with pytest.raises(ValueError, match="one --network and one --scheme"):
        planned_cost(["--network", "lenet5", "resnet20", "--scheme", "spindrop"])
