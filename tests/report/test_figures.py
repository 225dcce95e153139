"""Figures from made-up results: numbers, and the same bytes again. SCALEDROP_PICTURES=folder keeps the pictures."""

import io
import itertools
import math
import os
import re
import sys
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from lit_scaledrop import methods
from lit_scaledrop.cli.report import main
from lit_scaledrop.report.figures import FIGURES, pictures, pictures_of
from lit_scaledrop.report.figures.style import _METHODS, label_ends, panels
from lit_scaledrop.report.groups import TOPOLOGIES
from lit_scaledrop.report.page.alt_texts import alt_text
from lit_scaledrop.report.page.contents import Shown
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.store import write_result

pytest.importorskip("matplotlib")

METHODS = {
    "FP": (0.84, 0.6, 32),
    "MC-Dropout (HTanh)": (0.75, 0.9, 32),
    "Deep Ensemble": (0.86, 0.8, 32),
    "Proposed": (0.67, 1.1, 1),
}
HOW = {"limit": None, "images": 2000, "parts": [], "suites": {}, "absent": {}}


def normal(x):
    return math.exp(-0.5 * x * x)


def figure5(_accuracy, _entropy):
    rows = {}
    for step in range(11):
        s = step / 10
        head = f"strength/{s:g}"
        rows |= {f"{head}/image": 3.0, f"{head}/label": 8.0}
        logits = [0.3 * math.sin(7 * c) + (3 - 3.5 * s if c == 8 else 2.2 * s if c == 0 else 0) for c in range(10)]
        total = sum(map(math.exp, logits))
        for c, logit in enumerate(logits):
            p, width = math.exp(logit) / total, 0.5 + 0.8 * s
            for of, mean, half in (("logits", logit, width), ("probs", p, p * (1 - p))):
                values = {"mean": mean, "variance": half**2 / 4, "low": mean - half, "high": mean + half}
                rows |= {f"{head}/{of}/{c}/{name}": value for name, value in values.items()}
    return rows


def figure6(accuracy, entropy):
    rows = {}
    for angle in range(0, 181, 15):
        fall = 1 - normal(angle / 40)
        rows |= {
            f"rotation/{angle}/cls/acc": accuracy * (1 - 0.75 * fall),
            f"rotation/{angle}/unc/predictive_entropy": entropy * (0.5 + fall),
            f"rotation/{angle}/unc/mutual_information": 0.1 * (entropy - 0.5) * (0.5 + fall),
            f"rotation/{angle}/ood/rate": 0.4 + 0.5 * fall * entropy,
            f"rotation/{angle}/cls/nll": 0.5 + 3 * fall / entropy,
        }
    return rows


def figure7(accuracy, entropy):
    rows = {}
    for plan in range(5):
        for passes in range(1, 51):
            noise = 0.01 * math.sin(plan * 5 + passes) / math.sqrt(passes)
            rows[f"plan/{plan}/T/{passes}/cls/acc"] = accuracy - 0.04 / passes + noise
            rows[f"plan/{plan}/T/{passes}/cls/nll"] = 1.6 - accuracy + 0.2 / passes + noise
    exact = float(entropy > 1)
    rows |= {"asymptote/exact": exact, "asymptote/passes": 32.0 if exact else 1000.0}
    return rows | {"asymptote/cls/acc": accuracy + 0.001, "asymptote/cls/nll": 1.6 - accuracy}


def posterior(_accuracy, _entropy):
    rows = {}
    for image in range(2):
        rows |= {f"image/{image}/label": 3.0 + image}
        for passes in (10, 50, 200, 1000):
            head = f"image/{image}/T/{passes}"
            rows |= {f"{head}/distinct": float(min(passes, 180)), f"{head}/normal_distance": 0.65 / math.sqrt(passes)}
            for c in range(10):
                low, high = -3 + 0.4 * c, 1 + 0.4 * c
                rows |= {f"image/{image}/class/{c}/low": low, f"image/{image}/class/{c}/high": high}
                weights = [normal((k - 11.5) / 5 + math.sin(3 * k) / passes**0.5) for k in range(24)]
                counts = [round(passes * w / sum(weights)) for w in weights]
                rows |= {f"{head}/class/{c}/bin/{k}": float(count) for k, count in enumerate(counts)}
                rows |= {f"{head}/class/{c}/mean": low + 2, f"{head}/class/{c}/std": 0.83}
                rows |= {f"{head}/class/{c}/distance": 0.04 + 0.01 * (c % 4) + 0.6 / math.sqrt(passes)}
    return rows


