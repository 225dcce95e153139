"""Table IV from made-up results: conditions, seeds, chips, and which of the paper's numbers stands beside which."""

import io

import pandas as pd
import pytest

from lit_scaledrop.evaluation.probes.variation import CHIPS
from lit_scaledrop.report.table import csv, markdown
from lit_scaledrop.report.tables import build, published
from lit_scaledrop.report.tables.variation import condition_of

RULE = {"quantile": 0.1, "threshold": 0.95, "interpolation": "linear"}
SUITE = {"title": "Uniform noise", "source": "generated, seed 0", "images": 500, "fingerprint": "f", "kind": "noise"}
DIGITS = {"name": "digits", "stand_in": True, "fingerprint": "d161", "source": "scikit-learn digits at 32x32"}
CALLBACK = "lit_scaledrop.callbacks.MTJVariation"


@pytest.fixture
def run(make):
    """A result of the probe; chips are worse by a point each, the first as good as redrawn probabilities."""

    def result(number, accuracy, trained=None, asked=None, seed=1, device=None, limit=None, chips=CHIPS, **changes):
        record = {"sigma": asked, "device": device, "redraw": "use", "chip": None, "within": "clipped"}
        given = asked is not None or device is not None
        about = {"sigma": trained, "device": None, "when": "train", "redraw": "use", "within": "clipped", "seed": 0}
        callbacks = None if trained is None else [{"class_path": CALLBACK, "init_args": about}]
        parts = {"use" if given else "nominal": accuracy}
        parts |= {f"chip/{n + 1}": accuracy - n / 100 for n in range(chips if given else 0)}
        how = {**RULE, "limit": limit, "images": 10000, "parts": [*parts], "suites": {"uniform": SUITE}, "absent": {}}
        numbers = {}
        for part, value in parts.items():
            scores = {"cls/acc": value, "cls/nll": 0.5, "cal/ece": 0.03, "ood/rate": 0.05, "uniform/ood/rate": 0.75}
            numbers |= {f"{part}/{name}": score for name, score in scores.items()}
        return make(
            number, study="table4", seed=seed, numbers=numbers,
            evaluation=how | {"variation": record if given else None},
            config={"trainer": {"callbacks": callbacks}, "assess": {"limit": limit, "parts": None}},
            provenance={"setting": f"{trained} {asked} {device}"}, **changes,
        )  # fmt: skip

    return result


