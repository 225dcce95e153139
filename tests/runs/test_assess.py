"""`scaledrop assess`: a trained run, measured part by part; what survives, what is repeated, what is never replaced."""

import json
import re
import shutil
import types
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import datamodules.suites.suites
from datamodules import DatasetNotFoundError
from lit_scaledrop.__main__ import main
from lit_scaledrop.cli.assess import plan_assessment, planned_assessment
from lit_scaledrop.cli.fit import fit, plan_fit, planned_result
from lit_scaledrop.evaluation import probes
from lit_scaledrop.evaluation.checkpoint import load_trained, weights_digest
from lit_scaledrop.evaluation.probes import PROBES, Probe, Subject
from lit_scaledrop.evaluation.probes.parts import MeasuredPart, read_part
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.measurement import Measurement, flat_names
from lit_scaledrop.results.store import read_result
from lit_scaledrop.runs.run import UNFINISHED, Run, find_network

FLAGS = ["--config", "tiny.yaml"]
ASSESS = ["assess", "--probe", "table6", *FLAGS]
GROUPS = {
    "table6": ("gaussian", "svhn"),
    "near": (),
    "far": ("svhn", "mnist"),
    "corruptions": ("corrupted/fog/1", "corrupted/fog/5"),
}


@dataclass(frozen=True, eq=False)
class FakeSuite:
    name: str
    images: torch.Tensor
    labels: torch.Tensor | None = None
    normalized: bool = False
    title: str = "A suite"
    kind: str = "noise"
    source: str = "generated, seed 0"
    fingerprint: str = "f00d"


def load_suite(name, data, limit=None, seed=0):
    if name == "svhn":
        raise DatasetNotFoundError(f"data set 'svhn' not found under {data.root}.\nfetch it")
    test = data.test_set
    generator = torch.Generator().manual_seed(1)
    if name == "gaussian":
        images = torch.randn(len(test.images[:limit]), 3, 32, 32, generator=generator)
        return FakeSuite(name, images, normalized=True)
    return FakeSuite(name, 255 - test.images[:limit], test.labels[:limit])


@pytest.fixture
def suites(monkeypatch):
    """Small suites of our own."""
    for module in ("datamodules.suites.suites", "lit_scaledrop.evaluation.probes.subject"):
        monkeypatch.setattr(f"{module}.load_suite", load_suite, raising=False)
    for name, members in GROUPS.items():
        monkeypatch.setitem(datamodules.suites.suites.GROUPS, name, members)


@pytest.fixture
def trained(place, finished, suites):
    """A place in which the tiny run is finished."""
    shutil.copytree(finished, place, dirs_exist_ok=True)
    return place


def only(pattern: str) -> Path:
    (path,) = Path().glob(pattern)
    return path


def the_result(probe="table6"):
    return read_result(only(f"results/quick/{probe}/*.json"))


def parts() -> dict[str, Path]:
    return {path.stem: path for path in Path().glob("runs/quick/tiny/*/probes/*/*.json")}


def subject(**changes) -> Subject:
    images = types.SimpleNamespace(images=torch.rand(20, 3, 32, 32) * 255, labels=torch.arange(20) % 10)
    facts = {"eval_batch_size": 7, "num_classes": 10, "name": "x"}
    data = types.SimpleNamespace(**facts, normalized=lambda x: x / 255, test_set=images)
    torch.manual_seed(0)
    network = LitClassifier("lenet5", width=0.25, p=0.5).network
    return Subject([network], data, **{"evaluation": Evaluation(samples=4), **changes})


# --- the subject ---