def threshold(_accuracy, entropy):
    rows = {}
    for part, level in (("clean", 0.0), ("uniform", 0.9), ("test_uniform", 0.5)):
        for q in (0, 0.05, 0.1, 0.25, 0.5):
            for t in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.999):
                rate = min(1.0, max(0.0, (t ** (1.5 * entropy)) * (1 - 0.5 * q) + level * t * (1 - t) * 1.6))
                rows[f"{part}/quantile/{q:g}/threshold/{t:g}/rate"] = rate
    return rows


def reliability(accuracy, entropy):
    shares = [normal((k - 14 * accuracy) / 4) for k in range(15)]
    rows = {"clean/cls/acc": accuracy, "clean/cal/ece": 0.03 * entropy, "clean/cal/adaptive_ece": 0.029 * entropy}
    for k, share in enumerate(shares):
        rows[f"clean/bin/{k}/share"] = share / sum(shares) if k else 0.0
        if k:  # the first bin is empty
            middle = (k + 0.5) / 15
            rows |= {f"clean/bin/{k}/confidence": middle, f"clean/bin/{k}/accuracy": middle ** (1 / entropy)}
    return rows


def hardware(accuracy, entropy):
    harm = {"digital": 0, "ideal": 0, "combined/1": 0.1, "combined/2": 0.14}
    harm |= {f"adc/{bits}": 0.6 * 0.5 ** (bits - 1) for bits in (7, 6, 5, 4, 3, 2)}
    harm |= {f"conductance/{cv:g}/{chip}": cv + 0.02 * chip for cv in (0.05, 0.1, 0.3) for chip in (1, 2, 3)}
    harm |= {f"stuck/{share:g}/{chip}": 5 * share + 0.01 * chip for share in (0.001, 0.01, 0.03) for chip in (1, 2)}
    harm |= {f"wire/{ohm:g}": 0.004 * ohm for ohm in (3, 10, 30)}
    rows = {}
    for part, h in harm.items():
        rows |= {f"{part}/cls/acc": accuracy * (1 - h), f"{part}/ood/rate": min(1, 0.2 * entropy + h)}
        rows |= {f"{part}/uniform/ood/rate": min(1, 0.8 * entropy + h), f"{part}/hw/same_class": 1 - h}
        rows |= {f"{part}/uniform/ood/auroc/predictive_entropy": 0.95 - 0.4 * h}
    return rows


def temperature(accuracy, entropy, levels=(250.0, 300.0, 350.0, 400.0), middle=300.0, span=100.0):
    made = [Measurement({"cls/acc": accuracy, "cal/ece": 0.05}, {"condition": "digital"})]
    made.append(Measurement({"ood/rate": 0.9}, {"condition": "digital", "suite": "uniform"}))
    for condition, harm in (("nominal", 1.0), ("calibrated", 0.8), ("recalibrated", 0.05)):
        for level in levels:
            for chip in (1, 2, 3):
                at = {"condition": condition, "level": level, "chip": chip}
                h = min(1.0, harm * (abs(level - middle) / span + 0.05 * chip))
                numbers = {
                    "hw/p_shift": 0.5 * h,
                    "cls/acc": accuracy * (1 - 0.3 * h),
                    "cal/ece": 0.05 * entropy + 0.2 * h,
                }
                made.append(Measurement({**numbers, "ood/rate": min(1.0, 0.2 + h)}, at))
                made.append(Measurement({"ood/rate": min(1.0, 0.5 * entropy + h / 3)}, {**at, "suite": "uniform"}))
    return made


def energy(_accuracy, _entropy):
    """Flat names that schema 1 does not know are given as measurements by `counted`."""
    return {"macs": 1.0}