def lines(report):
    """The table as it is shown: cells by topology, condition and sigma."""
    block = [line for line in markdown(report).splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
    rows = [dict(zip(table[0], cells, strict=True)) for cells in table[2:]]
    return {(row["topology"], row["condition"], row["sigma or device"]): row for row in rows}


def test_published_numbers_are_the_papers():
    paper = published("table4.csv")
    assert len(paper) == 14
    assert paper.bayesian.all()
    (one,) = paper[(paper.topology == "VGG-small") & (paper.level == "sigma_3") & (paper.condition != "baseline")].pipe(
        lambda frame: frame[frame.condition == "trained with variation"].accuracy_percent.tolist()
    )
    assert one == 90.55
    assert paper[paper.condition == "baseline"].accuracy_percent.tolist() == [91.52, 90.45]


def test_table4(run):
    results = [
        run(1, 0.90, network="vgg_small"), run(2, 0.92, network="vgg_small", seed=2),
        run(3, 0.89, asked=0.05, network="vgg_small"), run(4, 0.93, asked=0.05, network="vgg_small", seed=2),
        run(5, 0.91, trained=0.1, asked=0.1, network="vgg_small"),
        run(6, 0.80), run(7, 0.79, device="sot_80nm"),
    ]  # fmt: skip
    report = build("table4", results)
    shown = lines(report)
    # the paper's 14 lines, and two of ours beyond
    assert len(shown) == 16
    without = shown["VGG-small", "trained without variation", "0.05"]
    assert without["CIFAR-10 accuracy (ours, %)"] == "91.00 ± 2.83"
    assert without["CIFAR-10 accuracy (paper, %)"].startswith("90.26")
    assert without["difference (points)"] == "+0.74"
    assert without["change (points)"] == "+0.00"  # a point less with one seed, a point more with the other
    # ten chips, from the accuracy down by a point each
    assert without["10 chips, mean (%)"] == "86.50 ± 2.83"
    assert without["worst chip (%)"] == "82.00 ± 2.83"
    assert (without["NLL"], without["noise rejected (%)"], without["n"]) == ("0.500 ± 0.000", "75.00 ± 0.00", "2")
    baseline = shown["VGG-small", "baseline", ""]
    assert baseline["CIFAR-10 accuracy (ours, %)"] == "91.00 ± 1.41"
    assert baseline["change (points)"] == baseline["10 chips, mean (%)"] == baseline["worst chip (%)"] == ""
    both = shown["VGG-small", "trained with variation", "0.1"]
    assert both["change (points)"] == "+1.00"  # of the seed that it has
    assert both["CIFAR-10 accuracy (paper, %)"].startswith("90.55")
    device = shown["ResNet-20", "trained without variation", "sot_80nm"]
    assert (device["CIFAR-10 accuracy (paper, %)"], device["change (points)"]) == ("", "-1.00")
    empty = shown["ResNet-18", "trained with variation", "0.02"]
    assert empty["CIFAR-10 accuracy (ours, %)"] == ""
    assert empty["CIFAR-10 accuracy (paper, %)"].startswith("91.78")
    order = [key[0] for key in shown]
    assert order == sorted(order, key=["ResNet-18", "ResNet-20", "VGG-small"].index)
    text = markdown(report)
    assert "The paper's three sigmas are missing in our copy." in text
    assert "Uniform noise: 500 images." in text
    assert "sweeps/table4.yaml --profile cpu --seeds 1 2" in text


def test_all_numbers_are_in_the_csv(run):
    results = [run(1, 0.9), run(2, 0.88, asked=0.02)]
    frame = pd.read_csv(io.StringIO(csv(build("table4", results))))
    (line,) = frame[(frame.condition == "trained without variation") & (frame.topology == "ResNet-20")].to_dict(
        "records"
    )
    assert (line["accuracy"], line["change"], line["chips"]) == pytest.approx((88, -2, 83.5))
    assert (line["chips_change"], line["worst"], line["level"]) == (pytest.approx(-6.5), pytest.approx(79), "sigma_1")


def test_conditions(run):
    assert condition_of(run(1, 0.9)) == ("baseline", "")
    assert condition_of(run(1, 0.9, asked=0.05)) == ("trained without variation", "0.05")
    assert condition_of(run(1, 0.9, trained=0.1, asked=0.1)) == ("trained with variation", "0.1")
    assert condition_of(run(1, 0.9, trained=0.1, asked=0.05)) == ("trained with 0.1, evaluated with 0.05", "0.05")
    assert condition_of(run(1, 0.9, trained=0.1)) == ("trained with 0.1, evaluated with none", "")
    chip = run(1, 0.9, asked=0.05)
    chip.evaluation["variation"] |= {"chip": 3, "redraw": "chip", "within": "truncated"}
    assert condition_of(chip) == ("trained without variation", "0.05, truncated, chip 3")
    evaluated = run(1, 0.9, trained=0.1, asked=0.1)
    evaluated.config["trainer"]["callbacks"][0]["init_args"]["when"] = "eval"
    assert condition_of(evaluated) == ("trained without variation", "0.1")


def test_what_was_not_measured_is_empty(run):
    few = run(1, 0.9, asked=0.05, chips=3)
    shown = lines(build("table4", [few, run(2, 0.8, trained=0.1), run(3, 0.7, asked=0.1)]))
    some = shown["ResNet-20", "trained without variation", "0.05"]
    # the mean of three chips is no neighbour of the mean of ten
    assert (some["10 chips, mean (%)"], some["worst chip (%)"], some["change (points)"]) == ("", "", "")
    assert some["CIFAR-10 accuracy (ours, %)"] == "90.00"
    nominal = shown["ResNet-20", "trained with 0.1, evaluated with none", ""]
    assert nominal["CIFAR-10 accuracy (ours, %)"] == "80.00"


def test_the_rows_say_how_many_chips_there_are(run):
    shown = lines(build("table4", [run(1, 0.9, asked=0.05, chips=3)]))
    some = shown["ResNet-20", "trained without variation", "0.05"]
    assert (some["3 chips, mean (%)"], some["worst chip (%)"]) == ("89.00", "88.00")


def test_compares_on_the_papers_data_only(run):
    for changes in ({"data": DIGITS}, {"limit": 500}):
        text = markdown(build("table4", [run(1, 0.9, **changes)]))
        assert "difference (points)" not in text
    text = markdown(build("table4", [run(1, 0.9), run(2, 0.9, data=DIGITS)]))
    assert text.count("## ") == 2
    assert "digits accuracy (ours, %)" in text


def test_bytes_do_not_depend_on_the_order_of_results(run):
    results = [run(1, 0.9), run(2, 0.8, asked=0.02), run(3, 0.7, asked=0.1), run(4, 0.7, trained=0.1, asked=0.1)]
    one, two = build("table4", results), build("table4", results[::-1])
    assert markdown(one) == markdown(two)
    assert csv(one) == csv(two)
