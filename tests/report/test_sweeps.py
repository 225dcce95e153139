"""Tables and plots of sweeps from made-up results. SCALEDROP_PICTURES=folder keeps the pictures."""

import io
import os
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from lit_scaledrop.cli.report import main
from lit_scaledrop.cli.sweep import _report
from lit_scaledrop.evaluation.probes.variation import CHIPS
from lit_scaledrop.report.sweeps import SWEEPS, sweep_pictures, sweep_report
from lit_scaledrop.report.sweeps.recipes import variants
from lit_scaledrop.report.sweeps.responses import lines
from lit_scaledrop.report.sweeps.swept import settings, swept
from lit_scaledrop.report.table import csv, markdown
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.store import write_result
from lit_scaledrop.results.trials import Trial, write_trials

RATES = [0.05, 0.1, 0.3, [0.1, 0.2, 0.5], [0.05, 0.2, 0.5], [0.3, 0.2, 0.5], [0.1, 0.5, 0.5], [0.1, 0.2, 0.8]]
HOW = {"limit": 200, "images": 200, "parts": [], "suites": {}, "absent": {}}
RULE = {"quantile": 0.1, "threshold": 0.95, "interpolation": "linear"}


def scores(accuracy):
    return {
        "cls/acc": accuracy,
        "cls/nll": 2 - 2 * accuracy,
        "cal/ece": 0.03,
        "unc/mutual_information": 0.05 * accuracy,
        "ood/rate": 0.05,
    }


@pytest.fixture
def trained(make):
    """A result of `fit` with these settings of the model."""

    def result(number, validation, seed=1, study="ablation-dropout-rate", test=None, **model):
        config = {"model": {"init_args": {"network": "resnet20", "width": 1.0, **model}}, "seed_everything": seed}
        training, provenance = {"val_acc": validation}, {"setting": str(sorted(model.items()))}
        what = {"study": study, "seed": seed, "numbers": scores(validation - 0.05 if test is None else test)}
        return make(number, training=training, config=config, provenance=provenance, **what)

    return result


def dropout_rate(trained, _make):
    points = [(rate, seed) for rate in RATES for seed in (1, 2)]
    for number, (rate, seed) in enumerate(points, 1):
        yield trained(number, 0.8 - 0.1 * (number % 5) / 5 + 0.01 * seed, seed, p=rate)


def drop_value(trained, _make):
    points = [(value, mask) for value in ("unitary", "average", "random") for mask in ("vector", "element")]
    for number, (value, mask) in enumerate(points, 1):
        yield trained(number, 0.6 + number / 100, study="ablation-drop-value", drop_value=value, mask=mask)


def placement(trained, _make):
    points = [(per, place) for per in ("batch", "sample") for place in ("before_norm", "after_norm")]
    for number, (per, place) in enumerate(points, 1):
        kept = {"mask_per": per, "scale_placement": place}
        yield trained(number, 0.6 + number / 100, study="ablation-placement", **kept)


def search(trained, _make):
    for n in range(1, 13):
        kept = {
            "p": 0.05 * n,
            "lr": 0.005 * 1.5**n,
            "lambda_scale": 1e-4 * 2.0**n,
            "lambda_weight": 1e-6 * 1.7 ** (n % 7),
        }
        yield trained(n, 0.8 - 0.01 * abs(n - 7), study="search-proposed", **kept)


def uncertainty(_trained, make):
    for n in range(1, 13):
        kept = {"p": [0.1, 0.2, 0.5] if n % 3 else [0.5, 0.5, 0.5], "lambda_scale": 1e-4 * 2.0**n, "scale_bias": n > 6}
        nll, area = 1 + abs(n - 7) / 10, 0.5 + 0.03 * n - 0.02 * (n % 3)
        clean = {"val/predictive_nll": nll, "val/predictive_acc": 0.6, "val/predictive_ece": 0.1}
        numbers = [Measurement({**clean, "val/mutual_information": 0.01 * n}, {"suite": "validation"})]
        for kind, more in (("jigsaw", 0.05), ("ghost", -0.05)):
            areas = {"val/auroc/predictive_entropy": area + more, "val/auroc/mutual_information": area - 0.1}
            numbers.append(Measurement(areas, {"suite": kind}))
        model = {"init_args": {"network": "resnet20", **kept}}
        what = {"study": "search-uncertainty", "numbers": numbers, "provenance": {"setting": str(n)}}
        yield make(
            n, evaluation={**HOW, **RULE, "split": "validation"}, config={"model": model, "seed_everything": 1}, **what
        )


