"""The probes `temperature` and `ageing`: their parts, and that calibrating again keeps p where heat or age moves it."""

from pathlib import Path
from statistics import mean

import pytest
import torch

from datamodules import ImageDataModule
from datamodules.loading import ImageArrays
from hardware.devices import load_device
from lit_scaledrop.evaluation.probes import PROBES, Subject, drives
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.drop_probability import read_probabilities, scale_dropouts
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.store import read_result

PROBE, AGEING = PROBES["temperature"], PROBES["ageing"]


class Noise(ImageDataModule):
    """Images of no content."""

    name, class_names = "noise", tuple("abcdefghij")
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def load(self):
        images = torch.randint(256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        labels = torch.arange(8)
        return ImageArrays(images, labels, images, labels, "made up")


def subject(**how):
    data = Noise(eval_batch_size=8, val_fraction=0.0)
    data.setup()
    torch.manual_seed(0)
    network = build_network("lenet5", METHODS["proposed"], width=0.5)
    return Subject([network.eval()], data, Evaluation(samples=4, **how), limit=8)


def test_parts():
    parts = PROBE.parts(subject())
    assert list(parts)[:2] == ["digital", "nominal/250/1"]
    assert parts["recalibrated/325/3"] == {"condition": "recalibrated", "level": 325.0, "chip": 3}
    assert len(parts) == 1 + 3 * len(drives.KELVIN) * drives.CHIPS
    assert PROBE.parts(subject(mtj="stt_nvsim")) == parts
    aged = AGEING.parts(subject())
    assert aged["recalibrated/-0.05/3"] == {"condition": "recalibrated", "level": -0.05, "chip": 3}
    assert "calibrated/0/1" in aged
    assert len(aged) == 1 + (3 * len(drives.DRIFTS) - 1) * drives.CHIPS
    for probe in (PROBE, AGEING):
        for how in ({"sigma": 0.1}, {"mtj": "sot_80nm", "temperature_k": 350.0}, {"mtj": "sot_80nm", "drift": 0.1}):
            with pytest.raises(ValueError, match=r"set evaluation\.mtj"):
                probe.parts(subject(**how))


def test_heat_moves_p_and_calibrating_again_brings_it_back():
    made = subject()
    parts = PROBE.parts(made)

    def shift(part):
        first, noise = PROBE.measure(made, parts[part])
        assert noise.at == {"suite": "uniform"}
        assert {"cls/acc", "cls/nll", "cal/ece", "ood/rate"} <= first.metrics.keys()
        return first.metrics.get("hw/p_shift", 0.0)

    assert shift("digital") == 0.0
    # a chip is one device at all temperatures
    device, _ = load_device("sot_80nm")
    p = read_probabilities(scale_dropouts(made.networks[0])).double()
    moved = (device.probability(device.voltage(p), 350.0) - p).abs().mean().item()
    assert shift("nominal/350/1") > 0.5 * moved
    assert shift("calibrated/350/1") == pytest.approx(moved, abs=0.1)
    for part in ("calibrated/300/1", "recalibrated/350/1"):
        assert shift(part) < 3 * (0.25 / drives.DRAWS) ** 0.5 < 0.1 < moved
    assert set(made.suites) == {"uniform"}


def test_age_moves_p_and_calibrating_again_brings_it_back():
    made = subject()
    parts = AGEING.parts(made)
    device, _ = load_device("sot_80nm")
    p = read_probabilities(scale_dropouts(made.networks[0])).double()
    # a threshold that is higher by a fiftieth sees a drive that is lower by it
    moved = (device.probability(device.voltage(p) / 1.02) - p).abs().mean().item()
    shift = {part: AGEING.measure(made, parts[f"{part}/0.02/1"])[0].metrics["hw/p_shift"]
             for part in ("nominal", "calibrated", "recalibrated")}  # fmt: skip
    assert 0.08 < moved == pytest.approx(shift["calibrated"], abs=0.05)
    assert shift["recalibrated"] < 3 * (0.25 / drives.DRAWS) ** 0.5 < moved < shift["nominal"] + 0.2


@pytest.mark.parametrize(
    ("name", "levels", "names"),
    [
        ("temperature", (250, 275, 300, 325, 350, 400), ("calibrated at 300 K", "calibrated at each temperature")),
        ("ageing", drives.DRIFTS, ("calibrated when new", "calibrated again")),
    ],
)
def test_tables_of_the_document_are_those_of_their_measurements(name, levels, names):
    docs = Path(__file__).parents[2] / "docs"
    text, result = (docs / "variation.md").read_text(), read_result(docs / f"{name}.json")

    def row(metric, condition, suite=None):
        found = [
            (m.at["level"], m.metrics[metric])
            for m in result.measurements
            if (m.at["condition"], m.at.get("suite")) == (condition, suite) and metric in m.metrics
        ]
        values = [[value for at, value in found if at == level] for level in levels]
        assert {len(chips) for chips in values} <= {drives.CHIPS, 0}
        return [mean(chips) if chips else None for chips in values]

    ways = ("nominal", "calibrated", "recalibrated")
    for title, way in zip(("mean error of p: nominal drives", *names), ways, strict=True):
        cells = ["" if error is None else f"{error:.2f}" for error in row("hw/p_shift", way)]
        assert " | ".join([title, *cells]).replace("|  |", "| |") in text
        assert {round(accuracy, 3) for accuracy in row("cls/acc", way) if accuracy is not None} == {0.965}
        assert all(0.0205 < error < 0.0305 for error in row("cal/ece", way) if error is not None)
    shown = ways if name == "temperature" else ways[:2]
    noise = zip(*(row("ood/rate", way, "uniform") for way in shown), strict=True)
    cells = [", ".join(f"{100 * rate:.1f}" for rate in rates) for rates in noise]
    assert f"| {' | '.join(cells)} |" in text
