"""Evaluation of checkpoints: the numbers of the record again, and test-time settings that take effect."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import datamodules
from lit_scaledrop.__main__ import main
from lit_scaledrop.evaluation import evaluate
from lit_scaledrop.evaluation.checkpoint import CheckpointError, fit_weights, load_trained, read_checkpoint
from lit_scaledrop.evaluation.evaluate import evaluate_network, normalized_test_set
from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.metrics.classification import classification_metrics
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.diagnosis import diagnose
from lit_scaledrop.posterior.drop_probability import set_drop_probability
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.mixture_norm import reestimate_norms
from lit_scaledrop.posterior.plans import draw_plan
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.results.store import read_result


class RecordedCIFAR10(datamodules.CIFAR10DataModule):
    def __init__(self, **kwargs):
        super().__init__(checksums="recorded", **kwargs)


@pytest.fixture
def run(place, finished, monkeypatch, capsys):
    """``scaledrop evaluate`` on copies of the finished run's checkpoint."""
    monkeypatch.setitem(datamodules.DATAMODULES, "cifar10", RecordedCIFAR10)
    (best,) = finished.glob("runs/quick/tiny/*/checkpoints/best*.ckpt")
    shutil.copy(best, "a.ckpt")

    def evaluate(*words: str) -> dict:
        assert main(["evaluate", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return evaluate


@pytest.fixture
def refused(run, capsys):
    def evaluate(*words: str) -> str:
        assert main(["evaluate", *words]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        return err

    return evaluate


def test_same_numbers_as_the_record(run, finished):
    (path,) = finished.glob("results/quick/tiny/*.json")
    result = read_result(path)
    record = run("a.ckpt", "--data=cifar10", "--samples=3", "--execution=loop", "--out=out.json")
    assert record["metrics"] == result.metrics
    assert record["data"]["fingerprint"] == result.data["fingerprint"]
    assert record["evaluation"]["samples"] == 3
    assert record["evaluation"]["images"] == 60
    assert json.loads(Path("out.json").read_text()) == record
    for words, execution in (([], "shared"), (["--execution=folded"], "folded")):
        other = run("a.ckpt", "--data=cifar10", "--samples=3", *words)
        assert other["evaluation"]["execution"] == execution
        assert other["metrics"] == pytest.approx(result.metrics, abs=1e-6)


def test_a_terminal_gets_a_table_in_place_of_json(run, monkeypatch, capsys):
    record = run("a.ckpt", "--data=cifar10", "--samples=3")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["evaluate", "a.ckpt", "--data=cifar10", "--samples=3", "--out=out.json"]) == 0
    out = capsys.readouterr().out
    head, _, *rows = out.splitlines()
    assert head.startswith("a.ckpt: 60 test images of cifar10, T = 3, ")
    assert [row.split()[:2] for row in rows] == [[key, f"{value:.4f}"] for key, value in record["metrics"].items()]
    assert "  Accuracy: share of examples" in out
    assert max(map(len, rows)) <= 80
    assert json.loads(Path("out.json").read_text())["metrics"] == record["metrics"]


def test_summary_of_a_checkpoint_diagnoses_it_as_the_training_did(run, finished, capsys):
    (path,) = finished.glob("results/quick/tiny/*.json")
    result = read_result(path)
    assert main(["summary", "--checkpoint=a.ckpt", "--samples=3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lenet5, Proposed")
    assert "random bits" in out
    information = result.at(suite="validation")["unc/mutual_information"]
    assert out.splitlines()[-1].startswith(f"the passes agree: mutual information is {information:.4f} nats on 20 ")
    layers = [one for one in result.measurements if "layer" in one.at]
    assert len(layers) == 3
    for one in layers:
        (line,) = [line.split() for line in out.splitlines() if line.startswith(f"{one.at['layer']} ") and "%" in line]
        assert line[1] == f"{100 * one.metrics['unc/layer_moved']:.2f}"
        assert f"{one.metrics['unc/layer_information']:.5f}" in line
    assert any(one.metrics["unc/layer_moved"] > 0 for one in layers)


def test_summary_looks_at_the_images_that_were_held_out(run, monkeypatch, capsys):
    seen = []

    def looked(network, images, samples):
        seen.append(images)
        return diagnose(network, images, samples)

    monkeypatch.setattr(evaluate, "diagnose", looked)
    checkpoint = read_checkpoint("a.ckpt")
    assert checkpoint["split"] == {"val_fraction": 0.1, "split_seed": 0}
    torch.save({**checkpoint, "split": {"val_fraction": 0.2, "split_seed": 5}}, "b.ckpt")
    del checkpoint["split"]
    torch.save(checkpoint, "old.ckpt")
    for name, split in (("a.ckpt", {}), ("b.ckpt", {"val_fraction": 0.2, "split_seed": 5}), ("old.ckpt", {})):
        assert main(["summary", f"--checkpoint={name}", "--samples=3", "--images=15"]) == 0
        data = RecordedCIFAR10(**split)
        data.setup()
        assert torch.equal(seen.pop(), data.normalized(data.val_set.images[:15]))
        said = "those of the default split (val_fraction 0.1, split_seed 0)" in capsys.readouterr().out
        assert said == (name == "old.ckpt")
    # other data has no images that were trained on
    monkeypatch.setitem(datamodules.DATAMODULES, "other", RecordedCIFAR10)
    assert main(["summary", "--checkpoint=b.ckpt", "--samples=3", "--images=15", "--data=other"]) == 0
    data = RecordedCIFAR10()
    data.setup()
    assert torch.equal(seen.pop(), data.normalized(data.val_set.images[:15]))


def test_a_checkpoint_is_read_once(run, monkeypatch):
    load, reads = torch.load, []
    monkeypatch.setattr(torch, "load", lambda path, **options: reads.append(path) or load(path, **options))
    assert main(["summary", "--checkpoint=a.ckpt", "--samples=3"]) == 0
    assert [path.name for path in reads] == ["a.ckpt"]


def called(words):
    """Exit status of a command line, also where the parser exits by itself."""
    try:
        return main(words)
    except SystemExit as left:
        return left.code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lenet5", "proposed", "--checkpoint=a.ckpt"], "the checkpoint defines the network"),
        (["lenet5"], "name a network and a method, or give --checkpoint FILE"),
        (["--checkpoint=a.ckpt", "--width=0.5"], "the checkpoint defines the network"),
        (["lenet5", "proposed", "--data=cifar10"], "are for trained networks"),
        (["lenet5", "proposed", "--root=data"], "are for trained networks"),
        (["lenet5", "proposed", "--samples=20"], "are for trained networks"),
        (["lenet5", "proposed", "--width=0"], "width must be above 0"),
        (["--checkpoint=a.ckpt", "--images=0"], "--images and --samples must be at least 1"),
        (["--checkpoint=a.ckpt", "--samples=0"], "--images and --samples must be at least 1"),
        (["--checkpoint=a.ckpt", "--data=mnist"], "a.ckpt takes 3 channels and tells 10 classes apart; mnist has 1"),
        (["--checkpoint=a.ckpt", "--data=cifar01"], "did you mean 'cifar10'"),
    ],
)
def test_summary_refuses_what_does_not_go_together(run, words, message, capsys):
    assert called(["summary", *words]) in (1, 2)
    assert message in capsys.readouterr().err


def test_running_statistics_under_the_masks_of_the_evaluation(run, refused, monkeypatch):
    words = ("a.ckpt", "--data=cifar10", "--samples=3", "--norm-images=120")
    base, one, two = run(*words[:-1]), run(*words), run(*words)
    assert one["metrics"] == two["metrics"]
    assert (one["norm_images"], "norm_images" in base) == (120, False)
    assert one["metrics"]["cls/nll"] != base["metrics"]["cls/nll"]
    module, model = RecordedCIFAR10(), load_trained("a.ckpt")
    module.setup("test")
    images = module.normalized(module.train_set.images[:120])
    reestimate_norms(model.network, [images[:50], images[50:]], draw_plan(model.network, 3, 0))
    measured = model.test_metrics(Evaluation(samples=3))
    by_hand, _ = evaluate_network(model.network, normalized_test_set(module), Evaluation(samples=3), measured)
    assert by_hand == one["metrics"]
    exact = run("a.ckpt", "--data=cifar10", "--execution=exact", "--norm-images=50")
    assert exact["metrics"]["cls/nll"] != one["metrics"]["cls/nll"]
    assert "remove the chip file or the images" in refused(*words[:3], "--norm-images=50", "--chip=sot_80nm")
    monkeypatch.setattr(evaluate, "MOST_MASKS", 7)
    assert "8 are more than 7: use execution=shared" in refused(*words[:2], "--execution=exact", "--norm-images=50")
    for wrong in (49, 181):
        assert f"50 to 180 training images, got {wrong}" in refused(
            "a.ckpt", "--data=cifar10", f"--norm-images={wrong}"
        )


@pytest.mark.parametrize(
    ("words", "masks"),
    [
        (["--execution=auto", "--samples=20"], 8),
        (["--sigma=0.3", "--samples=9"], 9),
        (["--mtj=sot_80nm", "--redraw=chip", "--chip=3", "--samples=9"], 9),
        (["--sigma=0.05", "--redraw=chip", "--chip=3", "--execution=exact"], 8),
        (["--correlation=0.7", "--execution=auto", "--samples=9"], 9),
        (["--scheme=stratified", "--seed=4", "--samples=9"], 9),
    ],
)
def test_running_statistics_see_the_plan_that_is_evaluated(run, words, masks, monkeypatch):
    shutil.copy("a.ckpt", "b.ckpt")
    asked, seen = [], []

    def built(*arguments):
        asked.append(build_posterior(*arguments))
        return asked[-1]

    def estimated(network, batches, plan):
        seen.append(plan)
        return reestimate_norms(network, batches, plan)

    monkeypatch.setattr(evaluate, "build_posterior", built)
    monkeypatch.setattr(evaluate, "reestimate_norms", estimated)
    run("a.ckpt", "b.ckpt", "--data=cifar10", "--norm-images=50", *words)
    evaluated = asked[-1].plans
    assert [plan.samples for plan in seen] == [masks] * 2
    for one, other in zip(seen, evaluated, strict=True):
        assert all(torch.equal(one.draws[name], other.draws[name]) for name in other.draws)
        assert (one.weights is None) == (other.weights is None)
        assert one.weights is None or torch.equal(one.weights, other.weights)


def test_settings_take_effect(run):
    base = run("a.ckpt", "--data=cifar10", "--samples=8")["metrics"]
    one = run("a.ckpt", "--data=cifar10", "--samples=1")
    assert one["evaluation"]["samples"] == 1
    assert one["metrics"]["unc/mutual_information"] == pytest.approx(0, abs=1e-7)
    assert base["unc/mutual_information"] > 0
    assert run("a.ckpt", "--data=cifar10", "--samples=8", "--seed=1")["metrics"] != base
    # an input is foreign where its confidence is below the threshold
    assert run("a.ckpt", "--data=cifar10", "--samples=8", "--threshold=0")["metrics"]["ood/rate"] == 0
    assert run("a.ckpt", "--data=cifar10", "--samples=8", "--threshold=1")["metrics"]["ood/rate"] == 1
    rates = [
        run("a.ckpt", "--data=cifar10", "--samples=8", f"--quantile={q}", "--threshold=0.3")["metrics"]["ood/rate"]
        for q in (0.0, 1.0)
    ]
    assert rates[0] >= rates[1]


def test_drop_probability_is_the_one_asked_for(run):
    """Every pass with p = 0 keeps, with p = 1 drops, every scale: no randomness, but different networks."""
    kept, dropped = (run("a.ckpt", "--data=cifar10", "--samples=4", f"--p={p}") for p in (0, 1))
    for record, p in ((kept, 0.0), (dropped, 1.0)):
        assert record["p"] == p
        assert record["metrics"]["unc/mutual_information"] == pytest.approx(0, abs=1e-7)
    assert kept["metrics"]["cls/nll"] != dropped["metrics"]["cls/nll"]
    data = RecordedCIFAR10()
    network = load_trained("a.ckpt").network
    with torch.no_grad():
        logits, labels = zip(*((network(x), y) for x, y in normalized_test_set(data)), strict=True)
    expected = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(labels))
    assert kept["metrics"]["cls/nll"] == pytest.approx(float(expected), rel=1e-5)


