"""Tables VI, IX and X from made-up results: numbers, means over seeds, absent suites, and what is never compared."""

import io
from dataclasses import replace

import pandas as pd
import pytest

from datamodules.corruptions.corruptions import CORRUPTIONS
from datamodules.suites.suites import GROUPS
from lit_scaledrop.metrics.ood import SCORES
from lit_scaledrop.report.figures.style import footer
from lit_scaledrop.report.groups import caption
from lit_scaledrop.report.measures import percent
from lit_scaledrop.report.table import csv, markdown
from lit_scaledrop.report.tables import build, published
from lit_scaledrop.report.tables import corruptions as shift
from lit_scaledrop.report.tables import ood as outliers
from lit_scaledrop.report.tables.corruptions import MEAN
from lit_scaledrop.results.glossary import SUITE_KINDS
from lit_scaledrop.results.measurement import Measurement

DIGITS = {"name": "digits", "stand_in": True, "fingerprint": "d161", "source": "scikit-learn digits at 32x32"}
RULE = {"quantile": 0.1, "threshold": 0.95, "interpolation": "linear"}
HOW = {**RULE, "limit": None, "images": 10000, "parts": ["clean"], "suites": {}, "absent": {}}


def rows(text: str, heading: str) -> list[dict[str, str]]:
    """Rows of the table under the heading that ends so."""
    block = next(block for block in text.split("## ")[1:] if block.splitlines()[0].endswith(heading))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:1] == "|"]
    return [dict(zip(table[0], cells, strict=True)) for cells in table[2:]]


def row(found: list[dict[str, str]], **wanted: str) -> dict[str, str]:
    (one,) = [cells for cells in found if all(cells[key] == value for key, value in wanted.items())]
    return one


# --- table VI ---


def six(make, number, rate, **changes):
    metrics = {"clean/ood/rate": 0.25, "clean/cls/acc": 0.9}
    for suite, value in (("gaussian", rate), ("cifar100", rate / 2)):
        metrics[f"{suite}/ood/rate"] = value
        for score in ("max_probability", "predictive_entropy", "mutual_information", "variance", "quantile_confidence"):
            metrics[f"{suite}/ood/auroc/{score}"] = value
        metrics[f"{suite}/ood/fpr95/predictive_entropy"] = 1 - value
    about = {"title": "A", "kind": "noise", "source": "generated, seed 0", "fingerprint": "f", "images": 500}
    how = {
        "parts": ["clean", "gaussian", "cifar100"],
        "suites": {"gaussian": about, "cifar100": about},
        "absent": {"svhn": "data set 'svhn' not found under the data folder"},
    }
    return make(number, study="table6", seed=number, evaluation={**HOW, **how}, numbers=metrics, **changes)


def test_table6(make):
    text = markdown(build("table6", [six(make, 1, 0.8), six(make, 2, 0.9)]))
    rates = rows(text, "by the OOD rule")
    proposed = row(rates, topology="ResNet-20", method="Proposed")
    # mean 0.85, deviation 0.1 / sqrt 2
    assert (proposed["Gaussian"], proposed["CIFAR-100"]) == ("85.00 ± 7.07", "42.50 ± 3.54")
    assert (proposed["test images"], proposed["SVHN"], proposed["n"]) == ("25.00 ± 0.00", "absent", "2")
    assert list(rates[0])[3:7] == ["test images", "Gaussian", "SVHN", "CIFAR-100"]
    # the paper's nine rows are there, without numbers
    assert len(rates) == 9
    assert row(rates, topology="VGG-small", method="SpinBayes")["Gaussian"] == ""
    fpr = rows(text, "95 % of the suite")
    assert len(fpr) == 1  # the paper has no such number
    assert row(fpr, topology="ResNet-20", method="Proposed")["Gaussian"] == "15.00 ± 7.07"
    assert "test images" not in fpr[0]
    scores = rows(text, "mean over Gaussian, CIFAR-100")
    assert row(scores, topology="ResNet-20", method="Proposed")["variance"] == "63.75 ± 5.30"
    assert "- Absent: SVHN: data set 'svhn' not found under the data folder." in text
    assert "missing in our copy" in text
    for part in (
        "Profile cpu",
        "fingerprint f00d",
        "T = 20 (Proposed)",
        "generated, seed 0, 500 images",
        "0.1-quantile",
    ):
        assert part in text