def test_predictions_do_not_depend_on_execution_and_are_those_of_the_posterior():
    loop, auto = subject(), subject(evaluation=Evaluation(samples=4, execution="auto"))
    seen = []
    loop.on_batch = lambda done, total: seen.append((done, total))
    images = loop.data.test_set.images
    prediction = loop.predict(images)
    assert seen == [(7, 20), (14, 20), (20, 20)]
    assert prediction.logits.shape == (4, 20, 10)
    torch.testing.assert_close(auto.predict(images).logits, prediction.logits)
    torch.testing.assert_close(prediction.logits, loop.posterior()(images / 255).logits)
    torch.testing.assert_close(loop.predict(images / 255, normalized=True).logits, prediction.logits)
    assert loop.predict(images, samples=6).num_samples == 6
    with pytest.raises(ValueError, match="no images"):
        loop.predict(images[:0])


def test_auto_keeps_the_passes_that_were_asked_for_and_exact_takes_all_masks():
    """LeNet-5 has 8 masks, which 40 passes cost more than: a plain `auto` would turn to them."""
    images = torch.rand(3, 3, 32, 32)
    auto = subject(evaluation=Evaluation(samples=40, execution="auto"))
    assert auto.predict(images).num_samples == 40
    assert auto.posterior().choice in ("shared", "folded", "loop")
    exact = subject(evaluation=Evaluation(samples=40, execution="exact"))
    assert exact.predict(images).weights is not None


def test_limit_and_cache():
    one = subject(limit=5)
    images, labels, prediction = one.clean()
    assert len(images) == len(labels) == prediction.logits.shape[1] == 5
    assert one.clean()[2] is prediction


# --- the command ---


def test_table6_of_a_finished_run(trained, capsys):
    assert main(ASSESS) == 0
    out, err = capsys.readouterr()
    assert "epoch" not in err  # nothing was trained
    assert "[2/4] gaussian: " in err
    result, run = the_result(), read_result(only("results/quick/tiny/*.json"))
    shown = "`scaledrop report table6 --profile quick` shows it"
    assert out.strip() == f"3 parts (absent: svhn): results/quick/table6/{result.id}.json; {shown}"
    # what it says of the test images is what the run's own record says
    for name, value in run.metrics.items():
        assert result.at(suite="clean")[name] == pytest.approx(value, abs=1e-6)
    places = [
        {"suite": name} | rule for name in ("clean", "gaussian", "mnist") for rule in ({}, {"rule": "validation"})
    ]
    assert [one.at for one in result.measurements] == places
    assert 0 <= result.at(suite="gaussian")["ood/rate"] <= 1
    assert 0 <= result.at(suite="mnist")["ood/auroc/variance"] <= 1
    trained = {name: value for name, value in run.training.items() if name != "curve"}  # the run's own record has it
    assert (result.study, result.label, result.seed, result.training) == ("table6", "Proposed", 1, trained)
    how = result.evaluation
    assert how["absent"] == {"svhn": "data set 'svhn' not found under the data folder"}
    assert how["parts"] == ["clean", "gaussian", "mnist"]
    described = {"title": "A suite", "kind": "noise", "source": "generated, seed 0", "fingerprint": "f00d"}
    assert how["suites"]["gaussian"] == {**described, "images": 60}
    assert (how["samples"], how["limit"], how["images"], how["quantile"]) == (3, None, 60, 0.1)
    assert result.config["assess"]["run"] == run.id
    assert result.provenance["command"] == "scaledrop assess --probe table6 --config tiny.yaml"
    before = Path(only("results/quick/table6/*.json")).stat().st_mtime_ns
    assert main(ASSESS) == 0
    assert capsys.readouterr().out.startswith("finished already (absent: svhn)")
    assert Path(only("results/quick/table6/*.json")).stat().st_mtime_ns == before


