"""The probe `temperature`: what its parts ask, and that calibrating again keeps p where heat moves it."""

import pytest
import torch

from datamodules import ImageDataModule
from datamodules.loading import ImageArrays
from hardware.devices import load_device
from lit_scaledrop.evaluation.probes import PROBES, Subject, temperature
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.drop_probability import read_probabilities, scale_dropouts
from lit_scaledrop.posterior.evaluation import Evaluation

PROBE = PROBES["temperature"]


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
    assert len(parts) == 1 + 3 * len(temperature.KELVIN) * temperature.CHIPS
    assert PROBE.parts(subject(mtj="stt_nvsim")) == parts
    for how in ({"sigma": 0.1}, {"mtj": "sot_80nm", "temperature_k": 350.0}):
        with pytest.raises(ValueError, match=r"name evaluation\.mtj"):
            PROBE.parts(subject(**how))


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
        assert shift(part) < 3 * (0.25 / temperature.DRAWS) ** 0.5 < 0.1 < moved
    assert set(made.suites) == {"uniform"}
