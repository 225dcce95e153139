"""Trackers: which mode, what reaches W&B's own file, and that a run goes on without it."""

import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from lit_scaledrop.__main__ import main
from lit_scaledrop.report.results import read_result
from lit_scaledrop.tracking import build_loggers, wandb_mode


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


def test_offline_run_mirrors_configuration_and_metrics(place, run_program):
    """In a process of its own, as for a user: without a key, a terminal or a network."""
    flags = ("--run.tracking=auto", "--trainer.max_epochs=1")
    process = run_program("-m", "lit_scaledrop", "fit", "--config=tiny.yaml", *flags, WANDB_RUN_GROUP="a-sweep")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (path,) = place.glob("runs/quick/tiny/*/wandb/offline-run-*/run-*.wandb")
    config, logged, run = {}, {}, None
    for record in records(path):
        if record.HasField("run"):
            run = run or record.run
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("config"):
            config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.config.update}
        for item in record.history.item:
            logged["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    (file,) = place.glob("results/quick/tiny/*.json")
    result = read_result(file)
    assert config["id"] == result.id
    assert config["seed_everything"] == 1
    assert config["model"]["init_args"]["lr"] == 0.01
    assert config["data"]["init_args"]["batch_size"] == 32
    assert logged["test/cls/acc"] == pytest.approx(result.metrics["cls/acc"])
    assert {"loss/task", "loss/scale", "val/acc", "val/nll", "test/cls/nll", "test/cal/ece"} <= logged.keys()
    assert run.run_group == "a-sweep"
    assert run.display_name == "lenet5-proposed-s1"
    assert set(run.tags) == {"quick", "tiny", result.id}
    assert run.project == "lit-scaledrop"


def test_two_runs_of_one_process_are_two_wandb_runs(place):
    wandb = pytest.importorskip("wandb")
    for seed in (1, 2):
        words = ["--run.tracking=offline", "--trainer.max_epochs=1", f"--seed_everything={seed}"]
        assert main(["fit", "--config=tiny.yaml", *words]) == 0
        assert wandb.run is None
    assert len(list(place.glob("runs/quick/tiny/*/wandb/offline-run-*"))) == 2
