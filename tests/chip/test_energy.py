"""Energy of networks: whose masks are counted, what a key means, and Table VIII's records."""

import fnmatch
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardware.chip import Chip
from hardware.chip_file import load_chip
from hardware.energy import network_energy
from hardware.mapping import Crossbar
from hardware.passes import passes_of
from hardware.presets import components, published
from hardware.workload import LayerShape, trace_workload
from lit_scaledrop.__main__ import main
from lit_scaledrop.chip.energies import energy_count, energy_id
from lit_scaledrop.chip.energy import EXECUTIONS, energy_metrics, estimate_energy, image_shape, keep_masks
from lit_scaledrop.chip.figure import draw_energy
from lit_scaledrop.evaluation.probes.chip import parts as crossbar_parts
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.networks import NETWORKS, build_network
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.report.energies import UNITS_NJ
from lit_scaledrop.report.table import published as published_table
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.units import in_unit

MULTIPLIED = Chip(scale="multiplied")


def lenet5(method="proposed", width=1.0):
    torch.manual_seed(0)
    return build_network("lenet5", METHODS[method], in_channels=1, width=width)


def plan_of(network, passes=10, seed=0):
    return PosteriorPredictive(network, passes, seed).plans[0]


def test_masks_of_a_plan_are_those_of_the_prediction():
    network = lenet5()
    plan = plan_of(network, seed=3)
    estimate = estimate_energy(network, (1, 32, 32), chip=MULTIPLIED, plan=plan)
    kept = {name: float(mask.sum()) for name, mask in keep_masks(network, plan).items()}
    # a scale that is dropped is not multiplied
    scaled = {
        layer.behind: use.scaled for layer, use in zip(estimate.layers, estimate.uses, strict=True) if layer.behind
    }
    assert scaled == pytest.approx(kept)
    assert 0 < sum(kept.values()) < 30
    other = estimate_energy(network, (1, 32, 32), chip=MULTIPLIED, plan=plan_of(network, seed=4)).report()
    assert other.energy_pj != estimate.report().energy_pj


@pytest.mark.parametrize("execution", ["loop", "prefix"])
def test_expectation_over_plans(execution):
    """Mean and deviation of drawn plans are those of the closed form, within their errors."""
    network = lenet5()
    expected = estimate_energy(network, (1, 32, 32), 10, MULTIPLIED, execution).report()
    layers = trace_workload(network, (1, 32, 32))
    masks = [keep_masks(network, plan_of(network, seed=seed)) for seed in range(200)]
    drawn = [network_energy(layers, passes_of(layers, 10, mask, execution), MULTIPLIED).energy_pj for mask in masks]
    energies = torch.tensor(drawn, dtype=torch.float64)
    assert float(energies.mean()) == pytest.approx(expected.energy_pj, abs=4 * expected.deviation_pj / 200**0.5)
    assert float(energies.std()) == pytest.approx(expected.deviation_pj, rel=0.15)


def test_a_network_that_draws_nothing_makes_one_pass():
    for execution in EXECUTIONS:
        estimate = estimate_energy(lenet5("irnet"), (1, 32, 32), 10, execution=execution)
        assert {use.evaluations for use in estimate.uses} == {1} == {estimate.passes}


def test_changes_of_the_chip_and_the_band():
    estimate = estimate_energy(lenet5(), (1, 32, 32), chip=Chip(adc="mnsim"))
    band = estimate.band()
    assert len(band) == 3 * len(components().converters)
    assert band["digital", "mnsim"].energy_pj == estimate.report().energy_pj
    assert band["digital", "isaac"].energy_pj == estimate.report(adc="isaac").energy_pj < estimate.report().energy_pj
    # a crossbar of 256 rows needs 9 bits, which NeuroSim's formula has and ISAAC's table has not
    large = estimate_energy(build_network("vgg_small", METHODS["proposed"], width=0.25), (3, 32, 32))
    large = replace(large, chip=Chip(Crossbar(256), "neurosim"))
    assert {adc for _, adc in large.band()} == {"neurosim"}
    wide = estimate_energy(lenet5(), (1, 32, 32), chip=Chip(Crossbar(128), "murmann"))
    assert {adc for _, adc in replace(wide, chip=replace(wide.chip, adc_bits=3)).band()} == {"neurosim", "murmann"}


def test_operations_a_watt_and_the_conversion_that_meets_an_energy():
    estimate = estimate_energy(lenet5(), (1, 32, 32))
    report = estimate.report()
    assert estimate.tera_operations_a_watt(report) == pytest.approx(2 * 10 * 416_520 / report.energy_pj)
    each = estimate.conversion_for(report.energy_pj, report)
    adc = next(entry for entry in report.by_component() if entry.component == "ADC")
    assert each == pytest.approx(adc.energy_pj / adc.operations)
    assert estimate.conversion_for(report.energy_pj + 1e-3 * adc.operations, report) == pytest.approx(each + 1e-3)
    assert estimate.conversion_for(1.0, report) is None