def counted(result):
    """A result of Table VIII: nothing trained, energies by execution, scale, treatment and converter."""
    found = []
    for how in ("loop", "prefix", "shared"):
        parts = {"adc": 70.0, "scale_multiplier": 50.0, "digital_mac": 300.0 if how == "loop" else 30.0}
        at = {"execution": how, "scale": "folded", "real_layers": "digital"}
        for adc, each in (("neurosim", 20.0), ("isaac", 70.0), ("mnsim", 600.0), ("murmann", 2.0)):
            total = sum(parts.values()) - 70.0 + each
            found.append(Measurement({"hw/energy_nj": total, "energy_std_nj": 0.0}, {**at, "adc": adc}))
        found += [
            Measurement({"hw/energy_nj": value, "operations": 10.0}, {**at, "component": name})
            for name, value in parts.items()
        ]
    roles = {"neurosim": "converter", "isaac": "converter", "mnsim": "outlier", "murmann": "bound"}
    config = {"passes": 10, "converters": {adc: {"role": role} for adc, role in roles.items()}}
    empty = {"data": {}, "training": {}, "evaluation": {}}
    return type(result)(**{**vars(result), **empty, "measurements": found, "config": config})


def designs(accuracy, entropy):
    made = []
    for bits, rows, mapping in itertools.product((3, 6), (64, 128), ("unrolled", "kernel_split")):
        at = {"bits": bits, "rows": rows, "mapping": mapping}
        for passes in (1, 10):
            better = 0.01 * bits + 0.001 * passes
            numbers = {"cls/acc": accuracy - 0.1 + better, "cls/nll": entropy - better}
            made.append(Measurement(numbers, {**at, "passes": passes}))
            for execution, share in (("loop", 1.0), ("prefix", 0.8), ("shared", 0.4)):
                cost = 100.0 * bits * passes * share * (1 + rows / 1000)
                numbers = {"hw/energy_nj": cost, "hw/latency_us": cost / 10, "hw/area_mm2": rows / 100}
                made.append(Measurement(numbers, {**at, "passes": passes, "execution": execution}))
    return made


def ageing(accuracy, entropy):
    return temperature(accuracy, entropy, (-0.05, -0.02, 0.0, 0.02, 0.05), 0.0, 0.05)


MADE = {
    maker.__name__: maker
    for maker in (
        figure5, figure6, figure7, posterior, threshold, reliability, energy, hardware, temperature, ageing, designs
    )
}  # fmt: skip


def results(make, name, networks=("resnet20",), methods=tuple(METHODS), seeds=(1,), **changes):
    made, number = [], 0
    for network in networks:
        for label in methods:
            accuracy, entropy, bits = METHODS[label]
            for seed in seeds:
                number += 1
                head = {"study": name, "network": network, "label": label, "seed": seed, "bits_w": bits, "bits_a": bits}
                head["numbers"] = MADE[name](accuracy - 0.01 * seed, entropy)
                made.append(make(number, **head, **{"evaluation": HOW, **changes}))
    return [counted(result) for result in made] if name == "energy" else made


SHOWN = {
    "figure5": {"methods": ("Proposed", "MC-Dropout (HTanh)")},
    "figure6": {"networks": ("vgg_small", "resnet20"), "seeds": (1, 2)},
    "figure7": {"networks": ("vgg_small", "resnet20"), "methods": ("MC-Dropout (HTanh)", "Proposed")},
    "posterior": {"methods": ("Proposed", "MC-Dropout (HTanh)")},
    "threshold": {"methods": ("Proposed", "MC-Dropout (HTanh)")},
    "reliability": {"networks": ("resnet20", "vgg_small")},
    "hardware": {"networks": ("resnet20", "vgg_small"), "methods": ("MC-Dropout (HTanh)", "Proposed"), "seeds": (1, 2)},
    "temperature": {"networks": ("resnet20", "vgg_small"), "methods": ("Proposed",), "seeds": (1, 2)},
    "ageing": {"networks": ("vgg_small",), "methods": ("Proposed",)},
    "designs": {"networks": ("resnet20", "vgg_small"), "methods": ("Proposed",), "seeds": (1, 2)},
    "energy": {"networks": ("lenet5", "vgg_small"), "methods": ("FP", "Proposed")},
}


def csv_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(path.with_suffix(".csv").read_bytes()))


def test_every_figure_has_made_up_results():
    assert FIGURES.keys() == SHOWN.keys() == MADE.keys()