def test_two_checkpoints_are_an_ensemble(run):
    other = LitClassifier(**{**load_trained("a.ckpt").hparams, "p": 0.5})
    checkpoint = read_checkpoint("a.ckpt")
    torch.save({**checkpoint, "state_dict": other.state_dict()}, "b.ckpt")
    record = run("a.ckpt", "b.ckpt", "--data=cifar10", "--samples=3")
    assert record["evaluation"]["samples"] == 6
    assert record["checkpoints"] == ["a.ckpt", "b.ckpt"]
    assert record["network"] == ["lenet5", "lenet5"]
    members = [load_trained(path).network for path in ("a.ckpt", "b.ckpt")]
    data = RecordedCIFAR10()
    direct, _ = evaluate_network(members, normalized_test_set(data), Evaluation(samples=3), classification_metrics(10))
    assert record["metrics"] == direct


def test_data_by_the_name_of_its_class(run):
    first, second = (run("a.ckpt", f"--data={name}", "--samples=2") for name in ("cifar10", "RecordedCIFAR10"))
    assert first["metrics"] == second["metrics"]


def test_bad_input(refused, tmp_path_factory, monkeypatch):
    assert "unknown data set 'cifar'; did you mean 'cifar10'?" in refused("a.ckpt", "--data=cifar")
    root = tmp_path_factory.mktemp("mnist")
    assert f"--data is a name, and {root} a folder: --images {root} reads" in refused("a.ckpt", f"--data={root}")
    message = refused("a.ckpt", "--data=mnist", f"--root={root}")
    assert "a.ckpt takes 3 channels and tells 10 classes apart; mnist has 1 and 10" in message
    assert "no checkpoint b.ckpt" in refused("b.ckpt", "--data=cifar10")
    assert "samples (T) must be at least 1, got 0" in refused("a.ckpt", "--data=cifar10", "--samples=0")
    assert "must lie in [0, 1], got 1.5" in refused("a.ckpt", "--data=cifar10", "--p=1.5")
    assert "must lie in [0, 1], got nan" in refused("a.ckpt", "--data=cifar10", "--p=nan")
    assert "quantile must lie in [0, 1]" in refused("a.ckpt", "--data=cifar10", "--quantile=1.1")
    assert "not found under nowhere" in refused("a.ckpt", "--data=cifar10", "--root=nowhere")
    os.truncate("a.ckpt", 3000)
    assert "a.ckpt is no checkpoint, or it is damaged" in refused("a.ckpt", "--data=cifar10")
    Path("a.ckpt").write_bytes(b"")
    assert "a.ckpt is no checkpoint, or it is damaged" in refused("a.ckpt", "--data=cifar10")
    torch.save({"weights": torch.ones(2)}, "c.ckpt")
    assert "c.ckpt is no checkpoint of a run" in refused("c.ckpt", "--data=cifar10")


