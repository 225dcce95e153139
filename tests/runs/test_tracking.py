"""Trackers: which mode, what reaches W&B's own file, and that a run goes on without it."""

import contextlib
import hashlib
import json
import logging
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from lit_scaledrop.__main__ import main
from lit_scaledrop.results.glossary import TRAINING
from lit_scaledrop.results.store import read_result
from lit_scaledrop.runs.tracking import (
    add_artifacts,
    build_loggers,
    finish_loggers,
    log_artifacts,
    reachable,
    start_loggers,
    wandb_mode,
)
from stand_ins import FIT


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
        ("auto", {"WANDB_MODE": "dryrun", "WANDB_API_KEY": "k"}, "", "offline"),
        ("auto", {"WANDB_MODE": "OFFLINE", "WANDB_API_KEY": "k"}, "", "offline"),
        ("auto", {"WANDB_DISABLED": "true", "WANDB_API_KEY": "k"}, "", "disabled"),
        ("auto", {"WANDB_DISABLED": "false"}, "", "offline"),
        ("offline", {"WANDB_DISABLED": "true"}, "", "offline"),
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


def test_without_a_home_wandb_has_the_folder_of_the_run(tmp_path, monkeypatch):
    """A container's user has neither HOME nor a name, and W&B does without neither."""

    def nameless(_):
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("pwd.getpwuid", nameless)
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(RuntimeError, match="home directory"):
        Path.home()
    (logger,) = build_loggers(tmp_path, "auto", "p", "g", "n", [])[1:]
    start_loggers([logger], {})
    finish_loggers([logger], {"a": 1.0}, 0)
    assert list(tmp_path.glob("wandb/offline-run-*"))
    assert Path.home() == tmp_path


@pytest.mark.parametrize(("tracking", "environment"), [("online", {}), ("auto", {"WANDB_MODE": "online"})])
def test_online_without_a_key_is_refused_instead_of_asked_for(place, monkeypatch, tracking, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"needs a W&B API key: set WANDB_API_KEY, or use --run\.tracking=offline"):
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


def test_another_trackers_client_gets_no_artifacts_of_ours(tmp_path):
    class Client:  # MLflow's has such, Comet's too
        def log_artifact(self, run_id, local_path):
            raise AssertionError("it was asked for one")

        define_metric = finish = log_artifact

    class Other(CSVLogger):
        experiment = Client()

        def log_hyperparams(self, params):
            logged.append(params)

        def log_metrics(self, metrics, step=None):
            logged.append((metrics, step))

        def save(self):
            pass

    logged = []
    other = Other(tmp_path)
    start_loggers([other], {"seed": 1})
    log_artifacts([other], tmp_path / "id.json", tmp_path / "best.ckpt")
    finish_loggers([other], {"test/acc": 1.0}, 3)
    assert logged == [{"seed": 1}, ({"test/acc": 1.0}, 3)]


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


