"""A chip of one's own from the command line: from counted pulses to accuracy and energy, in a few commands."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

import datamodules
from hardware.chip_file import load_chip
from hardware.mapping import Crossbar
from hardware.network import crossbar_layers
from lit_scaledrop.__main__ import main
from lit_scaledrop.callbacks import CrossbarEnergy
from lit_scaledrop.chip.energy import estimate_energy
from lit_scaledrop.cli.assess import plan_assessment
from lit_scaledrop.cli.cost import planned_cost
from lit_scaledrop.cli.fit import plan_fit
from lit_scaledrop.evaluation.checkpoint import load_trained
from lit_scaledrop.evaluation.on_chip import chip_record, on_chip, variation_record
from lit_scaledrop.evaluation.probes import PROBES, Subject
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.plans import draw_plan
from lit_scaledrop.results.store import load_results, read_result
from lit_scaledrop.results.units import in_unit

IDEAL = """
device: {threshold_cv: 0, slope_cv: 0, resistance_cv: 0, tmr_cv: 0}
"""
MINE = """
cell: {conductance_cv: 5 %, stuck_p: 0.1 %, node: 28 nm}
wires: {per_cell: 0.5 Ohm}
converter: {name: lab, bits: 5, energy: 0.9 pJ, time: 1.2 ns, area: 500 um2, node: 28 nm, noise: 0.3}
geometry: {rows: 64, columns: 64}
"""


class RecordedCIFAR10(datamodules.CIFAR10DataModule):
    """The miniature one, with the sums that it was written with."""

    def __init__(self, root: str | None = None) -> None:
        super().__init__(root=root, checksums="recorded")


@pytest.fixture
def checkpoint(place, finished, monkeypatch) -> Path:
    monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", RecordedCIFAR10)
    (best,) = finished.glob("runs/quick/tiny/*/checkpoints/best*.ckpt")
    return best


def evaluated(checkpoint: Path, *flags: str) -> dict:
    assert main(["evaluate", str(checkpoint), "--data", "cifar10", "--device", "cpu", "--out", "out.json", *flags]) == 0
    return json.loads(Path("out.json").read_text())


def write_curve(path: Path) -> None:
    """46 settings of 100 pulses of two junctions around 0.894 and 0.902 V."""
    generator, lines = torch.Generator().manual_seed(0), ["device,voltage_v,pulse_ns,shots,switched"]
    for device, threshold in (("A", 0.894), ("B", 0.902)):
        for volt in torch.linspace(0.8, 1.0, 23).tolist():
            p = torch.sigmoid(torch.tensor(44.6 * (volt - threshold)))
            switched = int(torch.bernoulli(p.expand(100), generator=generator).sum())
            lines.append(f"{device},{volt:.4f},0.75,100,{switched}")
    path.write_text("\n".join(lines) + "\n")


def test_from_a_curve_to_accuracy_and_energy(place, checkpoint, capsys):
    write_curve(place / "curve.csv")
    assert main(["device", "fit", "curve.csv", "--output", "junction.yaml"]) == 0
    assert main(["chip", "new", "chip.yaml", "--like", "junction.yaml"]) == 0
    with open("chip.yaml", "a") as file:
        file.write(MINE)
    capsys.readouterr()
    assert main(["chip", "check", "chip.yaml"]) == 0
    said = capsys.readouterr().out
    described = load_chip("chip.yaml")
    assert described.fingerprint in said
    assert described.device.constants["threshold"].value == pytest.approx(0.898, abs=0.004)

    record = evaluated(checkpoint, "--chip", "chip.yaml", "--samples", "3")
    on_chip = {"file": "chip.yaml", "fingerprint": described.fingerprint, "number": 0}
    assert record["evaluation"]["on_chip"] == on_chip
    assert record["evaluation"]["variation"]["device"] == "chip.yaml"
    capsys.readouterr()
    trained = load_trained(checkpoint)
    name, method, width = (trained.hparams[key] for key in ("network", "method", "width"))
    counted = ["--method", method, "--width", str(width), "--in-channels", "3", "--passes", "3"]
    assert main(["energy", name, *counted, "--chip", "chip.yaml"]) == 0
    expected = estimate_energy(trained.network, (3, 32, 32), 3, described.chip).report().energy_pj
    shown = re.search(r"([\d.]+) (pJ|nJ|uJ|mJ) an image", capsys.readouterr().out)
    assert shown is not None
    size = {"pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9}[shown[2]]
    assert float(shown[1]) * size == pytest.approx(expected, rel=0.01)

    assert main(["chip", "report", "chip.yaml", str(checkpoint), "--data", "cifar10", "--samples", "3", "--chips", "2",
                 "--limit", "30", "--device", "cpu", "--out", "page.svg"]) == 0  # fmt: skip
    assert "accuracy" in capsys.readouterr().out
    assert (place / "page.svg").stat().st_size > 10_000
    page = json.loads((place / "page.json").read_text())
    assert page["chip"]["fingerprint"] == described.fingerprint
    assert page["images"] == 30
    assert len(page["on_chips"]) == 2
    # the energies are those of the command, by component
    assert sum(page["energy_pj"].values()) == pytest.approx(expected)


def test_an_ideal_chip_is_the_digital_network(place, checkpoint):
    Path("ideal.yaml").write_text(IDEAL)
    digital = evaluated(checkpoint, "--samples", "4")
    ideal = evaluated(checkpoint, "--samples", "4", "--chip", "ideal.yaml")
    assert ideal["metrics"] == digital["metrics"]
    assert "on_chip" not in digital["evaluation"]
    # the finished chip's own junction has another p, and its cells other sums
    Path("mine.yaml").write_text(MINE)
    one, other = (evaluated(checkpoint, "--samples", "4", "--chip", "mine.yaml", *flags) for flags in ((), ()))
    assert one["metrics"] == other["metrics"] != digital["metrics"]


def test_refusals_come_before_anything_is_computed(place, checkpoint, capsys):
    def told(*words: str) -> str:
        capsys.readouterr()
        assert main(list(words)) != 0
        return capsys.readouterr().err

    Path("bad.yaml").write_text("geometry: {rwos: 64}\n")
    data = ("--data", "cifar10", "--device", "cpu")
    assert "did you mean 'rows'" in told("chip", "check", "bad.yaml")
    assert "did you mean 'rows'" in told("evaluate", str(checkpoint), *data, "--chip", "bad.yaml")
    assert "did you mean 'rows'" in told("chip", "report", "bad.yaml", "resnet20-proposed", *data)
    assert "did you mean 'rows'" in told("energy", "lenet5", "--chip", "bad.yaml")
    assert "scaledrop chip new none.yaml" in told("energy", "lenet5", "--chip", "none.yaml")
    assert "exists already" in told("chip", "new", "bad.yaml")
    Path("weak.yaml").write_text("device: {max_voltage: 0.85 V}\n")
    weak = told("evaluate", str(checkpoint), *data, "--chip", "weak.yaml")
    assert "up to 0.85 V" in weak
    assert main(["chip", "check", "weak.yaml"]) == 0
    assert "up to 0.85 V" in capsys.readouterr().out
    Path("good.yaml").write_text(MINE)
    sigma = told("evaluate", str(checkpoint), *data, "--chip", "good.yaml", "--sigma", "0.1")
    assert "remove evaluation.sigma" in sigma
    assert "--chip or --preset" in told("energy", "lenet5", "--chip", "good.yaml", "--preset", "good.yaml")


def test_tables_and_callbacks_count_on_the_same_chip(place, checkpoint, capsys):
    Path("mine.yaml").write_text(MINE)
    Path("same.yaml").write_text(MINE)
    words = ["cost", "--table", "table8", "--network", "lenet5", "--method", "proposed", "--profile", "quick"]
    assert main([*words, "--chip", "mine.yaml"]) == 0
    (path,) = Path("results/quick/table8").glob("*.json")
    capsys.readouterr()
    assert main([*words, "--chip", "same.yaml"]) == 0  # by what it says, not by its name
    assert "finished already" in capsys.readouterr().out
    at = {"execution": "loop", "scale": "folded", "real_layers": "digital", "adc": "lab"}
    counted_nj = read_result(path).at(**at)["hw/energy_nj"]
    network = build_network("lenet5", METHODS["proposed"], in_channels=1)
    estimate = CrossbarEnergy(chip="mine.yaml").estimate(network, (1, 32, 32))
    assert estimate.report().energy_pj / 1e3 == pytest.approx(counted_nj)
    assert estimate.chip.adc == "lab"
    # what a flag says stands over what the file says
    assert CrossbarEnergy(chip="mine.yaml", rows=128).chip.crossbar == Crossbar(128, 64)
    here = str(place / "mine.yaml")
    plan = plan_fit(["--config", "tiny.yaml", "--chip", here])
    assert here in str(plan.config)
    assert str(place) not in json.dumps(plan.recorded(plan.build().data), default=str)
    fit = ["fit", "--config", "tiny.yaml"]
    ids = {plan_fit([*fit[1:], *more]).id for more in ([], ["--chip", "mine.yaml"], ["--chip=same.yaml"])}
    assert len(ids) == 2


NINE_BITS = """
converter: {name: lab, energy: 0.9 pJ, time: 1.2 ns, area: 500 um2, node: 28 nm}
geometry: {rows: 256}
"""


def test_a_report_of_a_chip_with_a_converter_of_its_own(place, capsys):
    """ISAAC's does not come in the 9 bits of 256 rows; NeuroSim's formula has no end."""
    Path("mine.yaml").write_text(NINE_BITS)
    words = ["cost", "--table", "table8", "--network", "vgg_small", "--profile", "quick", "--chip", "mine.yaml"]
    assert main([*words, "--method", "proposed", "spindrop"]) == 0
    runs = {run.label: run for run in load_results("results", "quick", "table8")[0]}
    proposed = runs["Proposed"]
    assert proposed.config["converters"]["lab"]["yours"]
    assert not proposed.config["converters"]["neurosim"]["yours"]
    at = {"execution": "loop", "scale": "folded", "real_layers": "digital"}
    nj = {adc: proposed.at(**at, adc=adc)["hw/energy_nj"] for adc in ("lab", "neurosim")}
    capsys.readouterr()
    assert main(["report", "table8", "--profile", "quick"]) == 0
    text = re.sub(" +", " ", Path("results/quick/table8.md").read_text())
    assert "ISAAC" not in text
    assert "with the converters lab where none is named" in text
    systems = next(line for line in text.splitlines() if line.startswith("| ours: Proposed |"))
    own, cited = in_unit(nj["lab"] * 1e3), in_unit(nj["neurosim"] * 1e3)
    # the band has the one converter of a source, and yours stands beside it
    assert f"| {own} | {cited} |" in systems
    assert "lab, yours" in text
    rivals = runs["SpinDrop"].at(**at, adc="lab")["hw/energy_nj"]
    assert f"| VGG-small | SpinDrop | folded | {rivals / nj['lab']:.2f} |" in text
    # components add up to the energy with it
    numbers = pd.read_csv("results/quick/table8.csv")
    here = numbers[(numbers.method == "Proposed") & (numbers.execution == "loop") & (numbers.scale == "folded")]
    parts = here[(here.real_layers == "digital") & here.component.notna()].energy_nj.sum()
    assert parts == pytest.approx(nj["lab"])
    drawn = pd.read_csv("results/quick/energy.csv")
    assert set(drawn[drawn.component != "total"].adc) == {"lab"}
    assert drawn[drawn.adc == "lab"].role.dropna().unique().tolist() == ["yours"]

    # beside results of the default chip nothing is compared across chips
    assert main([*words[:-2], "--method", "spatial_spindrop"]) == 0
    assert main(["report", "table8", "--profile", "quick"]) == 0
    text = re.sub(" +", " ", Path("results/quick/table8.md").read_text())
    assert "VGG-small, Spatial-SpinDrop: ISAAC's converters" in text
    assert "| VGG-small | SpinDrop | folded |" in text
    assert "table8 --profile quick --chip FILE" in text
    assert "| VGG-small | Spatial-SpinDrop | folded |" not in text


def test_modules_are_counted_with_the_chips_junction(place):
    """Energy and time of a pass are those of its junction at each layer's p; the default's are the paper's module's."""
    Path("mine.yaml").write_text(MINE)
    words = ["cost", "--network", "vgg_small", "--scheme", "scale_dropout", "--profile", "quick"]
    default = planned_cost(words[1:])
    assert main([*words, "--chip", "mine.yaml"]) == 0
    (path,) = Path("results/quick/table7").glob("*.json")
    assert default != planned_cost([*words[1:], "--chip", "mine.yaml"]) == path
    Path("other.yaml").write_text("device: {write_resistance: 2 kOhm}")
    assert planned_cost([*words[1:], "--chip", "other.yaml"]) not in (default, path)
    found, junction = read_result(path), load_chip("mine.yaml").chip.junction
    p = [layer.p for layer in stochastic_layers(build_network("vgg_small", METHODS["proposed"])).values()]
    assert len(set(p)) > 1
    each_pj = [float(junction.draw_energy_pj(one)) for one in p]
    assert found.metrics["energy_pj"] == pytest.approx(sum(each_pj))
    assert found.metrics["latency_ns"] == pytest.approx(len(p) * junction.draw_time_ns)
    separate, reused = (found.at(condition=how)["power_mw"] for how in ("separate", "reused"))
    assert separate == pytest.approx(sum(each_pj) / junction.draw_time_ns)
    assert reused == pytest.approx(max(each_pj) / junction.draw_time_ns)
    assert main(["report", "table7", "--profile", "quick"]) == 0
    text = Path("results/quick/table7.md").read_text()
    assert f"on chip {load_chip('mine.yaml').fingerprint} are its junction's" in text
    assert "module_power" not in text


def test_effects_one_by_one_go_on_where_they_stopped(place, checkpoint, capsys, monkeypatch):
    words = [
        "chip",
        "effects",
        str(checkpoint),
        "--data",
        "cifar10",
        "--device",
        "cpu",
        "--samples",
        "3",
        "--limit",
        "20",
    ]
    assert main([*words, "--parts", "digital,ideal"]) == 0
    parts = json.loads(Path("effects.json").read_text())["parts"]
    assert parts["ideal"] == {**parts["digital"], "commit": parts["ideal"]["commit"]}
    assert parts["ideal"]["hw/same_logits"] == 1.0
    # another part joins those that are there, which are not measured again
    marked = json.loads(Path("effects.json").read_text())
    marked["parts"]["ideal"]["cls/acc"] = 0.123
    Path("effects.json").write_text(json.dumps(marked))
    assert main([*words, "--parts", "ideal,adc/2"]) == 0
    parts = json.loads(Path("effects.json").read_text())["parts"]
    assert (parts.keys(), parts["ideal"]["cls/acc"]) == ({"digital", "ideal", "adc/2"}, 0.123)
    assert parts["adc/2"]["hw/same_logits"] < 1
    # another question is another answer
    assert main([*words[:-1], "10", "--parts", "ideal"]) == 0
    assert json.loads(Path("effects.json").read_text())["parts"].keys() == {"ideal"}
    capsys.readouterr()
    assert main([*words, "--parts", "wires/*"]) == 1
    assert "wire/1" in capsys.readouterr().err


def test_probes_that_make_chips_themselves_take_no_chip_file(place, capsys):
    Path("mine.yaml").write_text(MINE)
    row = ["--config", "tiny.yaml"]
    for probe in ("hardware", "temperature", "table4", "ablation-sigma"):
        asked = plan_assessment([*row, "--probe", probe, "--chip", "mine.yaml"])
        with pytest.raises(ValueError, match=r"its own|itself"):
            PROBES[probe].parts(Subject([], None, asked.evaluation))
    asked = plan_assessment([*row, "--probe", "pareto", "--chip", "mine.yaml"])
    parts = PROBES["pareto"].parts(Subject([], None, asked.evaluation))
    assert {at["bits"] for at in parts.values()} == {3, 4, 5, 6, 8}
    # what has no chip of its own goes on the file's; by what it says
    ids = [plan_assessment([*row, "--probe", "reliability", *more]).id for more in ([], ["--chip", "mine.yaml"])]
    assert len(set(ids)) == 2


def test_a_chip_file_is_that_of_the_moment_it_was_planned(place, checkpoint):
    """Hours of training pass; what is recorded is what the identity was made of."""
    Path("mine.yaml").write_text(MINE)
    evaluation = Evaluation(samples=2, chip_file="mine.yaml")
    planned = evaluation.described
    Path("mine.yaml").write_text(MINE.replace("columns: 64", "columns: 32"))
    assert load_chip("mine.yaml").fingerprint != planned.fingerprint
    network = load_trained(checkpoint).network
    chips = on_chip([network], evaluation, RecordedCIFAR10())  # data that nobody has set up yet
    assert {layer.crossbar.columns for layer in crossbar_layers(chips[0])} == {64}
    assert chip_record(evaluation)["on_chip"]["fingerprint"] == planned.fingerprint
    assert evaluation.variation.record()["device_fingerprint"] == planned.device.fingerprint


def test_a_network_without_a_drop_probability_keeps_its_memory_on_a_chip(place):
    """MC-Dropout on binary weights: nothing that the junction's spread moves, and bits that may be correlated."""
    Path("mine.yaml").write_text(MINE)
    network = build_network("lenet5", METHODS["mc_dropout_irnet"], width=0.5)
    assert Evaluation(chip_file="mine.yaml").variation_of(network) is None
    varied = Evaluation(chip_file="mine.yaml", correlation=0.5)
    assert variation_record(varied, [network])["correlation"] == 0.5
    assert variation_record(varied, [network])["device"] is None
    drawn, expected = build_posterior(network, varied).plans[0], draw_plan(network, 20, 0, correlation=0.5)
    assert all(torch.equal(drawn.draws[name], expected.draws[name]) for name in expected.draws)