def test_table6_averages_near_far_and_noise_apart(make):
    """Means by hand: near 0.4 and 0.6, far 0.9 alone (three suites are absent), noise 0.7."""
    numbers = {"clean/ood/rate": 0.1}
    values = {"cifar100": 0.4, "tiny_imagenet": 0.6, "textures": 0.9, "gaussian": 0.7}
    for suite, value in values.items():
        numbers |= {f"{suite}/ood/rate": 0.5, f"{suite}/ood/fpr95/predictive_entropy": 0.5}
        numbers |= {f"{suite}/ood/auroc/{score}": value for score in SCORES}
    how = {**HOW, "parts": ["clean", *values], "absent": {"svhn": "data set 'svhn' not found"}}
    text = markdown(build("table6", [make(1, study="table6", seed=1, evaluation=how, numbers=numbers)]))
    wanted = {
        "near: CIFAR-100, Tiny-ImageNet": "50.00",
        "far: Textures": "90.00",
        "noise: Gaussian": "70.00",
        "mean over Gaussian, CIFAR-100, Tiny-ImageNet, Textures": "65.00",
    }
    for heading, mean in wanted.items():
        (line,) = rows(text, heading)
        assert {line[score.replace("_", " ")] for score in SCORES} == {mean}


def test_table6_says_where_an_old_result_lacks_a_score(make):
    old = six(make, 1, 0.8)
    assert "logit variance" not in markdown(build("table6", [old]))  # no column that is empty
    new = six(make, 2, 0.9, method="ir_net", label="IR-Net", bayesian=False)
    about = [one for one in new.measurements if "ood/rate" in one.metrics and one.at["suite"] != "clean"]
    for one in about:
        one.metrics["ood/auroc/logit_variance"] = 0.25
    scores = rows(markdown(build("table6", [old, new])), "mean over Gaussian, CIFAR-100")
    assert row(scores, method="IR-Net")["logit variance"] == "25.00"
    assert row(scores, method="Proposed")["logit variance"] == "not measured"
    assert "energy" not in scores[0]


def test_table6_in_full_as_csv(make):
    frame = pd.read_csv(io.StringIO(csv(build("table6", [six(make, 1, 0.8), six(make, 2, 0.9)]))))
    (line,) = frame[(frame.suite == "gaussian") & (frame.metric == "ood/rate")].to_dict("records")
    assert (line["mean"], line["n"], line["seeds"], line["images"]) == (pytest.approx(0.85), 2, "1 2", 500)


def test_other_data_and_other_limits_are_sections_of_their_own(make):
    results = [six(make, 1, 0.8), six(make, 2, 0.9, data=DIGITS)]
    limited = six(make, 3, 0.7)
    limited.evaluation["limit"] = 2000
    limited.config["assess"] = {"limit": 2000, "parts": None}
    limited.provenance["command"] = "scaledrop assess --row=a/b --seed_everything=1 --limit=2000 --run.results=out"
    text = markdown(build("table6", [*results, limited]))
    assert text.count("detection rate (%) by the OOD rule") == 3
    assert "-- --limit=2000`" in text
    assert "## CIFAR-10, 10 epochs, at most 2000 images per part: detection rate" in text
    assert text.count("- Absent:") == 1
    assert "a stand-in: not comparable with the paper's data" in text


# --- table IX ---


def nine(make, number, accept, **changes):
    numbers = {
        "sel/accept": accept,
        "sel/reject": 1 - accept,
        "cls/acc": 0.9,
        "cal/ece": 0.03,
        "cal/adaptive_ece": 0.02,
    }
    numbers |= {f"sel/{name}": 0.5 for name in ("tpr", "tnr", "ar", "aurc", "coverage_at_risk_5")}
    numbers = {f"clean/{name}": value for name, value in numbers.items()}
    return make(number, study="table9", seed=number, evaluation=HOW, numbers=numbers, **changes)


def test_table9(make):
    text = markdown(build("table9", [nine(make, 1, 0.4), nine(make, 2, 0.5)]))
    found = rows(text, "10 epochs")
    accepted = row(found, topology="ResNet-20", quantity="accepted (%)")
    shown = [accepted[name] for name in ("CIFAR-10 (ours)", "CIFAR-10 (paper)", "difference")]
    assert shown == ["45.00 ± 7.07", "41.00", "+4.00"]
    names = [cells["quantity"] for cells in found if cells["topology"] == "ResNet-20"]
    assert len(names) == 10
    assert names[:3] == ["accepted (%)", "rejected (%)", "TPR (%): correct predictions that are accepted"]
    assert row(found, topology="ResNet-20", quantity="adaptive ECE (%)")["CIFAR-10 (ours)"] == "2.00 ± 0.00"
    assert row(found, topology="VGG-small", quantity="accepted (%)")["CIFAR-10 (paper)"] == "77.43"
    assert "68.6 %" in text


def chosen(result):
    """With what is chosen on the validation split."""
    shares = {f"sel/{name}": value for name, value in (("accept", 0.94), ("tpr", 0.97), ("tnr", 0.3), ("ar", 0.95))}
    result.at(suite="clean")["cls/nll"] = 0.5
    tempered = {"cal/temperature": 1.5, "cls/nll": 0.4, "cal/ece": 0.01}
    added = [
        Measurement({"sel/threshold": 0.6, **shares}, {"suite": "clean", "rule": "validation"}),
        Measurement(tempered, {"suite": "clean", "condition": "tempered"}),
    ]
    return replace(result, measurements=[*result.measurements, *added])