def test_table9_and_table10(trained):
    assert main(["assess", "--probe=table9", "--limit=20", *FLAGS]) == 0
    nine = the_result("table9")
    assert 0 <= nine.at(suite="clean")["sel/accept"] <= 1
    assert nine.evaluation["images"] == nine.evaluation["limit"] == 20
    assert main(["assess", "--probe=table10", "--parts=clean,renormalized/*/5", *FLAGS]) == 0
    ten = the_result("table10")
    assert ten.evaluation["parts"] == ["clean", "renormalized/fog/5"]
    fog = ten.at(suite="renormalized", corruption="fog", severity=5)
    assert fog["cls/error"] == pytest.approx(1 - fog["cls/acc"])
    assert only("runs/quick/tiny/*/probes/table10-*/renormalized/fog/5.json").is_file()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_stopped_command_loses_one_part(trained, monkeypatch, capsys, stop):
    """SystemExit stands for a kill: nothing is done on the way out."""
    calls, stops = [], [stop]
    measure = PROBES["table6"].measure

    def stopping(subject, at):
        calls.append(at["suite"])
        if at["suite"] == "mnist" and stops:
            raise stops.pop()
        return measure(subject, at)

    monkeypatch.setitem(probes.PROBES, "table6", replace(PROBES["table6"], measure=stopping))
    if stop is KeyboardInterrupt:
        assert main(ASSESS) == 130
    else:
        with pytest.raises(SystemExit):
            main(ASSESS)
    assert set(parts()) == {"clean", "gaussian"}
    assert not Path("results/quick/table6").exists() or not list(Path("results/quick/table6").iterdir())
    parts()["gaussian"].write_text('{"metrics": {')  # a broken part is measured again
    calls.clear()
    assert main(ASSESS) == 0
    assert calls == ["gaussian", "svhn", "mnist"]
    assert "clean: measured before" in capsys.readouterr().err
    stopped = the_result()
    shutil.rmtree("results/quick/table6")
    for path in parts().values():
        path.unlink()
    assert main(ASSESS) == 0
    assert the_result().measurements == stopped.measurements


def test_parts_of_other_weights_are_no_parts_of_this_result(trained):
    assert main(ASSESS) == 0
    (folder,) = {path.parent for path in parts().values()}
    best = only("runs/quick/tiny/*/checkpoints/best*.ckpt")
    checkpoint = torch.load(best, weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][name] += 0.01
    torch.save(checkpoint, best)
    only("results/quick/table6/*.json").unlink()
    assert main(ASSESS) == 0
    assert len({path.parent for path in Path().glob("runs/quick/tiny/*/probes/*/*.json")}) == 2
    assert folder.is_dir()


def test_a_missing_checkpoint_is_trained_anew_and_the_result_is_kept(trained, capsys):
    run, path = the_run(), only("results/quick/tiny/*.json")
    recorded = path.read_bytes()
    shutil.rmtree("runs")
    assert find_network(*run, "best") is None
    assert main(ASSESS) == 0
    out, err = capsys.readouterr()
    assert "epoch 2/2" in err
    assert "retrained: accuracy" in out
    assert path.read_bytes() == recorded
    network = find_network(*run, "best")
    assert network.record.provenance["command"] == "scaledrop fit --run.study=table3 --config tiny.yaml"
    # the same machine: the same weights
    assert network.record.metrics == read_result(path).metrics
    assert the_result().training | {"curve": network.record.training["curve"]} == network.record.training
    assert not list(Path().rglob(UNFINISHED))
    # a plain fit still finds its result
    assert main(["fit", *FLAGS]) == 0
    assert "finished already" in capsys.readouterr().out


def the_run() -> tuple[Run, str]:
    path = only("results/quick/tiny/*.json")
    return Run(profile="quick", study="tiny"), path.stem


def test_a_training_anew_that_was_killed_is_no_network(trained):
    run = the_run()
    assert find_network(*run, "best").checkpoint.name.startswith("best-epoch=")
    assert find_network(*run, "last").checkpoint.name == "last.ckpt"
    mark = run[0].run_dir(run[1]) / UNFINISHED
    mark.touch()
    assert find_network(*run, "best") is None
    assert fit(plan_fit(FLAGS), need_network=True)  # goes on from last.ckpt, which was complete
    assert not mark.exists()
    assert find_network(*run, "best").record.metrics == read_result(only("results/quick/tiny/*.json")).metrics