def test_sources_one_at_a_time():
    estimate = estimate_energy(build_network("resnet20", METHODS["proposed"], width=0.25), (3, 32, 32))
    own = estimate.report()
    found = {(one.question, one.source): one.energy_pj for one in estimate.tornado()}
    parts = {e.component: e for e in own.by_component()}
    multiplied = parts["affine multiplier"].energy_pj
    assert found["multiplier", "horowitz"] == pytest.approx(own.energy_pj - multiplied * (1 - 3.1 / 12.68))
    macs = parts["digital MAC"].operations
    assert found["digital MAC", "aladdin"] == pytest.approx(own.energy_pj + macs * (1.0025 - 0.3))
    assert found["converter", "survey"] == estimate.report(adc="survey").energy_pj
    assert not {("converter", "mnsim"), ("converter", "murmann")} & found.keys()
    assert found["skip", "8 bits"] == estimate.report(skip_bits=8).energy_pj < own.energy_pj
    low, high = estimate.extremes(estimate.tornado())
    assert low < min(found.values()) < own.energy_pj < max(found.values()) < high


def test_the_network_and_the_random_stream_stay_as_they_are():
    model = LitClassifier("lenet5", in_channels=1, compile_network=True).train()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in model.network.state_dict().items()}
    for execution in EXECUTIONS:  # a compiled network is traced as it is written
        estimate_energy(model.network, (1, 32, 32), execution=execution)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, state[k]) for k, v in model.network.state_dict().items())
    assert all(module.training for module in model.network.modules())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("real", ["digital", "binary"])
def test_every_key_is_in_the_glossary_and_parts_add_up(network, real):
    shape = image_shape(network)
    net = build_network(network, METHODS["proposed"], in_channels=shape[0], width=0.25)
    for execution, scale in itertools.product(EXECUTIONS, ("folded", "multiplied")):
        chip = Chip(scale=scale, real_layers=real)
        report = estimate_energy(net, shape, 10, chip, execution).report()
        metrics = energy_metrics(report)
        assert metrics.keys() <= METRICS.keys()
        parts = [value for name, value in metrics.items() if name.startswith("hw/energy_nj/")]
        assert sum(parts) == pytest.approx(metrics["hw/energy_nj"]) == pytest.approx(report.energy_pj / 1e3)


def test_published_numbers_are_named_alike():
    table = published_table("table8.csv").set_index(["work", "topology"])
    for network, work, topology in (
        ("lenet5", "Scale-Dropout (MNIST)", "LeNet-5"),
        ("vgg_small", "Scale-Dropout (CIFAR-10)", "VGG-small"),
    ):
        row, constant = table.loc[work, topology], published()[network]
        assert (row.energy, row.unit) == (constant.value, constant.unit)
    # the reading of the lost unit: 604 million binary multiply-accumulates, ten passes
    assert 0.29 * UNITS_NJ["mJ"] * 1e6 / (10 * 604e6) == pytest.approx(48, abs=0.5)
    assert 0.18 * UNITS_NJ["uJ"] * 1e6 / (10 * 416_520) == pytest.approx(43, abs=0.5)


def test_picture_leaves_matplotlib_alone():
    plt = pytest.importorskip("matplotlib.pyplot")
    network = lenet5()
    figure = draw_energy(estimate_energy(network, (1, 32, 32)).report(), "LeNet-5")
    assert plt.get_fignums() == []
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert any(label.startswith("digital MAC (") for label in labels)


# --- Table VIII's records ---


def test_records_hold_what_the_estimate_says():
    parts = components()
    count = energy_count("lenet5", "proposed", Chip(components=parts))
    result = count.result("cpu", ["--table", "table8"], ("c" * 40, False))
    assert (result.study, result.id, result.data, result.training) == ("table8", count.id, {}, {})
    assert result.metrics["macs"] == 416_520
    for execution, scale in (("loop", "folded"), ("prefix", "multiplied"), ("shared", "folded")):
        report = estimate_energy(lenet5(), (1, 32, 32), 10, Chip(scale=scale), execution).report()
        where = {"execution": execution, "scale": scale, "real_layers": "digital"}
        found = result.at(**where, adc="isaac")
        assert found["hw/energy_nj"] == pytest.approx(report.energy_pj / 1e3)
        assert found["energy_std_nj"] == pytest.approx(report.deviation_pj / 1e3)
        adc = next(entry for entry in report.by_component() if entry.component == "ADC")
        assert result.at(**where, component="adc") == pytest.approx(
            {"hw/energy_nj": adc.energy_pj / 1e3, "operations": adc.operations}
        )
    as_binary = result.at(execution="loop", scale="folded", real_layers="binary", component="adc")
    assert as_binary["operations"] == 10 * (4704 + 3200 + 480 + 84 + 10)


