"""A training on two processes: one record, every test image once, and no process left behind."""

import csv

import torch

from lit_scaledrop.report.results import read_result

FLAGS = ("--trainer.devices=2", "--trainer.strategy=ddp")


def test_fit_on_two_processes(place, run_program):
    process = run_program("-m", "lit_scaledrop", "fit", "--config=tiny.yaml", *FLAGS)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    (path,) = place.rglob("results/**/*.json")
    result = read_result(path)
    assert out.count("accuracy ") == 1
    assert result.training["world_size"] == 2
    assert result.evaluation["images"] == 60
    assert result.data["train"] == 180
    # both processes found the same run, and made 180 / 2 / 32 steps an epoch
    (folder,) = place.glob("runs/quick/tiny/*")
    assert folder.name == result.id
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * (180 // 2 // 32)
    assert err.count("epoch 1/2") == 1
    (log,) = place.glob("runs/quick/tiny/*/logs/*/metrics.csv")
    with log.open() as file:
        tested = [row["test/cls/acc"] for row in csv.DictReader(file) if row["test/cls/acc"]]
    assert [float(value) for value in tested] == [result.metrics["cls/acc"]]

    again = run_program("-m", "lit_scaledrop", "fit", "--config=tiny.yaml", *FLAGS)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0
    assert out == f"finished already: {path.relative_to(place)}\n"
    assert "Initializing distributed" not in err
