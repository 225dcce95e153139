"""Table V from made-up results."""

import pytest

from lit_scaledrop.report.table import csv, markdown
from lit_scaledrop.report.tables import build

METRICS = {
    "seg/acc": 0.95, "seg/iou": 0.7, "seg/auc": 0.96, "seg/f1": 0.82, "seg/sensitivity": 0.8, "seg/specificity": 0.97,
    "seg/precision": 0.84, "seg/image_iou": 0.66, "seg/image_dice": 0.75, "seg/nll": 0.2, "cal/ece": 0.02,
    "err/auroc": 0.9, "err/pavpu": 0.93,
}  # fmt: skip


@pytest.fixture
def segmented(make):
    def run(number, iou=0.7, fold=0, seed=1, lr=0.001, name="breast_ultrasound", **changes):
        data = {"name": name, "stand_in": name == "phantom", "train": 500, "val": 80, "test": 200}
        config = {
            "data": {"init_args": {"image_size": 128, "fold": fold, "seed": seed}},
            "model": {"init_args": {"width": 0.25, "lr": lr}},
        }
        what = {
            "study": "table5",
            "network": "segnet",
            "bits_a": 4,
            "seed": seed,
            "numbers": {**METRICS, "seg/iou": iou},
        }
        return make(number, data=data, config=config, **what, **changes)

    return run


def test_ours_stands_beside_the_papers_and_folds_are_runs_of_one_row(segmented):
    report = build("table5", [segmented(1, 0.6, fold=0), segmented(2, 0.8, fold=1)])
    (section,) = report.sections
    row = section.frame[section.frame.n.notna()].iloc[0]
    assert (row.topology, row.method, row.n) == ("Bayesian SegNet", "Proposed", 2)
    assert (row.iou, row.paper_iou) == (pytest.approx(70), 69.69)
    assert row.iou_std == pytest.approx(14.142, abs=1e-3)
    assert row.runs == "seeds 1, folds 0 1"
    text = markdown(report)
    assert "70.00 ± 14.14 (69.69)" in text
    assert "(56.12)" in text  # a row of the paper's that we have not run
    assert "Bayesian SegNet" in csv(report)


def test_folds_make_intervals_and_are_compared_with_fp_fold_by_fold(segmented):
    ours, reference = [0.6, 0.8, 0.7], [0.5, 0.6, 0.7]
    runs = [segmented(i, iou, fold=i) for i, iou in enumerate(ours)]
    runs += [segmented(9 + i, iou, fold=i, method="fp", label="FP") for i, iou in enumerate(reference)]
    # a fold that FP lacks has no partner
    runs.append(segmented(20, 0.9, fold=3))
    for run in runs:
        fold = run.config["data"]["init_args"]["fold"]
        run.data.update(source=f"slices; test: part {fold} of 5", test=20 - (fold == 1))
    text = markdown(build("table5", runs))
    assert "slices; test: parts 0, 1, 2, 3 of 5" in text
    assert "and 19 to 20 test images" in text
    # t of 2 degrees of freedom: 4.303, of 3: 3.182
    assert "Bayesian SegNet FP 60.0 (35.2 to 84.8)" in text
    assert "Bayesian SegNet Proposed 75.0 (54.5 to 95.5)" in text
    assert "Bayesian SegNet Proposed +10.0 (-14.8 to +34.8)" in text
    assert "Folds share training images" in text
    seeds = markdown(build("table5", [segmented(seed, iou, seed=seed) for seed, iou in ((1, 0.6), (2, 0.8))]))
    assert "95 % interval" in seeds
    assert "Folds share" not in seeds
    single = markdown(build("table5", [segmented(1)]))
    assert "interval" not in single


def test_a_missing_metric_is_an_empty_cell(segmented):
    result = segmented(1)
    del result.metrics["err/auroc"]
    (section,) = build("table5", [result]).sections
    row = section.frame[section.frame.n.notna()].to_dict("records")[0]
    assert section.columns["error_auroc"].cell(row) == ""
    assert section.columns["ece"].cell(row) == "2.00"


def test_older_settings_are_left_out_and_named(segmented):
    report = build("table5", [segmented(1, 0.1, lr=0.5), segmented(2, 0.8)])
    assert report.sections[0].frame.iou.max() == pytest.approx(80)
    assert any("000000000001" in note for note in report.notes)


def test_data_sets_and_stand_ins_stay_apart(segmented):
    sections = build("table5", [segmented(1), segmented(2, name="covid_ct"), segmented(3, name="phantom")]).sections
    assert [section.heading for section in sections] == [
        "Breast Cancer, 10 epochs",
        "COVID-19 Lung CT, 10 epochs",
        "phantom, 10 epochs",
    ]
    assert sections[2].frame.filter(like="paper_").isna().all(axis=None)


def test_results_of_a_classifier_are_refused(make):
    with pytest.raises(ValueError, match="no metric seg/iou"):
        build("table5", [make()])