def test_misspelt_flag(run, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "a.ckpt", "--data=cifar10", "--sampels=3"])
    assert stop.value.code == 2
    assert "--sampels=3" in capsys.readouterr().err


def test_weights_that_do_not_fit():
    small, large = (LitClassifier("lenet5", width=width) for width in (0.25, 0.5))
    with pytest.raises(CheckpointError, match=r"x\.ckpt belongs to another network: \d+ tensors differ, first network"):
        fit_weights(small, large.state_dict(), "x.ckpt")
    fit_weights(large, LitClassifier("lenet5", width=0.5, p=0.9).state_dict(), "x.ckpt")


def test_set_drop_probability():
    network = LitClassifier("lenet5", width=0.25).network
    set_drop_probability(network, 0.75)
    layers = [layer for layer in network.modules() if isinstance(layer, StochasticLayer)]
    assert [float(layer.get_buffer("p")) for layer in layers] == [0.75] * 3
    with pytest.raises(ValueError, match="deterministic: there is no drop probability"):
        set_drop_probability(LitClassifier("lenet5", "fp").network, 0.5)


def test_metrics_do_not_depend_on_how_the_images_are_batched():
    torch.manual_seed(0)
    network = LitClassifier("lenet5", width=0.25, p=0.5).network
    images, labels = torch.randn(30, 3, 32, 32), torch.arange(30) % 10
    state = torch.get_rng_state()
    results = []
    for n in (30, 7, 1):
        batches = zip(images.split(n), labels.split(n), strict=True)
        results.append(evaluate_network(network, batches, Evaluation(samples=5), classification_metrics(10)))
    for metrics, how in results[1:]:
        assert metrics == pytest.approx(results[0][0], abs=1e-5)
        assert how["images"] == 30
    prediction = PosteriorPredictive(network, 5)(images)
    accuracy = (prediction.mean.argmax(-1) == labels).float().mean()
    assert results[0][0]["cls/acc"] == pytest.approx(float(accuracy))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="no images"):
        evaluate_network(network, [], Evaluation(), classification_metrics(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"samples": 0}, "at least 1"), ({"quantile": -0.1}, "quantile"), ({"threshold": 1.1}, "threshold")],
)
def test_evaluation_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(**arguments)