def test_a_damaged_checkpoint_is_laid_aside_and_the_network_trained_anew(trained, capsys):
    run = the_run()
    find_network(*run, "best").checkpoint.write_bytes(b"half")
    assert find_network(*run, "best") is None
    assert fit(plan_fit(FLAGS), need_network=True)
    assert "epoch 1/2" in capsys.readouterr().err
    assert find_network(*run, "best").checkpoint.is_file()
    assert only("runs/quick/tiny/*/checkpoints.stale1/best*.ckpt").read_bytes() == b"half"


def test_an_untrained_run_is_trained_and_recorded(place, suites, capsys):
    assert main([*ASSESS, "--trainer.max_epochs=1", "--parts=clean"]) == 0
    said = capsys.readouterr()
    assert "epoch 1/1" in said.err
    assert re.search(
        r"^no best checkpoint in runs/\S+/checkpoints: trained first, as by `scaledrop fit`, 1 epoch$", said.out, re.M
    )
    assert only("results/quick/tiny/*.json").is_file()
    assert the_result().evaluation["parts"] == ["clean"]


def test_members_of_an_ensemble_are_what_is_assessed(place, suites, monkeypatch, capsys):
    from lit_scaledrop import methods

    monkeypatch.setitem(methods.METHODS, "deep_ensemble", replace(methods.METHODS["deep_ensemble"], members=2))
    assert main([*ASSESS, "--model.method=deep_ensemble", "--trainer.max_epochs=1", "--parts=clean,gaussian"]) == 0
    result = the_result()
    assert result.evaluation["samples"] == 2
    assert [member["seed"] for member in result.training["members"]] == [1, 2]
    assert result.at(suite="clean")["unc/mutual_information"] > 0
    assert len(list(Path("results/quick/tiny").glob("*.json"))) == 2  # the members; the ensemble itself is not needed


# --- identity ---


def test_a_probe_that_measures_more_has_another_id(place, monkeypatch):
    before = planned_assessment(["--probe=threshold", *FLAGS]).stem
    assert PROBES["threshold"].version == 1
    monkeypatch.setitem(probes.PROBES, "threshold", replace(PROBES["threshold"], version=2))
    assert planned_assessment(["--probe=threshold", *FLAGS]).stem != before


def test_ids(place):
    ids = {
        planned_assessment([*words]).stem
        for words in (
            ["--probe=table6", *FLAGS],
            ["--probe=table9", *FLAGS],
            ["--probe=table6", *FLAGS, "--limit=5"],
            ["--probe=table6", *FLAGS, "--parts=clean"],
            ["--probe=table6", *FLAGS, "--seed_everything=2"],
            ["--probe=table6", *FLAGS, "--model.p=0.4"],
            ["--probe=table6", *FLAGS, "--evaluation.samples=5"],
            ["--probe=table6", *FLAGS, "--evaluation.quantile=0.2"],
            ["--probe=table6", *FLAGS, "--evaluation.execution=exact"],
        )
    }
    assert len(ids) == 9
    base = planned_assessment(["--probe=table6", *FLAGS])
    for words in (
        ["--probe", "table6", *FLAGS],
        ["--probe=table6", *FLAGS, "--evaluation.execution=loop"],
        ["--probe=table6", *FLAGS, "--evaluation.execution=shared"],
        ["--probe=table6", *FLAGS, "--run.tracking=offline"],
    ):
        assert planned_assessment(words) == base
    assert base.parent.as_posix() == "results/quick/table6"
    assert not Path("results").exists()


def test_evaluation_flags_change_the_question_and_not_the_network(place):
    asked = plan_assessment(["--probe=table6", *FLAGS, "--evaluation.samples=5", "--evaluation.threshold", "0.5"])
    assert asked.plan.id == planned_result(FLAGS).stem
    assert (asked.evaluation.samples, asked.evaluation.threshold, asked.evaluation.execution) == (5, 0.5, "auto")
    one, two = (plan_assessment(["--probe=table6", *FLAGS, f"--seed_everything={seed}"]) for seed in (1, 2))
    assert one.setting == two.setting
    assert one.id != two.id