@pytest.mark.parametrize("name", FIGURES)
def test_files_are_the_same_bytes_again(make, tmp_path, name):
    stem = Path(os.environ.get("SCALEDROP_PICTURES", tmp_path)) / name
    made = results(make, name, **SHOWN[name])
    written = pictures(name, made, stem)
    assert [path.suffix for path in written] == [".svg", ".png", ".csv"]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    again = pictures(name, made[::-1], tmp_path / "again")
    for one, two in zip(written, again, strict=True):
        assert one.read_bytes() == two.read_bytes()
    text = written[0].read_text()
    assert "<svg" in text
    assert "dc:date" not in text
    frame = csv_of(stem)
    assert {"profile", "data", "fingerprint", "topology", "method", "n", "seeds", "epochs"} <= set(frame)
    assert not frame.duplicated().any()


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_in_words(make, tmp_path, name):
    (picture,) = pictures_of(name, results(make, name, **SHOWN[name]), tmp_path / name)
    words = alt_text(Shown(name, b"", "svg", [], picture.runs, picture), None)
    for run in picture.runs:
        (of_run,) = re.findall(rf"{TOPOLOGIES[run.network]} {re.escape(run.label)}: ([^:].*?\d)", words)[:1]
        assert of_run
    assert "nan" not in words


def test_numbers_are_means_over_seeds(make, tmp_path):
    pictures("figure6", results(make, "figure6", methods=("Proposed",), seeds=(1, 2, 4)), tmp_path / "figure6")
    frame = csv_of(tmp_path / "figure6")
    assert set(frame.n) == {3}
    row = frame[(frame.angle == 0) & (frame.metric == "cls/acc")].iloc[0]
    seeds = pd.Series([0.66, 0.65, 0.63])
    assert (row["mean"], row["std"]) == pytest.approx((seeds.mean(), seeds.std()), rel=1e-5)


def test_plans_are_repetitions_and_the_asymptote_is_named(make, tmp_path):
    pictures("figure7", results(make, "figure7", methods=("Proposed", "FP")), tmp_path / "figure7")
    frame = csv_of(tmp_path / "figure7")
    made = figure7(0.66, 1.1)
    five = pd.Series([made[f"plan/{plan}/T/7/cls/acc"] for plan in range(5)])
    row = frame[(frame.method == "Proposed") & (frame.passes == 7) & (frame.metric == "cls/acc")].iloc[0]
    assert (row["mean"], row["std"]) == pytest.approx((five.mean(), five.std()), rel=1e-5)
    kinds = frame[frame.kind != "plan"].set_index(["method", "metric"])
    assert kinds.kind["Proposed", "cls/acc"] == "exact"
    assert (kinds.kind["FP", "cls/acc"], kinds.passes["FP", "cls/acc"]) == ("reference", 1000)


def test_chips_are_repetitions(make, tmp_path):
    pictures("hardware", results(make, "hardware", methods=("Proposed",), seeds=(1, 2)), tmp_path / "hardware")
    frame = csv_of(tmp_path / "hardware").set_index(["effect", "level", "metric"])
    made = [hardware(0.67 - 0.01 * seed, 1.1) for seed in (1, 2)]
    values = pd.Series([rows[f"conductance/0.1/{chip}/cls/acc"] for rows in made for chip in (1, 2, 3)])
    row = frame.loc[("conductance", 0.1, "cls/acc")]
    assert (row["mean"], row["std"]) == pytest.approx((values.mean(), values.std()), rel=1e-4)
    assert (row.n, row.chips) == (2, 3)
    assert frame.loc[("stuck", 0.01, "hw/same_class")].chips == 2
    bits = frame.loc[("adc", 4, "uniform/ood/rate")]
    assert (bits["mean"], bits.chips) == (pytest.approx(made[0]["adc/4/uniform/ood/rate"], rel=1e-4), 1)
    assert len(frame) == 5 * (3 + 6 + 3 + 3 + 3)


def test_of_some_chips_those_are_drawn(make, tmp_path):
    made = results(make, "hardware", methods=("Proposed",))
    kept = ({"effect": "digital"}, {"effect": "ideal"}, {"effect": "adc", "level": 4.0})
    found = made[0].measurements
    found[:] = [one for one in found if any(at.items() <= one.at.items() for at in kept)]
    pictures("hardware", made, tmp_path / "hardware")
    assert set(csv_of(tmp_path / "hardware").effect) == {"digital", "ideal", "adc"}