def test_table9_shows_what_is_chosen_on_the_validation_split_beside_the_rest(make):
    new = chosen(nine(make, 1, 0.4))
    old = nine(make, 2, 0.4, method="ir_net", label="IR-Net")
    found = rows(markdown(build("table9", [new, old])), "10 epochs")
    ours = {
        cells["quantity"]: cells["CIFAR-10 (ours)"]
        for cells in found
        if (cells["topology"], cells["method"]) == ("ResNet-20", "Proposed")
    }
    assert (ours["accepted (%)"], ours["accepted (%), second rule"]) == ("40.00", "94.00")
    assert (ours["TNR (%), second rule"], ours["threshold of the second rule (%)"]) == ("30.00", "60.00")
    assert (ours["NLL (nats)"], ours["NLL (nats), temperature scaled"]) == ("0.500", "0.400")
    assert (ours["ECE (%)"], ours["ECE (%), temperature scaled"], ours["temperature"]) == ("3.00", "1.00", "1.50")
    lacking = row(found, method="IR-Net", quantity="temperature")
    assert lacking["CIFAR-10 (ours)"] == "not measured"
    alone = rows(markdown(build("table9", [old])), "10 epochs")
    assert "temperature" not in {cells["quantity"] for cells in alone}


def test_table6_has_a_section_of_the_second_rule_where_it_was_measured(make):
    old, new = six(make, 1, 0.8), six(make, 2, 0.9, method="ir_net", label="IR-Net", bayesian=False)
    assert "second rule" not in markdown(build("table6", [old]))
    at_second = {"clean": 0.06, "gaussian": 0.5, "cifar100": 0.2}
    added = [
        Measurement({"ood/rate": v, "sel/threshold": 0.6}, {"suite": s, "rule": "validation"})
        for s, v in at_second.items()
    ]
    report = build("table6", [old, replace(new, measurements=[*new.measurements, *added])])
    found = rows(markdown(report), "accepts 95 % of the validation images")
    line = row(found, method="IR-Net")
    assert (line["test images"], line["Gaussian"], line["CIFAR-100"], line["SVHN"]) == (
        "6.00",
        "50.00",
        "20.00",
        "absent",
    )
    assert row(found, method="Proposed")["Gaussian"] == "not measured"
    first = rows(markdown(report), "by the OOD rule")
    assert row(first, method="IR-Net")["Gaussian"] == "90.00"  # the second rule is not mixed into it
    frame = report.data[report.data.suite == "gaussian"].set_index(["method", "metric"])["mean"]
    assert (frame["IR-Net", "ood/rate"], frame["IR-Net", "validation/ood/rate"]) == (0.9, 0.5)


def test_a_part_without_one_of_its_metrics_is_an_error_and_no_empty_cell(make, without):
    result = without(nine(make, 1, 0.4), "cal/adaptive_ece", suite="clean")
    with pytest.raises(ValueError, match="no metric cal/adaptive_ece in the results 000000000001"):
        build("table9", [result])


def test_a_misspelt_metric_or_coordinate_is_refused_where_it_is_declared():
    with pytest.raises(ValueError, match="did you mean 'cls/acc'"):
        percent("cls/ac")
    with pytest.raises(ValueError, match="did you mean 'severity'"):
        percent("cls/acc", severty=5)


def test_table9_compares_on_the_papers_data_only(make):
    limited = nine(make, 1, 0.4)
    limited.evaluation["limit"] = 500
    for results in ([nine(make, 1, 0.4, data=DIGITS)], [limited]):
        assert "difference" not in markdown(build("table9", results))


# --- table X ---


def ten(make, number, error, source="released", prefixes=("corrupted", "renormalized"), severities=(1, 2, 3, 4, 5)):
    names = list(published("table10.csv").corruption.unique())
    metrics, suites = {"clean/cls/error": 0.1}, {}
    for corruption in names:
        for severity in severities:
            suites[f"corrupted/{corruption}/{severity}"] = {"source": source, "title": "c", "images": 10}
            for prefix in prefixes:
                head = f"{prefix}/{corruption}/{severity}"
                values = {"cls/error": error * severity / 10, "ood/rate": severity / 10, "cls/nll": 1.0, "cal/ece": 0.1}
                metrics |= {f"{head}/{key}": value for key, value in values.items()}
    how = {**HOW, "suites": suites, "parts": ["clean", *suites]}
    return make(number, study="table10", seed=number, evaluation=how, numbers=metrics)


