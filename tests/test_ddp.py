"""Two processes that train one network: what they share, what each has for itself, and one record in the end."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ddp_worker as worker
from lit_scaledrop.__main__ import main
from lit_scaledrop.layers.stochastic import batch_draws
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.drop_probability import seeded
from lit_scaledrop.results.store import read_result

WORKER = Path(worker.__file__)
FLAGS = ("--trainer.devices=2", "--trainer.strategy=ddp")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, fake_cifar) -> list[dict[str, Any]]:
    """What the two processes of ``ddp_worker.py`` saw."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "DATA": str(fake_cifar), "OMP_NUM_THREADS": "1"}
    # a script's own folder comes first in its path, and tests/datamodules would hide ours
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(WORKER.parent.parent)}
    command = [sys.executable, "-W", "ignore", str(WORKER), str(folder)]
    both = [{**shared, "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    processes = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for env in both]
    try:
        ends = [(process.communicate(timeout=900)[1], process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [code for _, code in ends] == [0, 0], "\n".join(err for err, _ in ends)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)] + [{"folder": folder}]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_curve_is_that_of_one_process_with_the_global_batch(ranks, tmp_path, monkeypatch, fake_cifar):
    """Where BatchNorm takes no statistics of a batch; weights, too. In double precision: a sign amplifies rounding."""

    class Alone(LitClassifier):
        def _one_mask_for_all_processes(self, batch_idx):
            return batch_draws(self.network, seeded("batch", self._seed, self.current_epoch, batch_idx))

    def build(method, **settings):
        model = worker.build(method, **settings)
        model.__class__ = Alone
        return model

    monkeypatch.setenv("DATA", str(fake_cifar))
    alone = worker.exact(build, tmp_path, 1)
    first, second = ranks[0]["exact"], ranks[1]["exact"]
    curve = [(a + b) / 2 for a, b in zip(first["losses"], second["losses"], strict=True)]
    assert len(curve) == 2 * (180 // 32)
    assert curve == pytest.approx(alone["losses"], rel=1e-5)
    assert max(curve) - min(curve) > 0.05  # something was learned: the comparison is of a training
    assert same(first["weights"], second["weights"])
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-4, atol=1e-5)


def test_one_mask_a_batch_is_one_mask_for_all_processes(ranks):
    """Scale-Dropout with ``mask_per="batch"``, and the methods that draw their weights."""
    for name in ("exact", "mc_dropconnect", "spinbayes"):
        first, second = (rank[name]["draws"] for rank in ranks[:2])
        assert all(same(a, b) for a, b in zip(first, second, strict=True))
        assert {len(draw) for draw in first[0].values()} == {1}
        # and another one for another batch
        assert not all(same(first[0], other) for other in first[1:])


def test_masks_of_samples_differ_between_the_processes(ranks):
    for name in ("proposed", "mc_dropout_htanh", "spindrop"):
        first, second = (rank[name]["draws"] for rank in ranks[:2])
        assert len(first) == len(second) == 2
        for a, b in zip(first, second, strict=True):
            assert {len(draw) for draw in a.values()} == {16}
            assert not any(torch.equal(a[layer], b[layer]) for layer in a if a[layer].numel() > 16)
            assert not same(a, b)


def test_probabilities_of_a_batch_are_the_same_in_all_processes(ranks):
    first, second = (rank["exact"]["probabilities"] for rank in ranks[:2])
    assert first == second
    assert len({tuple(p) for p in first}) == len(first)
    assert all(p != 0.4 for step in first for p in step)


def test_energy_is_logged_once(ranks):
    (log,) = (ranks[2]["folder"] / "exact").glob("logs/*/metrics.csv")
    with log.open() as file:
        assert sum(bool(row.get("hw/energy_nj")) for row in csv.DictReader(file)) == 2  # epochs


def test_what_batch_norm_sees_is_the_share_of_its_process(ranks, monkeypatch, fake_cifar):
    r"""Without SyncBatchNorm: normalized by the share's statistics, and those of the first process are kept.

    The mean of the global batch is that of the shares' means, so a running mean misses it by
    $\eta (\mu_0 - \mu_1) / 2$ a step.
    """
    monkeypatch.setenv("DATA", str(fake_cifar))
    data = worker.data(2 * worker.SHARE)
    data.setup()
    images, target = next(iter(data.train_dataloader()))
    model = worker.build("fp").train()
    conv, pool, norm, _ = model.network.stem
    shares = [pool(conv(images[rank::2])).detach() for rank in (0, 1)]
    means = [share.mean((0, 2, 3)) for share in shares]
    kept = ranks[0]["norm"]["weights"]["network.stem.2.running_mean"]
    torch.testing.assert_close(kept, norm.momentum * means[0], rtol=1e-4, atol=1e-6)
    whole = pool(conv(images)).mean((0, 2, 3))
    torch.testing.assert_close(kept - norm.momentum * whole, norm.momentum * (means[0] - means[1]) / 2)
    assert (kept - norm.momentum * whole).abs().max() > 1e-4
    spread = ranks[0]["norm"]["weights"]["network.stem.2.running_var"]
    torch.testing.assert_close(spread, 0.9 + 0.1 * shares[0].transpose(0, 1).flatten(1).var(1))
    # the loss is that of the shares, not of the whole
    for rank in (0, 1):
        model = worker.build("fp").train()
        model.log_dict = lambda *_, **__: None
        loss = model.training_step((images[rank::2], target[rank::2]), 0)
        assert ranks[rank]["norm"]["losses"] == [pytest.approx(float(loss.detach()), rel=1e-5)]


def test_a_resumed_training_of_two_processes_goes_on_as_if_nothing_had_happened(ranks):
    for rank in ranks[:2]:
        assert same(rank["whole"], rank["resumed"])


def test_processes_that_see_other_checkpoints_are_refused(ranks):
    for rank in ranks[:2]:
        assert "found different checkpoints" in rank["refused"]


@pytest.mark.parametrize("method", ["proposed", "spinbayes", "mc_dropout_irnet"])
def test_a_network_survives_the_conversion_to_sync_batch_norm(method):
    """What ``--trainer.sync_batchnorm=true`` does to it; CPUs have no SyncBatchNorm in training, but in evaluation."""
    from lit_scaledrop import PosteriorPredictive

    torch.manual_seed(0)
    plain = LitClassifier("resnet20", method, width=0.25)
    images = torch.randn(3, 3, 32, 32)
    plain.train()(images)  # running statistics that are not those of a fresh layer
    plain.eval()
    converted = LitClassifier("resnet20", method, width=0.25)
    converted.load_state_dict(plain.state_dict())
    converted.network = nn.SyncBatchNorm.convert_sync_batchnorm(converted.network)
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in converted.modules())
    assert converted.state_dict().keys() == plain.state_dict().keys()
    for execution in ("loop", "folded", "shared"):
        a, b = (PosteriorPredictive(m.network, 4, 0, execution)(images) for m in (plain, converted))
        assert torch.equal(a.probs, b.probs)
    again = LitClassifier("resnet20", method, width=0.25)
    again.load_state_dict(converted.state_dict())
    assert same(again.state_dict(), plain.state_dict())


def test_fit_on_two_processes(place, run_program, capsys):
    more = ("--run.tracking=offline", "--trainer.callbacks+=CrossbarEnergy", "--trainer.callbacks+=MTJVariation")
    flags = (*FLAGS, *more, "--trainer.callbacks.sigma=0.1")
    process = run_program("-m", "lit_scaledrop", "fit", "--config=tiny.yaml", *flags)
    out, err = process.communicate(timeout=900)
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

    assert result.metrics["hw/energy_nj"] > 0
    assert result.training["logged"]["hw/p_shift"] > 0
    assert len(list(place.rglob("offline-run-*"))) == 1

    assert main(["fit", "--config=tiny.yaml", *flags]) == 0
    out, err = capsys.readouterr()
    assert out == f"finished already: {path.relative_to(place)}\n"
    assert "Initializing distributed" not in err
