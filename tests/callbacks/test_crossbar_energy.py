"""The callback that logs energy: at test, at the end of `fit`, each epoch; from one process; and training as it was."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger

from fakes.training import quiet_trainer
from hardware.chip import Chip
from hardware.constants import PresetError
from hardware.devices import load_device
from hardware.mapping import Crossbar
from lit_scaledrop.__main__ import main
from lit_scaledrop.callbacks import CrossbarEnergy
from lit_scaledrop.chip.energy import energy_metrics, estimate_energy
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.results.store import read_result

CALLBACK = "--trainer.callbacks+=lit_scaledrop.callbacks.CrossbarEnergy"
FIT = ["fit", "--config", "tiny.yaml", CALLBACK]


class Memory(Logger):
    """Keeps what it gets, pictures too if it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, float] = {}
        self.steps: list[set[str]] = []
        self.images: list[tuple[str, list]] = []

    name, version = "memory", 0

    def log_hyperparams(self, *_, **__):
        pass

    def log_metrics(self, metrics, step=None):
        self.metrics.update(metrics)
        self.steps.append(set(metrics))

    def log_image(self, key, images, **_):
        self.images.append((key, images))


class Batches:
    """Two batches of 8; a list would be several loaders."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        return iter([(torch.randn(8, 1, 32, 32, generator=generator), torch.arange(8)) for _ in range(2)])

    def __len__(self) -> int:
        return 2


def trainer(*callbacks, logger=False, **options):
    return quiet_trainer(logger=logger, log_every_n_steps=1, callbacks=list(callbacks), **options)


def model(**arguments):
    torch.manual_seed(0)
    return LitClassifier("lenet5", in_channels=1, **arguments)


def expected(network, passes=10, chip=None, **options):
    return energy_metrics(estimate_energy(network, (1, 32, 32), passes, chip, **options).report())


def test_test_logs_the_energy_to_every_logger(tmp_path):
    net, memory, files = model(), Memory(), CSVLogger(tmp_path)
    callback = CrossbarEnergy()
    (returned,) = trainer(callback, logger=[memory, files]).test(net, Batches(), verbose=False)
    wanted = expected(net.network)
    for logged in (memory.metrics, returned):
        assert {name: logged[name] for name in wanted} == pytest.approx(wanted)
    (log,) = tmp_path.rglob("metrics.csv")
    with log.open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["hw/energy_nj"]) == pytest.approx(wanted["hw/energy_nj"])
    ((key, (figure,)),) = memory.images
    assert key == "hw/energy"
    assert figure.axes[0].get_title(loc="left").endswith("T = 10, loop")


def test_arguments_reach_the_chip(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("real_mac_energy: {value: 0.6, unit: pJ, source: a made-up MAC, status: assumed}\n")
    net = model()
    arguments = {"passes": 4, "adc": "mnsim", "rows": 64, "real_layers": "binary", "execution": "shared", "seed": 3}
    arguments |= {"scale": "multiplied", "skip_bits": 8, "mtj": "sot_80nm"}
    metrics = energy_metrics(CrossbarEnergy(**arguments).estimate(net.network, (1, 32, 32)).report())
    device, _ = load_device("sot_80nm")
    chip = Chip(Crossbar(rows=64), "mnsim", None, "multiplied", skip_bits=8, real_layers="binary", junction=device)
    assert metrics == expected(net.network, 4, chip, seed=3, execution="shared")
    prefix = CrossbarEnergy(execution="prefix").estimate(net.network, (1, 32, 32)).report()
    assert prefix.energy_pj == pytest.approx(1e3 * expected(net.network, execution="prefix")["hw/energy_nj"])
    doubled, plain = (
        energy_metrics(CrossbarEnergy(preset=file).estimate(net.network, (1, 32, 32)).report())
        for file in (str(preset), None)
    )
    assert doubled["hw/energy_nj/digital_mac"] == pytest.approx(2 * plain["hw/energy_nj/digital_mac"])


def test_each_epoch_if_wished_and_training_is_left_as_it_is():
    logged, weights = [], []
    for callbacks in ((), (CrossbarEnergy(every_epoch=True),), (CrossbarEnergy(),)):
        net, memory = model(), Memory()
        torch.manual_seed(1)
        trainer(*callbacks, logger=memory, max_epochs=2).fit(net, Batches(), Batches())
        logged.append(sum("hw/energy_nj" in step for step in memory.steps))
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
        if callbacks and callbacks[0].every_epoch:
            assert memory.metrics["hw/energy_nj"] == pytest.approx(expected(net.network)["hw/energy_nj"])
    assert logged == [0, 2, 0]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_a_change_of_probabilities_shows():
    """Passes that always drop their scales multiply none."""
    net = model()
    half = expected(net.network, chip=Chip(scale="multiplied"))
    for layer in stochastic_layers(net.network).values():
        layer.p.fill_(1.0)
    (returned,) = trainer(CrossbarEnergy(scale="multiplied")).test(net, Batches(), verbose=False)
    assert returned["hw/energy_nj/scale_multiplier"] == 0 < half["hw/energy_nj/scale_multiplier"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"passes": 0}, ValueError, "passes"),
        ({"adc_bits": 9}, PresetError, "up to 8 bits, not in 9"),
        ({"adc": "isac"}, PresetError, "did you mean 'isaac'"),
        ({"adc_bits": 0}, ValueError, "at least 1 bit"),
        ({"rows": 0}, ValueError, "rows"),
    ],
)
def test_chips_that_cannot_be_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        CrossbarEnergy(**arguments)


def test_a_chip_that_cannot_hold_the_network_is_refused_before_the_first_step():
    """400 rows on a crossbar of 512 need 9 bits, and ISAAC's table ends at 8."""
    net = model()
    before = torch.cat([p.detach().flatten().clone() for p in net.parameters()])
    with pytest.raises(PresetError, match="up to 8 bits, not in 9"):
        trainer(CrossbarEnergy(rows=512), max_epochs=1).fit(net, Batches(), Batches())
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in net.parameters()]))