def recipe(trained, _make):
    plain = {"update": "plain", "shortcut": None, "warmup_epochs": 1.0, "lambda_weight": 5e-5}
    changes = [{}, {"update": "normalized"}, {"shortcut": "pool"}, {"warmup_epochs": 0.2}, {"lambda_weight": 1.5e-4}]
    points = [(change, seed) for change in changes for seed in (1, 2)]
    for number, (change, seed) in enumerate(points, 1):
        yield trained(number, 0.3 + number / 100, seed, study="ablation-recipe", **plain | change)


def sigma(_trained, make):
    conditions = [("", "")] + [("", s) for s in (0.05, 0.2)] + [(s, "") for s in (0.05, 0.2)]
    conditions += [(s, s) for s in (0.05, 0.2)]
    points = [(condition, seed) for condition in conditions for seed in (1, 2)]
    for number, ((train, test), seed) in enumerate(points, 1):
        yield varied(make, number, train, test, seed)


def passes(_trained, make):
    points = [(label, seed) for label in ("Proposed", "MC-Dropout (HTanh)") for seed in (1, 2)]
    for number, (label, seed) in enumerate(points, 1):
        numbers = {}
        for T in (1, 2, 5, 10, 20, 50):
            row = scores(0.7 - 0.1 / T + 0.01 * seed)
            numbers |= {f"clean/T/{T}/{name}": value for name, value in row.items()}
            for suite, area in (("uniform", 0.8), ("gaussian", 0.6), ("svhn", 0.7)):
                head = f"{suite}/T/{T}/ood/auroc"
                numbers |= {f"{head}/predictive_entropy": area - 0.1 / T, f"{head}/mutual_information": area - 0.2 / T}
        what = {"study": "ablation-passes", "label": label, "seed": seed, "numbers": numbers}
        yield make(number, evaluation={**HOW, **RULE}, **what)


def varied(make, number, train, test, seed):
    about = {"sigma": train, "device": None, "when": "train", "redraw": "use", "within": "clipped", "seed": 0}
    callback = {"class_path": "lit_scaledrop.callbacks.MTJVariation", "init_args": about}
    record = {"sigma": test, "device": None, "redraw": "use", "chip": None, "within": "clipped"}
    sizes = {"use": 0.1} | {f"chip/{n}": 0.02 * n for n in range(1, CHIPS + 1)} if test else {"nominal": 0.0}
    numbers = {}
    for part, size in sizes.items():
        row = scores(0.8 - size * (test or 0) + 0.01 * seed) | {"uniform/ood/rate": 0.7 - size * (test or 0)}
        numbers |= {f"{part}/{name}": value for name, value in row.items()}
    return make(
        number, study="ablation-sigma", seed=seed, numbers=numbers,
        evaluation={**HOW, **RULE, "variation": record if test else None},
        config={"trainer": {"callbacks": [callback] if train else None}}, provenance={"setting": f"{train} {test}"},
    )  # fmt: skip


MADE = {
    "ablation-dropout-rate": dropout_rate, "ablation-drop-value": drop_value, "ablation-placement": placement,
    "search-proposed": search, "ablation-sigma": sigma, "ablation-passes": passes,
    "ablation-recipe": recipe, "search-uncertainty": uncertainty,
}  # fmt: skip


@pytest.fixture
def studies(trained, make):
    """Results of every sweep, by its name."""
    return {name: list(maker(trained, make)) for name, maker in MADE.items()}