def test_a_mode_that_there_is_not_is_refused(place, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(ValueError, match="unknown WANDB_MODE 'offlin'; did you mean 'offline'"):
        wandb_mode("auto")


class Server:
    """A server on this machine: it answers with a status, or accepts and says nothing."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.socket = answer, socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.held: list[socket.socket] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.held.append(connection)
                if self.answer:
                    connection.recv(1000)
                    connection.sendall(self.answer)
                    connection.close()

    def close(self) -> None:
        for one in (self.socket, *self.held):
            one.close()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", True),  # it is there, whatever it says
        (b"", False),
    ],
)
def test_a_server_is_there_if_it_answers_in_time(monkeypatch, answer, found):
    monkeypatch.setenv("no_proxy", "*")
    server, start = Server(answer), time.monotonic()
    assert reachable(server.url, seconds=1.0) == found
    assert time.monotonic() - start < 10
    server.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()[1]


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    assert not reachable(f"http://127.0.0.1:{free_port()}", seconds=1.0)
    assert not reachable("no url", seconds=1.0)


def test_a_training_without_network_goes_on_offline(place, monkeypatch, capfd):
    pytest.importorskip("wandb")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    own = ["--run.entity=team", "--run.name=first try", "--run.notes=why not"]
    assert main([*FIT, "--run.tracking=auto", "--trainer.max_epochs=1", *own]) == 0
    out, err = capfd.readouterr()
    assert err.count("W&B cannot be reached") == 1
    assert "anonymous" not in out + err
    (path,) = place.glob("runs/quick/tiny/*/wandb/offline-run-*/run-*.wandb")
    run = read_run(path).run
    assert (run.entity, run.display_name, run.notes) == ("team", "first try", "why not")
    (file,) = place.glob("runs/quick/tiny/*/checkpoints/best-*.ckpt")
    assert f"checkpoint: {file.relative_to(place)}" in out.splitlines()


def test_a_run_that_cannot_begin_online_begins_offline(tmp_path, monkeypatch, capfd):
    wandb = pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger

    begin = wandb.init

    def refuse(**settings):
        if settings.get("mode") != "offline":
            raise wandb.errors.AuthenticationError("the key is not valid")
        return begin(**settings)

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(wandb, "init", refuse)
    logger = WandbLogger(save_dir=tmp_path, project="p")
    start_loggers([logger], {"a": 1})
    assert logger.experiment.offline
    finish_loggers([logger], {}, 0)
    assert "W&B cannot be reached (the key is not valid): the run is logged offline" in capfd.readouterr().err


def test_a_users_loggers_and_checkpoints_are_beside_ours(place):
    loggers = [{"class_path": "CSVLogger", "init_args": {"save_dir": "mine", "name": name}} for name in "ab"]
    chosen = {"dirpath": "kept", "monitor": "val/acc", "mode": "max", "save_top_k": 2, "save_last": True}
    callbacks = [{"class_path": "ModelCheckpoint", "init_args": chosen}]
    Path("own.yaml").write_text(json.dumps({"trainer": {"logger": loggers, "callbacks": callbacks}}))
    assert main([*FIT, "--config=own.yaml"]) == 0
    (ours,) = place.glob("runs/quick/tiny/*/logs/version_0/metrics.csv")
    for name in "ab":
        assert (place / "mine" / name / "version_0" / "metrics.csv").read_text() == ours.read_text()
    assert len([*place.glob("kept/*.ckpt")]) == 3
    assert [*place.glob("runs/quick/tiny/*/checkpoints/best-*.ckpt")]
    (result,) = place.glob("results/quick/tiny/*.json")
    recorded = read_result(result).config["trainer"]
    assert [logger["init_args"]["save_dir"] for logger in recorded["logger"]] == ["mine", "mine"]


def test_a_users_wandb_logger_takes_the_place_of_ours(place):
    pytest.importorskip("wandb")
    words = ["--run.tracking=offline", "--trainer.max_epochs=1", "--trainer.logger=WandbLogger"]
    own = {"offline": "true", "save_dir": place / "mine", "project": "theirs"}  # W&B's process has a folder of its own
    settings = [f"--trainer.logger.{name}={value}" for name, value in own.items()]
    Path("mine").mkdir()
    assert main([*FIT, *words, *settings]) == 0
    (path,) = place.rglob("offline-run-*/run-*.wandb")
    assert path.is_relative_to(place / "mine")
    assert read_run(path).run.project == "theirs"


def test_missing_data_is_said_before_a_tracker_begins(place, monkeypatch, capsys):
    monkeypatch.setenv("DATA", str(place / "nowhere"))
    assert main([*FIT, "--run.tracking=offline"]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not [*place.rglob("offline-run-*")]


def test_names_of_the_package_are_there_for_completion():
    import lit_scaledrop

    assert {*lit_scaledrop.__all__} <= {*dir(lit_scaledrop)}
    assert "__version__" in dir(lit_scaledrop)