def test_table10(make):
    text = markdown(build("table10", [ten(make, 1, 0.8), ten(make, 2, 1.0)]))
    found = rows(text, "as they are, severities 1 2 3 4 5")
    fog = row(found, topology="ResNet-20", corruption="fog")
    # severities 1 to 5 have the mean 3: 0.8 * 3 / 10 = 24 % and 30 %
    errors = [fog["CIFAR-10 error (ours, %)"], fog["CIFAR-10 error, severity 5 (ours, %)"]]
    assert errors == ["27.00 ± 4.24", "45.00 ± 7.07"]
    assert (fog["CIFAR-10 OOD rate (ours, %)"], fog["CIFAR-10-C error (paper, %)"]) == ("30.00 ± 0.00", "87.63")
    assert fog["CIFAR-10-C OOD rate (paper, %)"] == "100.00"
    means = row(found, topology="ResNet-20", corruption=MEAN)
    paper = published("table10.csv").query("topology == 'ResNet-20' and renormalized == 'no'").error_percent
    assert means["CIFAR-10-C error (paper, %)"] == f"{paper.mean():.2f}"
    assert means["CIFAR-10 error (ours, %)"] == "27.00 ± 4.24"
    assert len(found) == 3 * 16
    anew = row(rows(text, "channels normalized anew, severities 1 2 3 4 5"), topology="ResNet-20", corruption="fog")
    assert anew["CIFAR-10-C error (paper, %)"] == "47.58"
    assert "difference (points)" in text


def test_table10_says_what_was_not_measured(make, without):
    result = ten(make, 1, 0.8, source="generated, seed 0", prefixes=("corrupted",), severities=(5,))
    without(result, "cls/error", corruption="fog", severity=5)
    text = markdown(build("table10", [result]))
    found = rows(text, "as they are, severity 5")
    assert row(found, topology="ResNet-20", corruption="fog")["CIFAR-10 error (ours, %)"] == ""
    assert row(found, topology="ResNet-20", corruption=MEAN)["CIFAR-10 error (ours, %)"] == ""  # no mean over a part
    assert row(found, topology="ResNet-20", corruption="snow")["CIFAR-10 error (ours, %)"] == "40.00"
    assert row(rows(text, "severities none"), topology="ResNet-20", corruption="snow")["CIFAR-10 error (ours, %)"] == ""
    assert "difference (points)" not in text  # generated images are not the paper's
    assert "Corrupted images: generated, seed 0" in text


@pytest.mark.parametrize(("name", "result"), [("table6", six), ("table9", nine), ("table10", ten)])
def test_bytes_do_not_depend_on_the_order_of_results(make, name, result):
    results = [result(make, 1, 0.8), result(make, 2, 0.9)]
    one, two = build(name, results), build(name, results[::-1])
    assert markdown(one) == markdown(two)
    assert csv(one) == csv(two)


# --- what all tables and figures say ---


def test_a_stand_in_heads_its_own_column(make):
    for name, result in (("table9", nine(make, 1, 0.4, data=DIGITS)), ("table10", ten(make, 1, 0.8))):
        result.data.update(DIGITS)
        header = [column.header for section in build(name, [result]).sections for column in section.columns.values()]
        ours = [title for title in header if "ours" in title]
        assert ours
        assert all("digits" in title and "CIFAR" not in title for title in ours)
        assert all("CIFAR-10" in title for title in header if "paper" in title)


def test_a_caption_names_the_sweep_file_of_a_study_that_has_one(make):
    run = make(2)
    assert f"Reproduce with: `scaledrop sweep sweeps/{run.study}.yaml" in " ".join(caption([run], ""))
    own = " ".join(caption([replace(run, study="mine")], ""))
    assert "sweeps/" not in own
    assert "The exact command of each run is in its JSON file." in own


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_networks_of_another_width_are_named(make, width):
    config = {"model": {"init_args": {"width": width}}}
    narrow = make(1, network="vgg_small", config=config)
    sentence = "Width, as a multiple of the paper's channels: VGG-small 0.25."
    for text in (" ".join(caption([make(2), narrow], "")), footer([make(2), narrow], "")):
        assert (sentence in text) == (width != 1)
        assert ("Width" in text) == (width != 1)


def test_suites_and_scores_have_one_name_each():
    assert GROUPS["table6"] == outliers.PAPER_SUITES
    assert {kind: GROUPS[kind] for kind in ("near", "far")} == {kind: SUITE_KINDS[kind] for kind in ("near", "far")}
    assert set(SUITE_KINDS["noise"]) == {name for name in GROUPS["table6"] if name not in ("svhn", "stl10")}
    assert set(outliers.SCORES) == set(SCORES)
    assert {f"corrupted/{name}/{severity}" for name in CORRUPTIONS for severity in shift.SEVERITIES} == set(
        GROUPS["corruptions"]
    )
    assert set(published("table10.csv").corruption) == set(CORRUPTIONS)