def test_the_assessed_run_is_that_of_table3(place):
    flags = ["--profile", "cpu", "--row", "resnet20/proposed"]
    assert plan_assessment(["--probe=table6", *flags]).plan.run.study == "table3"
    assert plan_assessment(["--probe=table6", *flags]).plan.id == planned_result(flags).stem


@pytest.mark.parametrize(("profile", "data"), [("quick", "Digits"), ("cpu", "MNIST"), ("paper", "MNIST")])
def test_lenet5_is_trained_on_mnist_beside_table3(place, profile, data):
    plan = plan_assessment(["--probe=table9", "--profile", profile, "--row", "lenet5/proposed"]).plan
    assert plan.run.study == "lenet5"
    assert plan.config["data"]["class_path"] == f"datamodules.{data}DataModule"
    assert plan.build().model.hparams["in_channels"] == (1 if data == "MNIST" else 3)
    vgg = plan_assessment(["--probe=table9", "--profile", profile, "--row", "vgg_small/proposed"]).plan
    assert vgg.run.study == "table3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--probe=tabel6"], "unknown probe 'tabel6'; did you mean 'table6'"),
        (["--probe=table6", "--limit=0"], "at least 1, not 0"),
        (["--probe=table6", "--modle.p=1"], "unknown flag '--modle.p'"),
        (["--probe=table6", "--evaluation.samples=0"], "at least 1, got 0"),
        (["--probe=table6", "--parts=clean,svnh"], "--parts svnh matches no part of table6; there are clean, gaussian"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(place, suites, words, message, capsys):
    assert main(["assess", *FLAGS, *words]) in (1, 2)  # a flag behind a file overrides it
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


# --- parts as files ---


def test_parts_round_trip_and_refuse_what_is_not_finite(tmp_path):
    found = [Measurement({"cls/acc": 0.5}), Measurement({"ood/rate": 0.1}, {"suite": "svhn"})]
    part = MeasuredPart(found, {"svhn": {"images": 3}}, 1.5)
    path = tmp_path / "corrupted" / "fog" / "3.json"
    part.write(path)
    assert read_part(path) == part
    of_schema_1 = '{"metrics": {"cls/acc": 0.5}, "suites": {}, "seconds": 1}'
    not_finite = '{"measurements": [{"metrics": {"a": NaN}}], "suites": {}, "seconds": 1}'
    for text in ("", "{", "[]", '{"measurements": {}}', of_schema_1, not_finite):
        path.write_text(text)
        assert read_part(path) is None
    assert read_part(tmp_path / "none.json") is None
    with pytest.raises(ValueError, match="cls/nll is nan: a result holds finite numbers only"):
        Measurement({"cls/nll": float("nan")})


def test_weights_digest_sees_every_bit():
    one, two = (LitClassifier("lenet5", width=0.25).network for _ in range(2))
    two.load_state_dict(one.state_dict())
    assert weights_digest([one]) == weights_digest([two])
    next(two.parameters()).data.view(-1)[0] += 1e-6
    assert weights_digest([one]) != weights_digest([two])
    assert weights_digest([one, two]) != weights_digest([two, one])


def test_a_probe_is_two_functions(trained, monkeypatch):
    """What a new figure has to bring, and nothing else."""

    def accuracy(subject, at):
        return [Measurement({"cls/acc": float((subject.clean()[2].predicted_class == at["class"]).float().mean())})]

    parts = {"a": {"class": 3}, "b": {"class": 4}}
    monkeypatch.setitem(probes.PROBES, "mine", Probe(lambda subject: parts, accuracy))
    assert main(["assess", "--probe=mine", *FLAGS]) == 0
    assert flat_names(the_result("mine").measurements).keys() == {"class/3/cls/acc", "class/4/cls/acc"}
    assert json.loads(only("runs/quick/tiny/*/probes/mine-*/a.json").read_text())["suites"] == {}
    assert load_trained(only("runs/quick/tiny/*/checkpoints/best*.ckpt"))