def cells(report):
    block = [line for line in markdown(report).splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


def test_every_sweep_has_made_up_results(studies):
    assert studies.keys() == SWEEPS.keys()


@pytest.mark.parametrize("name", SWEEPS)
def test_files_are_the_same_bytes_again(studies, tmp_path, name):
    pytest.importorskip("matplotlib")
    stem = Path(os.environ.get("SCALEDROP_PICTURES", tmp_path)) / name
    written = sweep_pictures(name, studies[name], stem)
    shown = {"search-proposed": ["response", "parallel"], "search-uncertainty": ["front"]}
    ends = shown.get(name, ["response"])
    assert [path.name for path in written] == [f"{name}-{end}.{form}" for end in ends for form in ("svg", "png")]
    again = sweep_pictures(name, studies[name][::-1], tmp_path / "again")
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(written, again, strict=True))
    assert csv(sweep_report(name, studies[name])) == csv(sweep_report(name, studies[name][::-1]))
    papers = sweep_pictures(name, studies[name], stem, forms=("pdf",))
    assert [path.name for path in papers] == [f"{name}-{end}.pdf" for end in ends]
    assert all(path.read_bytes().startswith(b"%PDF") for path in papers)


def test_what_was_swept_is_found(studies, trained):
    found = {name: swept(results) for name, results in studies.items()}
    assert found["ablation-dropout-rate"] == ["model.p"]
    assert found["ablation-drop-value"] == ["model.drop_value", "model.mask"]
    assert found["search-proposed"] == ["model.p", "model.lr", "model.lambda_scale", "model.lambda_weight"]
    run = trained(1, 0.5, p=0.1, compile_network=True)
    assert "model.compile_network" not in settings(run)  # how fast, not what
    assert swept([run, trained(2, 0.5, seed=2, p=0.1)]) == []


def test_trainings_of_one_changed_setting_are_named_by_it(studies):
    frame = sweep_report("ablation-recipe", studies["ablation-recipe"]).sections[0].frame
    named = dict(zip(variants(frame, swept(studies["ablation-recipe"])), frame.validation, strict=True))
    assert named == pytest.approx({
        "unchanged recipe": 31.5, "update normalized": 33.5, "shortcut pool": 35.5, "warm-up (epochs) 0.2": 37.5,
        "half the weight decay 0.00015": 39.5,
    })  # fmt: skip


def test_the_best_is_by_the_validation_split_alone(trained):
    results = [trained(1, 0.80, p=0.1, test=0.9), trained(2, 0.82, seed=2, p=0.1, test=0.9)]
    results += [trained(3, 0.85, p=0.3, test=0.1), trained(4, 0.87, seed=2, p=0.3, test=0.2)]
    first, second = cells(sweep_report("ablation-dropout-rate", results))
    assert (first["best"], second["best"]) == ("", "best")
    assert second["validation accuracy (%)"] == "86.00 ± 1.41"
    assert second["CIFAR-10 test accuracy (%)"] == "15.00 ± 7.07"
    assert (second["n"], second["seeds"]) == ("2", "1 2")
    frame = pd.read_csv(io.StringIO(csv(sweep_report("ablation-dropout-rate", results))))
    assert frame.best.tolist() == [False, True]
    assert frame["validation"].tolist() == pytest.approx([81, 86])


def test_of_two_runs_with_one_seed_the_newest_is_shown(trained):
    results = [trained(1, 0.5, p=0.1), trained(2, 0.6, p=0.1), trained(3, 0.4, p=0.2)]
    report = sweep_report("x", results)
    assert [row["validation accuracy (%)"] for row in cells(report)] == ["60.00", "40.00"]
    assert report.notes == ["Of two runs with seed 1, 000000000002 is shown and 000000000001 is left out."]


def test_a_search_by_two_goals_marks_its_front(studies):
    rows = cells(sweep_report("search-uncertainty", studies["search-uncertainty"]))
    assert len(rows) == 12
    values = [(float(row["validation NLL"]), float(row["AUROC by entropy (%)"])) for row in rows]
    assert values == sorted(values, key=lambda value: value[0])
    assert values[0] == (1.0, 69.0)  # the seventh: 0.5 + 0.21 - 0.02, the mean of two kinds
    beaten = [any(x <= nll and y >= area and (x, y) != (nll, area) for x, y in values) for nll, area in values]
    assert [row["front"] == "front" for row in rows] == [not one for one in beaten]
    assert beaten.count(False) == 6
    assert rows[0]["affine"] == "True"
    again = "`scaledrop sweep sweeps/search-uncertainty.yaml --profile cpu --runs 12`"
    assert again in markdown(sweep_report("search-uncertainty", studies["search-uncertainty"]))


