"""Variation from the command line: which run it is, what it is trained and evaluated with, and Table IV's probe."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml

import datamodules
from hardware import drop_probability
from hardware.devices import load_device
from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.assess import plan_assessment
from lit_scaledrop.cli.fit import planned_result
from lit_scaledrop.cli.flags import expand_variation
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.variation import Variation, Within
from lit_scaledrop.report.tables import build
from lit_scaledrop.report.tables.variation import SIGMAS
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.store import read_result
from lit_scaledrop.sweep.file import load_sweep
from lit_scaledrop.sweep.points import plan_points

ROOT = Path(__file__).parents[2]
FLAGS = ["--config", "tiny.yaml", "--trainer.max_epochs=1"]
CALLBACK = "--trainer.callbacks+=lit_scaledrop.callbacks.MTJVariation"


class RecordedCIFAR10(datamodules.CIFAR10DataModule):
    def __init__(self, root=None):
        super().__init__(root=root, checksums="recorded")


def only(pattern: str) -> Path:
    (path,) = Path().glob(pattern)
    return path


# --- settings ---


def test_within_is_what_the_module_knows():
    assert get_args(Within) == get_args(drop_probability.Within)


def test_a_device_gives_the_spread_and_the_temperature_that_it_has():
    """Half of the pulses at 300 K; p (1 - p) 44.6 V^-1 x 0.894 V x 2.24 % is 0.22 to first order, which saturates."""
    p, device = torch.full((20_000,), 0.5), load_device("sot_80nm")[0]
    actual = Variation(device="sot_80nm").probability()(p, torch.Generator().manual_seed(0))
    assert actual.std().item() == pytest.approx(0.19, abs=0.005)
    hot = Variation(device="sot_80nm", temperature_k=310.0).probability()(p, torch.Generator().manual_seed(0))
    assert hot.mean().item() == pytest.approx(device.probability(0.894, 310.0).item(), abs=0.04) != 0.5
    assert (hot > actual).all()


def test_a_calibrated_chip_has_the_p_that_it_should_and_keeps_it_if_it_is_calibrated_again():
    p, chips = torch.tensor([0.1, 0.2, 0.5]), range(20)

    def errors(**how):
        draw = Variation(device="sot_80nm", redraw="chip", **how).probability()
        return torch.stack([draw(p, torch.Generator().manual_seed(chip)) - p for chip in chips]).square().mean(0).sqrt()

    hot = {"temperature_k": 325.0, "calibration": 400, "dac_bits": 12}
    aged = {"drift": 0.03, "calibration": 400, "dac_bits": 12}
    binomial = (p * (1 - p) / 400).sqrt()
    assert (errors(calibration=400, dac_bits=12) < 1.7 * binomial).all()
    assert (errors(**hot, recalibrate=True) < 1.7 * binomial).all()
    assert (errors(**hot) > 0.25).all()
    assert (errors(**aged, recalibrate=True) < 1.7 * binomial).all()
    assert (errors(**aged) > 3 * binomial).all()
    assert (errors() > 3 * binomial).all()


def test_layers_of_a_chip_share_its_junction_and_eq_24_has_one_each():
    """One junction moves all layers the same way, mostly; three independent deviations do so in a quarter of chips."""
    p, chips, same = torch.tensor([0.1, 0.2, 0.5]), 40, {}
    for name, value in (("device", "sot_80nm"), ("sigma", 0.02)):
        draw = Variation(**{name: value}, redraw="chip").probability()
        shifts = [draw(p, torch.Generator().manual_seed(chip)) - p for chip in range(chips)]
        same[name] = sum(len(set(shift.sign().tolist())) == 1 for shift in shifts) / chips
    assert same["device"] > 0.6
    assert abs(same["sigma"] - 0.25) < 4 * (0.25 * 0.75 / chips) ** 0.5 < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -0.1}, "must be 0 or above"),
        ({"sigma": 0.1, "mtj": "sot_80nm"}, "not both"),
        ({"mtj": "sot"}, "unknown device 'sot'"),
        ({"sigma": 0.1, "temperature_k": 350.0}, "add the device"),
        ({"temperature_k": 350.0}, "add evaluation.sigma, .mtj or .chip_file"),
        ({"mtj": "sot_80nm", "temperature_k": 2000.0}, "below 1120 K"),
        ({"calibration": 100}, "add evaluation.sigma, .mtj or .chip_file"),
        ({"sigma": 0.1, "calibration": 100}, "of a device"),
        ({"mtj": "sot_80nm", "calibration": -1}, "0 or more"),
        ({"mtj": "sot_80nm", "dac_bits": 8}, "add calibration"),
        ({"mtj": "sot_80nm", "calibration": 9, "recalibrate": True}, "add temperature_k or drift"),
        ({"drift": 0.01}, "add evaluation.sigma, .mtj or .chip_file"),
        ({"sigma": 0.1, "drift": 0.01}, "add the device"),
        ({"mtj": "sot_80nm", "drift": -1.0}, "a share of it above -1"),
        ({"mtj": "sot_80nm", "calibration": 9, "dac_bits": 99}, "1 to 24"),
        ({"correlation": 1.0}, "below 1"),
        ({"correlation": 0.1, "scheme": "systematic"}, "correlated bits"),
        ({"correlation": 0.1, "execution": "exact"}, "correlated bits"),
        ({"correlation": 0.1, "redraw": "chip"}, "add evaluation.sigma, .mtj or .chip_file"),
        ({"redraw": "chip"}, "add evaluation.sigma, .mtj or .chip_file"),
        ({"within": "truncated"}, "add evaluation.sigma, .mtj or .chip_file"),
        ({"sigma": 0.1, "chip": 3}, "add evaluation.redraw=chip"),
        ({"sigma": 0.1, "execution": "exact"}, "or add evaluation.redraw=chip"),
        ({"sigma": 0.1, "scheme": "systematic"}, "or add evaluation.redraw=chip"),
    ],
)
def test_evaluations_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(**options)
    assert Evaluation(sigma=0.1, redraw="chip", chip=3, execution="exact").variation == Variation(
        0.1, redraw="chip", chip=3
    )
    assert Evaluation().variation is None


# --- words ---


@pytest.mark.parametrize(
    ("word", "flags"),
    [
        ("none", []),
        ("eval/0.05", ["--evaluation.sigma=0.05"]),
        ("eval/sot_80nm", ["--evaluation.mtj=sot_80nm"]),
        ("eval/lab/mine.yaml:b", ["--evaluation.mtj=lab/mine.yaml:b"]),
        ("train/0.10", [CALLBACK, "--trainer.callbacks.sigma=0.10", "--trainer.callbacks.when=train"]),
        (
            "both/sot_80nm",
            [CALLBACK, "--trainer.callbacks.device=sot_80nm", "--trainer.callbacks.when=train",
             "--evaluation.mtj=sot_80nm"],
        ),
    ],
)  # fmt: skip
def test_words(word, flags):
    assert expand_variation(["a", f"--variation={word}", "b"]) == ["a", *flags, "b"]
    assert expand_variation(["a", "--variation", word, "b"]) == ["a", *flags, "b"]


@pytest.mark.parametrize("word", ["", "both", "both/", "never/0.1", "0.05"])
def test_words_that_say_nothing(word):
    with pytest.raises(ValueError, match="--variation takes none, or eval/X"):
        expand_variation([f"--variation={word}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variation=both/0.1", "--model.method=irnet"], "no Scale-Dropout layer"),
        (["--variation=eval/0.1", "--model.method=fp"], "no Scale-Dropout layer"),
        (["--variation=eval/0.1", CALLBACK, "--trainer.callbacks.sigma=0.2"], "make them agree, or set when='train'"),
        ([CALLBACK], "not neither"),
        (["--variation=train/sot_80nm", "--model.p=0.99999"], "up to 1.1 V gives switching probability 0.99999"),
        (["--variatoin=none"], "did you mean '--variation'"),
    ],
)
def test_bad_flags_are_refused_before_training(place, capsys, words, message):
    assert main(["fit", *FLAGS, *words]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


# --- which run ---


def test_the_run_without_training_variation_is_that_of_table3(place):
    flags = ["--profile", "cpu", "--row", "resnet20/proposed"]
    none, asked, both = (
        plan_assessment(["--probe=table4", *flags, f"--variation={word}"])
        for word in ("none", "eval/0.05", "both/0.05")
    )
    assert len({none.id, asked.id, both.id}) == 3
    table3 = planned_result([*flags, "--run.study=table3"])
    assert (ROOT / table3).is_file()
    for plan in (none.plan, asked.plan):
        assert plan.result == table3
    # a network that was trained with variation is another one, and no row of Table III
    assert both.plan.id != table3.stem
    assert both.plan.run.study == "variation"
    assert both.evaluation == asked.evaluation != none.evaluation
    assert planned_result([*flags, "--variation=train/0.05"]).stem == both.plan.id


def test_the_sweep_is_the_papers_table_with_our_sigmas_and_resnet20(place):
    config = load_sweep(ROOT / "sweeps" / "table4.yaml")
    points = plan_points(
        config, {"PROFILE": "cpu"}, None, [], lambda flags: Path("r/p/s", "-".join(flags[-3:]).replace("/", "-"))
    )
    conditions = ["none", *(f"{when}-{sigma}" for when in ("both", "eval") for sigma in ("0.02", "0.05", "0.10"))]
    rows = ("resnet18-proposed", "vgg_small-proposed", "resnet20-proposed")
    assert [point.name for point in points] == [f"{row}-{word}-seed1" for row in rows for word in conditions]
    assert [float(sigma) for sigma in SIGMAS] == [0.02, 0.05, 0.1]


# --- the commands ---


def test_trained_and_evaluated_with_variation(place, monkeypatch, capsys):
    monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", RecordedCIFAR10)
    assert main(["fit", *FLAGS, "--variation=both/0.3"]) == 0
    result = read_result(only("results/quick/tiny/*.json"))
    (callback,) = result.config["trainer"]["callbacks"]
    assert callback["class_path"] == "lit_scaledrop.callbacks.MTJVariation"
    assert (callback["init_args"]["sigma"], callback["init_args"]["when"]) == (0.3, "train")
    assert result.evaluation["variation"] == {
        "sigma": 0.3, "device": None, "redraw": "use", "chip": None, "within": "clipped", "temperature_k": None,
        "correlation": 0.0, "calibration": 0, "dac_bits": 0, "recalibrate": False,
        "drift": 0.0,
    }  # fmt: skip
    logged = {name: value for name, value in result.training["logged"].items() if name.startswith("hw/p_")}
    assert logged.keys() == {name for name in METRICS if name.startswith("hw/p_")}
    assert 0 <= logged["hw/p_min"] < logged["hw/p_shift"] < logged["hw/p_max"] <= 1
    # the checkpoint, asked again
    shutil.copy(only("runs/quick/tiny/*/checkpoints/best*.ckpt"), "a.ckpt")
    asked = {}
    mine = {"mine": {"like": "sot_80nm", "threshold": {"value": 0.95, "unit": "V", "source": "a", "status": "assumed"}}}
    Path("lab.yaml").write_text(yaml.safe_dump(mine))
    chip = "--redraw=chip --chip=2"
    for words in ("--sigma=0.3", "--sigma=0", f"--sigma=0.3 {chip}", "--mtj=sot_80nm", f"--mtj=lab.yaml {chip}",
                  f"--mtj=lab.yaml {chip} --temperature-k=330"):  # fmt: skip
        capsys.readouterr()
        assert main(["evaluate", "a.ckpt", "--data=cifar10", "--samples=3", *words.split()]) == 0
        asked[words] = json.loads(capsys.readouterr().out)
    assert asked["--sigma=0.3"]["metrics"] == result.metrics
    assert asked["--sigma=0.3"]["evaluation"]["variation"] == result.evaluation["variation"]
    assert asked["--sigma=0"]["evaluation"]["variation"] is None
    assert asked["--sigma=0.3 --redraw=chip --chip=2"]["evaluation"]["variation"]["chip"] == 2
    assert asked["--mtj=sot_80nm"]["evaluation"]["variation"]["device"] == "sot_80nm"
    cold, hot = (asked[f"--mtj=lab.yaml {chip}{more}"] for more in ("", " --temperature-k=330"))
    assert (cold["evaluation"]["variation"]["device"], hot["evaluation"]["variation"]["temperature_k"]) == (
        "lab.yaml",
        330,
    )
    assert cold["metrics"] != hot["metrics"]
    assert main(["evaluate", "a.ckpt", "--data=cifar10", "--sigma=0.3", "--execution=exact"]) == 1
    assert "add evaluation.redraw=chip" in capsys.readouterr().err


def test_a_callback_for_evaluations_has_its_say(place):
    words = [CALLBACK, "--trainer.callbacks.sigma=0.3", "--trainer.callbacks.redraw=chip", "--trainer.callbacks.seed=2"]
    assert main(["fit", *FLAGS, *words, "--trainer.callbacks.when=eval", "--evaluation.execution=exact"]) == 0
    result = read_result(only("results/quick/tiny/*.json"))
    assert result.evaluation["variation"]["chip"] == 2
    assert result.evaluation["samples"] in (1, 2, 4, 8)  # as many masks as are possible
    assert not [name for name in result.training["logged"] if name.startswith("hw/")]  # the training saw none


def test_table4_from_a_trained_run_to_the_report(place, finished, capsys):
    shutil.copytree(finished, place, dirs_exist_ok=True)
    words = ["assess", "--probe=table4", "--config", "tiny.yaml", "--limit=20"]
    assert main([*words, "--variation=none"]) == 0
    assert main([*words, "--variation=eval/0.3"]) == 0
    assert "epoch" not in capsys.readouterr().err  # nothing was trained
    results = {
        bool(result.evaluation["variation"]): result
        for result in map(read_result, Path("results/quick/table4").glob("*.json"))
    }
    nominal, varied = results[False], results[True]
    assert nominal.evaluation["parts"] == ["nominal"]
    assert varied.evaluation["parts"] == ["use", *(f"chip/{number}" for number in range(1, 11))]
    assert nominal.config["assess"]["run"] == varied.config["assess"]["run"]
    assert varied.evaluation["suites"]["uniform"]["images"] == 20
    chips = [varied.at(chip=number) for number in range(1, 11)]
    assert len({chip["hw/p_shift"] for chip in chips}) == 10
    assert all(0 <= chip["hw/p_min"] <= chip["hw/p_max"] <= 1 for chip in chips)
    assert len({chip["cls/nll"] for chip in chips}) > 1
    assert {"cls/acc", "cal/ece"} <= nominal.at(condition="nominal").keys()
    assert "ood/rate" in nominal.at(condition="nominal", suite="uniform")
    report = build("table4", [nominal, varied])
    (frame,) = [section.frame for section in report.sections]
    line = frame[(frame.sigma == "0.3") & (frame.condition == "trained without variation")].iloc[0]
    accuracies = [100 * chip["cls/acc"] for chip in chips]
    assert (line.chips, line.worst) == pytest.approx((sum(accuracies) / 10, min(accuracies)))
    asked, whole = varied.at(condition="use")["cls/acc"], nominal.at(condition="nominal")["cls/acc"]
    assert line.change == pytest.approx(100 * (asked - whole))
    assert main([*words, "--evaluation.sigma=0.1", "--evaluation.redraw=chip"]) == 1
    assert "remove evaluation.redraw, evaluation.chip" in capsys.readouterr().err