def test_images_have_to_be_seen():
    with pytest.raises(ValueError, match="batches must be tensors or begin with one, not dict"):
        CrossbarEnergy().on_test_batch_start(trainer(), model(), {"image": torch.zeros(1)}, 0)


# --- scaledrop fit and test ---


def rows_of(folder: Path) -> list[dict[str, str]]:
    (log,) = folder.rglob("metrics.csv")
    with log.open() as file:
        return list(csv.DictReader(file))


def test_fit_records_and_logs_it(place, capsys):
    assert main(FIT) == 0
    (path,) = place.glob("results/quick/tiny/*.json")
    result = read_result(path)
    network = LitClassifier("lenet5", width=0.5).network
    wanted = energy_metrics(estimate_energy(network, (3, 32, 32)).report())
    assert {name: value for name, value in result.metrics.items() if name.startswith("hw/")} == pytest.approx(wanted)
    last = rows_of(place / "runs")[-1]
    assert float(last["hw/area_mm2"]) == pytest.approx(wanted["hw/area_mm2"])
    assert float(last["test/cls/acc"]) == result.metrics["cls/acc"]


@pytest.mark.parametrize(("flag", "code", "word"), [("rows=0", 1, "rows"), ("adc=isac", 1, "isaac")])
def test_bad_arguments_are_refused_before_the_training(place, capsys, flag, code, word):
    assert main([*FIT, f"--trainer.callbacks.{flag}"]) == code
    assert word in capsys.readouterr().err
    assert not list(place.glob("runs/**/*.ckpt"))


@pytest.mark.slow  # `tests/test_ddp.py` has two processes that train
def test_two_processes_log_once(place, finished, run_program):
    (checkpoint,) = finished.glob("runs/quick/tiny/*/checkpoints/last.ckpt")
    flags = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.logger=CSVLogger", CALLBACK)
    flags += ("--trainer.logger.save_dir=logs", f"--ckpt_path={checkpoint}")
    process = run_program("-m", "lit_scaledrop", "test", "--config=tiny.yaml", *flags)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    energies = [row["hw/energy_nj"] for row in rows_of(place / "logs") if row["hw/energy_nj"]]
    assert len(energies) == 1
    assert float(energies[0]) > 0
    assert out.count("hw/area_mm2") == 1