def test_pictures_of_images_are_of_the_first_seed(make, tmp_path):
    pictures("figure5", results(make, "figure5", methods=("Proposed",), seeds=(3, 2)), tmp_path / "figure5")
    frame = csv_of(tmp_path / "figure5")
    assert set(frame.seeds) == {2}
    assert set(frame.true_class) == {8}
    row = frame[(frame.strength == 0.5) & (frame.of == "logits") & (frame["class"] == 8)].iloc[0]
    assert (row.low, row["mean"], row.high) == pytest.approx(
        [figure5(0, 0)[f"strength/0.5/logits/8/{name}"] for name in ("low", "mean", "high")], rel=1e-5
    )


def test_data_are_never_mixed(make, tmp_path):
    made = results(make, "reliability", methods=("FP", "Proposed"))
    made[1].data["fingerprint"] = "0ff"
    written = pictures("reliability", made, tmp_path / "reliability")
    assert [path.name for path in written if path.suffix == ".csv"] == [
        "reliability-cifar10-10epochs-0ff.csv",
        "reliability-cifar10-10epochs-f00d.csv",
    ]
    for path in written:
        if path.suffix == ".csv":
            assert len(pd.read_csv(path).method.unique()) == 1


def test_results_of_something_else_are_refused(make, tmp_path):
    made = results(make, "figure6", methods=("FP",))
    made[0].measurements[:] = [Measurement({"cls/acc": 0.5}, {"suite": "x"})]
    with pytest.raises(ValueError, match="000000000001 hold nothing of this figure"):
        pictures("figure6", made, tmp_path / "figure6")
    with pytest.raises(ValueError, match="one profile"):
        pictures("figure6", [], tmp_path / "figure6")


def test_labels_at_line_ends_do_not_overlap():
    _, axes = panels(1, 1, 3.0, 3.0, "x")
    panel = axes[0, 0]
    panel.set_ylim(0, 1)
    label_ends(panel, [(1.0, y, str(y), "k") for y in (0.99, 0.98, 1.0, 0.1, 0.11)])
    heights = sorted(text.xy[1] for text in panel.texts)
    gaps = [b - a for a, b in pairwise(heights)]
    assert min(gaps) > 0.03
    assert heights[-1] <= 1 + 1e-9
    assert max(abs(text.xy[1] - float(text.get_text())) for text in panel.texts) < 0.2


def test_command_writes_the_files_or_says_why_not(make, tmp_path, monkeypatch, capsys):
    for result in results(make, "reliability", methods=("FP", "Proposed")):
        write_result(result, tmp_path)
    words = ["reliability", "--results", str(tmp_path), "--profile", "cpu"]
    assert main(words) == 0
    assert sorted(path.name for path in (tmp_path / "cpu").glob("reliability.*")) == [
        "reliability.csv",
        "reliability.png",
        "reliability.svg",
    ]
    assert "reliability.svg" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ModuleNotFoundError, match="a figure needs the extra `report`:"):
            main(words)
    assert main(["figure6", *words[1:]]) == 1
    assert "sweep sweeps/figure6.yaml --profile cpu" in capsys.readouterr().err
    assert main(["figrue6"]) == 2
    assert "did you mean 'figure6'?" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["pdf", "png", "svg"])
def test_a_format_of_figures_can_be_chosen(make, tmp_path, form, capsys):
    for result in results(make, "reliability", methods=("FP", "Proposed")):
        write_result(result, tmp_path)
    words = ["reliability", "--results", str(tmp_path), "--profile", "cpu", "--figure-format", form]
    made = []
    for _ in range(2):
        assert main(words) == 0
        made.append({path.name: path.read_bytes() for path in (tmp_path / "cpu").glob("reliability.*")})
    assert made[0].keys() == {"reliability.csv", f"reliability.{form}"}
    assert made[0] == made[1]
    if form == "pdf":  # with letters of an embedded TrueType font, not drawn ones
        assert b"/FontFile2" in made[0]["reliability.pdf"]
        assert b"/Type3" not in made[0]["reliability.pdf"]
        assert b"CreationDate" not in made[0]["reliability.pdf"]
    with pytest.raises(SystemExit):
        main(["--html", *words[1:]])
    assert "--figure-format is for the files of one table" in capsys.readouterr().err


def test_colours_are_kept_for_methods_that_there_are():
    assert set(_METHODS) <= {method.label for method in methods.METHODS.values()}
