"""Energy of networks: whose masks are counted, what a key means, and Table VIII's probe."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from hardware.adc import ADC_MODELS, build_adc
from hardware.constants import FOLDER
from hardware.energy import Chip
from hardware.presets import components, published
from lit_scaledrop.__main__ import main
from lit_scaledrop.chip.energy import REAL_LAYERS, energy_metrics, estimate_energy, image_shape, keep_masks, slug
from lit_scaledrop.chip.figure import draw_energy
from lit_scaledrop.cli.assess import plan_assessment
from lit_scaledrop.evaluation.probes import PROBES, Subject
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.networks import NETWORKS, build_network
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.report.energies import CONSTANTS, UNITS_NJ
from lit_scaledrop.report.table import published as published_table
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.measurement import flat_names
from lit_scaledrop.results.result import read_result


def lenet5(method="proposed", width=1.0):
    torch.manual_seed(0)
    return build_network("lenet5", METHODS[method], in_channels=1, width=width)


def plan_of(network, passes=10, seed=0):
    return PosteriorPredictive(network, passes, seed).plans[0]


def test_masks_are_those_of_the_prediction():
    network = lenet5()
    plan = plan_of(network, seed=3)
    estimate = estimate_energy(network, (1, 32, 32), plan)
    kept = {name: float(mask.sum()) for name, mask in keep_masks(network, plan).items()}
    # a scale that is dropped is not multiplied
    scaled = {
        layer.behind: use.scaled for layer, use in zip(estimate.layers, estimate.uses, strict=True) if layer.behind
    }
    assert scaled == kept
    assert 0 < sum(kept.values()) < 30
    other = estimate_energy(network, (1, 32, 32), plan_of(network, seed=4)).report()
    assert other.energy_pj != estimate.report().energy_pj


def test_a_network_that_draws_nothing_makes_one_pass():
    network = lenet5("irnet")
    estimate = estimate_energy(network, (1, 32, 32), plan_of(network, 10))
    assert {use.evaluations for use in estimate.uses} == {1}


def test_changes_of_the_chip_and_the_band():
    network = lenet5()
    estimate = estimate_energy(network, (1, 32, 32), plan_of(network), Chip(adc="mnsim"))
    band = estimate.band()
    assert len(band) == 12
    assert band["digital", "mnsim"].energy_pj == estimate.report().energy_pj
    assert band["digital", "isaac"].energy_pj == estimate.report(adc="isaac").energy_pj < estimate.report().energy_pj


def test_the_network_and_the_random_stream_stay_as_they_are():
    model = LitClassifier("lenet5", in_channels=1, compile_network=True).train()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in model.network.state_dict().items()}
    estimate_energy(model.network, (1, 32, 32), plan_of(model.network))  # a compiled network is traced as it is written
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, state[k]) for k, v in model.network.state_dict().items())
    assert all(module.training for module in model.network.modules())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("real", ["digital", "binary"])
def test_every_key_is_in_the_glossary_and_parts_add_up(network, real):
    shape = image_shape(network)
    net = build_network(network, METHODS["proposed"], in_channels=shape[0], width=0.25)
    for execution in ("loop", "shared"):
        report = estimate_energy(net, shape, plan_of(net), Chip(real_layers=real), execution=execution).report()
        metrics = energy_metrics(report)
        assert metrics.keys() <= METRICS.keys()
        parts = [value for name, value in metrics.items() if name.startswith("hw/energy_nj/")]
        assert sum(parts) == pytest.approx(metrics["hw/energy_nj"]) == pytest.approx(report.energy_pj / 1e3)
        assert {slug(entry.component) for entry in report.by_component()} <= CONSTANTS.keys()


def test_constants_and_published_numbers_are_named_alike():
    assert set(CONSTANTS.values()) <= components().constants.keys()
    for key in METRICS:
        if key.startswith("hw/energy_nj/"):
            assert key.rpartition("/")[2] in CONSTANTS
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


def test_every_constant_has_a_source():
    for path in FOLDER.glob("*.yaml"):
        entries = yaml.safe_load(path.read_text())
        flat = [e for entry in entries.values() for e in ([entry] if "value" in entry else entry.values())]
        assert flat
        assert all(len(entry["source"]) > 8 for entry in flat), path.name


def test_picture_leaves_matplotlib_alone():
    plt = pytest.importorskip("matplotlib.pyplot")
    network = lenet5()
    figure = draw_energy(estimate_energy(network, (1, 32, 32), plan_of(network)).report(), "LeNet-5")
    assert plt.get_fignums() == []
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert any(label.startswith("digital MAC (") for label in labels)


# --- Table VIII's probe ---


def subject(width=0.5, in_channels=3, **changes):
    model = {"network": "lenet5", "method": "proposed", "width": width, "in_channels": in_channels}
    torch.manual_seed(0)
    return Subject(
        [LitClassifier(**model).network], None, **{"evaluation": Evaluation(samples=10), "model": model} | changes
    )


def energy(made, execution):
    return flat_names(PROBES["table8"].measure(made, {"execution": execution}))


def test_probe_measures_the_topology_at_full_width_with_the_masks_of_the_run():
    made = subject()
    metrics = energy(made, "loop")
    whole = lenet5()
    plan = made.posterior().plans[0]  # of the thin network: one bit a layer
    report = estimate_energy(whole, (1, 32, 32), plan).report()
    assert metrics["digital/isaac/hw/energy_nj"] == report.energy_pj / 1e3
    assert metrics["macs"] == 416_520
    converted = metrics["digital/isaac/adc/hw/energy_nj"] / metrics["digital/adc/operations"]
    assert converted * 1e3 == pytest.approx(1.67, rel=0.01)
    assert metrics["binary/adc/operations"] == 10 * (4704 + 3200 + 480 + 84 + 10)
    shared = energy(made, "shared")
    assert shared["digital/isaac/hw/energy_nj"] < metrics["digital/isaac/hw/energy_nj"]


def test_probe_follows_the_method_and_the_evaluation():
    made = subject()
    other = subject(evaluation=Evaluation(samples=5, seed=1))
    assert list(PROBES["table8"].parts(made)) == ["clean", "energy/loop", "energy/shared"]
    ten, five = (energy(one, "loop") for one in (made, other))
    assert five["digital/adc/operations"] * 2 == ten["digital/adc/operations"]
    never = subject(model=made.model | {"p": 1.0})
    dropped = energy(never, "loop")
    assert dropped["digital/scale_multiplier/operations"] == 0


def test_probe_refuses_ensembles_and_enumerations():
    made = subject()
    made.networks = made.networks * 2
    with pytest.raises(ValueError, match="ensemble of 2"):
        energy(made, "loop")
    exact = subject(evaluation=replace(made.evaluation, execution="exact"))
    with pytest.raises(ValueError, match="enumeration"):
        energy(exact, "loop")


def test_assess_records_accuracy_and_energy(place, finished):
    """Of the tiny run, half as wide as the topology."""
    shutil.copytree(finished, place, dirs_exist_ok=True)
    assert main(["assess", "--probe", "table8", "--config", "tiny.yaml", "--evaluation.samples=10"]) == 0
    (path,) = place.glob("results/quick/table8/*.json")
    result = read_result(path)
    network = lenet5()
    report = estimate_energy(network, (1, 32, 32), plan_of(network)).report()
    assert result.at(execution="loop", real_layers="digital", adc="isaac")["hw/energy_nj"] == pytest.approx(
        report.energy_pj / 1e3
    )
    assert 0 <= result.at(suite="clean")["cls/acc"] <= 1
    assert result.evaluation["samples"] == 10


@pytest.mark.parametrize(("profile", "data"), [("quick", "Digits"), ("cpu", "MNIST"), ("paper", "MNIST")])
def test_lenet5_is_trained_on_mnist_beside_table3(place, profile, data):
    plan = plan_assessment(["--probe=table8", "--profile", profile, "--row", "lenet5/proposed"]).plan
    assert plan.run.study == "lenet5"
    assert plan.config["data"]["class_path"] == f"datamodules.{data}DataModule"
    assert plan.build().model.hparams["in_channels"] == (1 if data == "MNIST" else 3)
    vgg = plan_assessment(["--probe=table8", "--profile", profile, "--row", "vgg_small/proposed"]).plan
    assert vgg.run.study == "table3"


# --- docs/hardware.md ---

DOCUMENT = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text()


def test_code_of_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone, callback = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, object] = {}
    exec(alone, names)
    report = names["report"]
    assert {entry.component for entry in report.by_component()} >= {"digital MAC", "ADC", "comparator"}
    exec(callback, {})


def test_constants_of_the_document_are_a_preset(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    preset = components(path)
    assert preset.number("module_power", "mW") == 0.01
    assert preset.at_bits("adc_isaac_energy", "pJ", 8) == 0.9


def test_what_the_document_says_of_converters_and_of_the_paper_holds():
    """Energies of a conversion in its table, and which bands hold the paper's number."""
    bits = {adc: build_adc(adc, 8, 1e9, components()).energy_pj for adc in ADC_MODELS}
    for name, text in (("murmann", "0.048 pJ"), ("isaac", "1.67 pJ"), ("mnsim", "15.6 pJ"), ("neurosim", "0.3 pJ")):
        assert bits[name] == pytest.approx(float(text.split()[0]), rel=0.05)
        assert f"| {text}" in DOCUMENT
    holds = {}
    for network, paper_nj in (("lenet5", 180.0), ("vgg_small", 290e3)):
        shape = image_shape(network)
        net = build_network(network, METHODS["proposed"], in_channels=shape[0])
        band = estimate_energy(net, shape, plan_of(net)).band()
        for real in REAL_LAYERS:
            energies = [report.energy_pj / 1e3 for (treated, _), report in band.items() if treated == real]
            holds[network, real] = min(energies) <= paper_nj <= max(energies)
        if network == "lenet5":
            parts = {entry.component: entry.energy_pj / 1e3 for entry in band["digital", "isaac"].by_component()}
            assert parts["digital MAC"] > paper_nj
    assert [pair for pair, held in holds.items() if not held] == [("lenet5", "digital")]
