"""Trackers: which mode, what reaches W&B's own file, and that a run goes on without it."""

import hashlib
import json
import logging
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from lit_scaledrop.__main__ import main
from lit_scaledrop.results.glossary import TRAINING
from lit_scaledrop.results.result import read_result
from lit_scaledrop.runs.tracking import add_artifacts, build_loggers, wandb_mode


@pytest.mark.parametrize(
    ("tracking", "environment", "netrc", "mode"),
    [
        ("auto", {}, "", "offline"),
        ("auto", {"WANDB_API_KEY": "k"}, "", "online"),
        ("auto", {}, "machine api.wandb.ai login user password k", "online"),
        ("auto", {}, "machine example.org login user password k", "offline"),
        ("auto", {"WANDB_MODE": "offline", "WANDB_API_KEY": "k"}, "", "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "", "disabled"),
        ("auto", {"WANDB_MODE": "online", "WANDB_API_KEY": "k"}, "", "online"),
        ("offline", {"WANDB_MODE": "online", "WANDB_API_KEY": "k"}, "", "offline"),
        ("disabled", {"WANDB_API_KEY": "k"}, "", "disabled"),
        ("online", {"WANDB_API_KEY": "k"}, "", "online"),
    ],
)
def test_mode(place, monkeypatch, tracking, environment, netrc, mode):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if netrc:
        Path(".netrc").write_text(netrc)
    assert wandb_mode(tracking) == mode


def test_the_users_netrc_may_lie_elsewhere(place, monkeypatch):
    Path("keys").write_text("machine api.wandb.ai login user password k")
    monkeypatch.setenv("NETRC", "keys")
    assert wandb_mode("auto") == "online"


@pytest.mark.parametrize(("tracking", "environment"), [("online", {}), ("auto", {"WANDB_MODE": "online"})])
def test_online_without_a_key_is_refused_instead_of_asked_for(place, monkeypatch, tracking, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"needs a W&B key: set WANDB_API_KEY, or take --run\.tracking=offline"):
        wandb_mode(tracking)


def test_disabled_leaves_no_trace(finished):
    assert not list(finished.rglob("*wandb*"))
    assert len(list(finished.rglob("metrics.csv"))) == 1


def test_without_wandb_installed_a_warning_and_csv(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)  # what an import finds where it is absent
    with caplog.at_level(logging.WARNING):
        loggers = build_loggers(tmp_path, "offline", "p", "g", "n", [])
    assert [type(logger) for logger in loggers] == [CSVLogger]
    assert "wandb is not installed: tracking goes to CSV and JSON only" in caplog.text


def records(path: Path) -> Iterator[object]:
    """Records of a ``.wandb`` file: a LevelDB log (blocks of 32 KiB, chunks with crc, length, type) of protobufs."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, message = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole message, or the last part of one
            yield Record.FromString(message)
            message = b""


class OfflineRun:
    """What a ``.wandb`` file holds, which is what ``wandb sync`` uploads."""

    def __init__(self, path: Path) -> None:
        found = list(records(path))

        def every(kind):
            return [getattr(record, kind) for record in found if record.WhichOneof("record_type") == kind]

        def values(items):
            return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}

        self.folder, self.run = path.parent, next(iter(every("run")), None)
        updates = [*(run.config for run in every("run")), *every("config")]
        self.config = {name.split("/")[0]: value for one in updates for name, value in values(one.update).items()}
        self.logged = {name: value for row in every("history") for name, value in values(row.item).items()}
        self.metrics = {metric.name or metric.glob_name: metric for metric in every("metric")}
        self.artifacts = every("artifact")
        self.files = {item.path for one in every("files") for item in one.files}
        self.exit_code = next((end.exit_code for end in every("exit")), None)

    def media(self, key: str) -> dict:
        """A table or pictures of the history, whose files are there to be uploaded."""
        entry = {
            name.removeprefix(f"{key}/"): value for name, value in self.logged.items() if name.startswith(f"{key}/")
        }
        paths = entry.get("filenames") or [entry["path"]]
        masks = [mask["path"] for layers in entry.get("all_masks", []) for mask in layers.values()]
        for path in [*paths, *masks]:
            assert path in self.files
            assert (self.folder / "files" / path).stat().st_size
        return entry

    def table(self, key: str) -> dict:
        entry = self.media(key)
        content = (self.folder / "files" / entry["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        return json.loads(content)


def read_run(path: Path) -> OfflineRun:
    """A run that has ended; W&B's own process writes the last records when the run's process has gone on."""
    for _ in range(6000):
        run = OfflineRun(path)
        if run.exit_code is not None:
            return run
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def test_offline_run_mirrors_configuration_metrics_and_media(place, run_program):
    """In a process of its own, as for a user: without a key, a terminal or a network."""
    flags = ("--run.tracking=auto", "--trainer.max_epochs=1", "--trainer.callbacks+=CrossbarEnergy")
    process = run_program("-m", "lit_scaledrop", "fit", "--config=tiny.yaml", *flags, WANDB_RUN_GROUP="a-sweep")
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    (path,) = place.glob("runs/quick/tiny/*/wandb/offline-run-*/run-*.wandb")
    run = read_run(path)
    (file,) = place.glob("results/quick/tiny/*.json")
    result = read_result(file)
    assert run.exit_code == 0
    assert run.config["id"] == result.id
    assert {name: run.config[name] for name in result.config} == result.config
    assert run.logged["test/cls/acc"] == pytest.approx(result.metrics["cls/acc"])
    assert {"loss/task", "loss/scale", "val/acc", "val/nll", "test/cls/nll", "test/cal/ece"} <= run.logged.keys()
    assert run.run.run_group == "a-sweep"
    assert run.run.job_type == "fit"
    assert run.run.display_name == "lenet5-proposed-s1"
    assert set(run.run.tags) == {"quick", "tiny", result.id}
    assert run.run.project == "lit-scaledrop"
    # tables are artifacts of W&B's own; the result lies where it lies, once
    assert {artifact.type for artifact in run.artifacts} == {"run_table"}

    def summary(name):
        return {field.name for field, _ in run.metrics[name].summary.ListFields()}

    assert {name for name in run.metrics if "/" in name} == {*TRAINING, "trainer/global_step"}
    assert {run.metrics[name].step_metric for name in (*TRAINING, "*")} == {"trainer/global_step"}
    assert summary("val/acc") == {"max", "last"}
    assert summary("val/nll") == summary("loss/task") == {"min", "last"}
    assert summary("grad/alpha_data") == {"last"}
    in_training = {name for name in run.logged if name.startswith(("loss/", "val/"))}
    assert in_training <= TRAINING.keys()

    bins = run.table("test/reliability")
    assert sum(row[1] for row in bins["data"]) == result.evaluation["images"]
    error = sum(row[1] * abs(row[2] - row[3]) for row in bins["data"] if row[1]) / result.evaluation["images"]
    assert error == pytest.approx(result.metrics["cal/ece"])
    energy = run.table("hw/energy_breakdown")
    assert sum(row[energy["columns"].index("energy_pj")] for row in energy["data"]) / 1e3 == pytest.approx(
        result.metrics["hw/energy_nj"]
    )
    for key in ("test/reliability_diagram", "hw/energy"):
        assert len(run.media(key)["filenames"]) == 1


def test_masks_of_a_segmentation_have_labels(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    words = ["fit", "--config=segment.yaml", "--run.profile=quick", "--run.study=masks", "--run.tracking=offline"]
    words += ["--data=PhantomDataModule", "--data.images=40", "--data.image_size=32", "--data.batch_size=8"]
    words += ["--model.width=0.0625", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--evaluation.samples=2"]
    assert main(words) == 0
    (path,) = tmp_path.glob("runs/quick/masks/*/wandb/offline-run-*/run-*.wandb")
    run = read_run(path)
    shown = run.media("test/masks")
    assert len(shown["filenames"]) == len(shown["all_masks"]) == 4
    assert all(set(layers) == {"prediction", "truth"} for layers in shown["all_masks"])
    assert len(run.media("test/uncertainty")["filenames"]) == 4
    labels = {"0": "background", "1": "lesion", "255": "not labelled"}
    for layer in ("prediction", "truth"):
        assert run.config["_wandb"]["mask/class_labels"][f"test/masks_wandb_delimeter_{layer}"]["value"] == labels


def test_artifacts_are_recorded_with_their_files(tmp_path, monkeypatch):
    """What is sent online, put into an offline run: without a network it can only be recorded."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result, checkpoint = tmp_path / "0123456789ab.json", tmp_path / "best.ckpt"
    result.write_text("{}")
    checkpoint.write_bytes(b"weights")
    with wandb.init(mode="offline", dir=str(tmp_path), project="p") as run:
        add_artifacts(run, result, checkpoint)
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    made = {artifact.name: artifact for artifact in read_run(path).artifacts}
    assert {name: artifact.type for name, artifact in made.items()} == {
        "result-0123456789ab": "result",
        "model-0123456789ab": "model",
    }
    for name, file in (("result-0123456789ab", result), ("model-0123456789ab", checkpoint)):
        (content,) = made[name].manifest.contents
        assert (content.path, content.size) == (file.name, file.stat().st_size)
        assert Path(content.local_path) == file  # no copy of it


def test_an_assessment_is_a_run_of_its_own(place, finished):
    pytest.importorskip("wandb")
    shutil.copytree(finished, place, dirs_exist_ok=True)
    words = ["--config=tiny.yaml", "--run.study=tiny", "--run.tracking=offline"]
    assert main(["assess", "--probe=reliability", *words]) == 0
    (path,) = place.glob("runs/**/probes/*/wandb/offline-run-*/run-*.wandb")
    run = read_run(path)
    (file,) = place.glob("results/quick/reliability/*.json")
    result = read_result(file)
    assert (run.run.job_type, run.run.run_group) == ("assess", "reliability")
    assert run.config["id"] == result.id
    assert run.config["assess"]["probe"] == "reliability"
    assert run.logged["clean/cls/acc"] == pytest.approx(result.at(suite="clean")["cls/acc"])
    assert len(list(place.rglob("offline-run-*"))) == 1  # its own: the training was not repeated


def test_two_runs_of_one_process_are_two_wandb_runs(place):
    wandb = pytest.importorskip("wandb")
    for seed in (1, 2):
        words = ["--run.tracking=offline", "--trainer.max_epochs=1", f"--seed_everything={seed}"]
        assert main(["fit", "--config=tiny.yaml", *words]) == 0
        assert wandb.run is None
    assert len(list(place.glob("runs/quick/tiny/*/wandb/offline-run-*"))) == 2