def test_other_numbers_are_another_record():
    parts = components()
    base = energy_id("lenet5", "proposed", parts)
    constants = parts.constants
    changed = {**constants, "adder_energy": replace(constants["adder_energy"], value=99.0)}
    assert energy_id("lenet5", "proposed", replace(parts, constants=changed)) != base
    isaac = parts.converters["isaac"]
    dear = {**isaac.constants, "time": replace(isaac.constants["time"], value=2.0)}
    converters = {**parts.converters, "isaac": replace(isaac, constants=dear)}
    assert energy_id("lenet5", "proposed", replace(parts, converters=converters)) != base
    # a source is words
    renamed = {**constants, "adder_energy": replace(constants["adder_energy"], source="another page")}
    assert energy_id("lenet5", "proposed", replace(parts, constants=renamed)) == base
    assert energy_id("lenet5", "spindrop", parts) != base


def test_the_command_records_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["cost", "--table", "table8", "--network", "lenet5", "--method", "proposed", "spindrop"]
    assert main(words) == 0
    assert len(list(tmp_path.glob("results/quick/table8/*.json"))) == 2
    assert "an image takes loop" in capsys.readouterr().out
    assert main(words) == 0
    assert capsys.readouterr().out.count("finished already") == 2
    assert main(["cost", "--table", "table8", "--network", "unet"]) == 1
    assert "unknown network 'unet'" in capsys.readouterr().err


# --- docs/hardware.md ---

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "hardware.md").read_text()


def test_code_of_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recovery, alone, callback = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(recovery, {})
    names: dict[str, object] = {}
    exec(alone, names)
    report = names["report"]
    assert {entry.component for entry in report.by_component()} >= {"digital MAC", "ADC", "comparator"}
    exec(callback, {})


def test_constants_of_the_document_are_a_preset(tmp_path):
    described, text = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    committed = load_chip(DOCS / "chip.yaml")
    (tmp_path / "chip.yaml").write_text(described)
    (tmp_path / "junction.yaml").write_text((DOCS / "junction.yaml").read_text())
    assert load_chip(tmp_path / "chip.yaml").fingerprint == committed.fingerprint
    page = json.loads((DOCS / "chip.json").read_text())
    assert page["chip"]["fingerprint"] == committed.fingerprint
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    parts = components(path)
    assert parts.number("module_power", "mW") == 0.01
    assert Chip(adc="lab", adc_bits=8, components=parts).converter.at(8, 1.0, 0.25).energy_pj == 0.9


def test_what_the_document_says_holds():
    """Energies of a conversion in its table, and LeNet-5's and VGG-small's by execution."""
    for name, text in (("murmann", "0.048 pJ"), ("isaac", "1.67 pJ"), ("survey", "2.17 pJ"), ("mnsim", "15.6 pJ")):
        assert components().converter(name).at(8, 1e9, 0.25).energy_pj == pytest.approx(float(text.split()[0]))
        assert f"| {text}" in DOCUMENT
    assert Chip(adc="neurosim").layer_adc(LayerShape("a", 128, 1, 1, True, 128)).energy_pj == pytest.approx(
        0.349, abs=5e-4
    )
    assert "| 0.349 pJ" in DOCUMENT
    for network in ("lenet5", "vgg_small"):
        shape = image_shape(network)
        net = build_network(network, METHODS["proposed"], in_channels=shape[0])
        cells = [in_unit(estimate_energy(net, shape, execution=how).report().energy_pj) for how in EXECUTIONS]
        assert f"| {' | '.join(cells)} |" in DOCUMENT, cells


def test_effects_of_the_document_are_those_that_were_measured():
    parts = json.loads((DOCS / "chip_effects.json").read_text())["parts"]
    patterns = re.findall(r"--parts '(.+?)'", DOCUMENT)[0].split(",")
    subject = object.__new__(Subject)
    subject.evaluation = Evaluation()
    known = crossbar_parts(subject)
    assert {name for name in known if any(fnmatch.fnmatchcase(name, one) for one in patterns)} == parts.keys()
    assert f"or all {len(known)}\n" in DOCUMENT
    rows = {
        "digital, ideal crossbar": ("digital", "ideal"),
        "4, 3 bits": ("adc/4", "adc/3"),
        "wires of 1, 3, 10 ohm per cell": ("wire/1", "wire/3", "wire/10"),
        "conductances 10 % and reference column, one chip: before, after recovery": (
            "reference/0.1/1",
            "recovered/0.1/1",
        ),
        "conductances 20 % and reference column, one chip: before, after recovery": (
            "reference/0.2/1",
            "recovered/0.2/1",
        ),
        "all combined (6 bits), one chip: before, after recovery": ("combined/1", "combined_recovered/1"),
    }
    for row, names in rows.items():
        cells = [[f"{100 * parts[name][key]:.1f}" for name in names] for key in ("cls/acc", "hw/same_class")]
        accuracy, same = (", ".join(text.replace("100.0", "100") for text in column) for column in cells)
        assert f"| {row} | {accuracy} | {same} |" in DOCUMENT