def test_a_training_that_lacks_a_kind_of_outliers_is_not_on_the_front(studies, without):
    results = studies["search-uncertainty"]
    without(results[6], suite="ghost")  # the one with the best likelihood
    rows = cells(sweep_report("search-uncertainty", results))
    assert (rows[0]["validation NLL"], rows[0]["AUROC by entropy (%)"], rows[0]["front"]) == ("1.000", "", "")
    assert [row["front"] for row in rows].count("front") == 5


def test_lists_become_a_line_for_each_place(studies):
    frame = sweep_report("ablation-dropout-rate", studies["ablation-dropout-rate"]).sections[0].frame
    found = {line.name: line.x for line in lines(frame, ["model.p"])}
    assert found == {
        "one for all": [0.05, 0.1, 0.3],
        "small layers": [0.05, 0.1, 0.3],
        "middle layers": [0.2, 0.5],
        "large layers": [0.5, 0.8],
    }


def test_lengths_and_data_are_never_mixed(trained, tmp_path):
    results = [trained(1, 0.5, p=0.1), trained(2, 0.6, p=0.2), trained(3, 0.4, p=0.1), trained(4, 0.4, p=0.2)]
    for run in results[2:]:
        run.training["epochs"] = 4
    report = sweep_report("ablation-dropout-rate", results)
    assert [section.heading for section in report.sections] == ["CIFAR-10, 4 epochs", "CIFAR-10, 10 epochs"]
    assert report.data.best.sum() == 2
    pytest.importorskip("matplotlib")
    names = [path.name for path in sweep_pictures("ablation-dropout-rate", results, tmp_path / "a")]
    assert names[1::2] == ["a-response-cifar10-4epochs-f00d.png", "a-response-cifar10-10epochs-f00d.png"]


def test_sigma_is_asked_of_uses_and_chips(studies):
    rows = {
        (row["p varies"], row["sigma or device"]): row
        for row in cells(sweep_report("ablation-sigma", studies["ablation-sigma"]))
    }
    assert [key[0] for key in rows] == ["no variation"] + ["at test only"] * 2 + ["in training only"] * 2 + [
        "in both"
    ] * 2
    both = rows["in both", "0.2"]
    assert both["CIFAR-10 test accuracy (%)"].startswith("79.50")  # 0.8 - 0.1 x 0.2 + 0.015
    assert both[f"{CHIPS} chips, accuracy (%)"].startswith("79.30")  # the mean of 0.02 x (1 ... 10) is 0.11
    assert rows["in training only", "0.2"][f"{CHIPS} chips, accuracy (%)"] == ""
    assert rows["at test only", "0.05"]["noise rejected (%)"].startswith("69.50")


def test_passes_are_lines_and_suites_are_means(studies, without):
    rows = cells(sweep_report("ablation-passes", studies["ablation-passes"]))
    assert [(row["method"], row["T"]) for row in rows[5:7]] == [("MC-Dropout (HTanh)", "50"), ("Proposed", "1")]
    assert rows[6]["CIFAR-10 test accuracy (%)"] == "61.50 ± 0.71"
    assert rows[6]["AUROC of pure noise by entropy (%)"] == "60.0 ± 0.0"
    assert rows[6]["AUROC of other images by mutual information (%)"] == "50.0 ± 0.0"
    for run in studies["ablation-passes"]:
        without(run, suite="svhn")
    assert (
        "AUROC of other images by entropy (%)"
        not in cells(sweep_report("ablation-passes", studies["ablation-passes"]))[0]
    )
    run.measurements[:] = [Measurement({"x": 1.0})]
    with pytest.raises(ValueError, match="has no numbers by T"):
        sweep_report("ablation-passes", [run])


def test_what_was_not_trained_is_refused(make):
    made = make(1, training={"monitored": {"val/f1": 0.5}})
    del made.training["val_acc"]
    with pytest.raises(ValueError, match="no validation accuracy"):
        sweep_report("x", [made])


def test_trainings_of_segmentation_have_a_table_and_pictures_as_well(make, tmp_path):
    made = []
    for number, iou in ((1, 0.5), (2, 0.7)):
        config = {"model": {"init_args": {"lr": 0.01 * number}}}
        numbers = {"seg/iou": iou, "seg/nll": 0.25, "cal/ece": 0.03}
        made.append(make(number, training={"val_iou": iou - 0.1}, numbers=numbers, config=config, study="scans"))
        del made[-1].training["val_acc"]
    (section,) = sweep_report("scans", made).sections
    assert section.frame.iou.tolist() == pytest.approx([50, 70])
    assert section.frame.validation.tolist() == pytest.approx([40, 60])
    assert section.frame.best.tolist() == [False, True]
    text = markdown(sweep_report("scans", made))
    assert "validation IoU (%)" in text
    assert "accuracy" not in text
    written = sweep_pictures("scans", made, tmp_path / "scans")
    assert "Validation IoU (%)" in next(path for path in written if path.suffix == ".svg").read_text()


def test_what_a_search_stopped_is_named_and_drawn(studies, tmp_path, capsys):
    results = studies["search-proposed"]
    for run in results:
        write_result(run, tmp_path)
    values = {"model.p": 0.2, "model.lr": 0.1, "model.lambda_scale": 0.5, "model.lambda_weight": 1e-5}
    table = tmp_path / "cpu" / "search-proposed" / "search-0.jsonl"
    ends = [("finished", ""), ("stopped", "hyperband, val/acc 0.4"), ("failed", "it broke")]
    write_trials(table, [Trial(number, values, "", state, 0.4, why) for number, (state, why) in enumerate(ends)])
    assert main(["search-proposed", "--results", str(tmp_path), "--profile", "cpu", "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert "- try-001 stopped, hyperband, val/acc 0.4 (model.p 0.2, model.lr 0.1," in out
    assert "- try-002 failed, it broke" in out
    assert "try-000" not in out
    if find_spec("matplotlib"):
        picture = (tmp_path / "cpu" / "search-proposed-parallel.png").read_bytes()
        sweep_pictures("search-proposed", results, tmp_path / "without")
        assert picture != (tmp_path / "without-parallel.png").read_bytes()
    table.write_text("no table\n")
    assert main(["search-proposed", "--results", str(tmp_path), "--profile", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "move the file away" in printed.err
    assert "80.00 best" in printed.out
    assert "try-001" not in printed.out


def test_a_sweep_ends_with_its_table(trained, tmp_path, capsys):
    for number, name in enumerate(("ablation-dropout-rate", "table3"), 1):
        write_result(trained(number, 0.5, study=name, p=0.1), tmp_path)
        _report(tmp_path / "cpu" / name)
    out = capsys.readouterr().out
    assert "Drop probability, for all layers" in out
    assert "Table III" not in out  # which `make` prints
    assert (tmp_path / "cpu" / "ablation-dropout-rate.md").exists()


def test_settings_without_an_order_stand_side_by_side(trained, tmp_path):
    """Lists, words and nothing beside another setting."""
    points = [(p, value) for p in (None, 0.1, [0.1, 0.2, 0.5]) for value in ("unitary", None)]
    results = [trained(number, 0.5, p=p, drop_value=value) for number, (p, value) in enumerate(points, 1)]
    frame = sweep_report("x", results).sections[0].frame
    found = {line.name: len(line.x) for line in lines(frame, ["model.p", "model.drop_value"])}
    assert found == {"default": 3, "unitary": 3}
    if find_spec("matplotlib"):
        assert len(sweep_pictures("x", results, tmp_path / "x")) == 2


def test_command_shows_any_folder_of_trainings(trained, tmp_path, capsys):
    for n in range(1, 5):
        write_result(trained(n, 0.5 + n / 10, study="my-sweep", lr=0.1 * n), tmp_path)
    assert main(["my-sweep", "--results", str(tmp_path), "--profile", "cpu", "--format", "markdown"]) == 0
    out = capsys.readouterr()
    assert "# Trainings of my-sweep" in out.out
    assert "| learning rate" in out.out
    names = {path.name for path in (tmp_path / "cpu").glob("my-sweep*.*")}
    assert {"my-sweep.md", "my-sweep.csv"} <= names
    assert main(["ablation-sigma", "--results", str(tmp_path), "--profile", "cpu"]) == 1
    assert "sweep sweeps/ablation-sigma.yaml --profile cpu" in capsys.readouterr().err
    assert main(["ablation-sgima", "--results", str(tmp_path)]) == 2
    assert "did you mean 'ablation-sigma'?" in capsys.readouterr().err
