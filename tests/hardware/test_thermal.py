"""Temperature through magnetization, anisotropy, critical voltage and thermal stability, against their closed forms."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardware.devices import load_device
from hardware.mtj import MTJ, NeelBrown, Table
from hardware.thermal import FreeLayer

LAYER = FreeLayer(bloch_temperature_k=1120.0, anisotropy_exponent=2.18, shape_share=0.5)
SOT, _ = load_device("sot_80nm")


def test_blochs_law_and_the_anisotropy_by_hand():
    m = (1 - (400 / 1120) ** 1.5) / (1 - (300 / 1120) ** 1.5)
    assert LAYER.magnetization(400.0, 300.0).item() == pytest.approx(m)
    assert LAYER.anisotropy_energy(400.0, 300.0).item() == pytest.approx((m**2.18 - 0.5 * m**2) / 0.5)
    # H_k = (2 K_i / M_s - mu0 M_s d'), of which the second part is d of the first at the reference
    field = (m**1.18 - 0.5 * m) / 0.5
    assert LAYER.anisotropy_energy(400.0, 300.0).item() / m == pytest.approx(field)
    assert LAYER.anisotropy_energy(300.0, 300.0).item() == 1.0


def test_without_shape_anisotropy_it_is_callens_power():
    kelvin = torch.linspace(200, 500, 31, dtype=torch.float64)
    plain = replace(LAYER, shape_share=0.0)
    m = plain.magnetization(kelvin, 300.0)
    torch.testing.assert_close(plain.anisotropy_energy(kelvin, 300.0), m**2.18)
    # the more the shape takes back, the faster the rest falls
    falls = [replace(LAYER, shape_share=share).anisotropy_energy(400.0, 300.0).item() for share in (0.0, 0.5, 0.9)]
    assert falls == sorted(falls, reverse=True)


def test_an_activated_device_at_400_k():
    device = MTJ(NeelBrown(40.0, 0.5, 1.0), 10.0, 2.0, 5.0, 1.0, free_layer=LAYER)
    energy = LAYER.anisotropy_energy(400.0, 300.0).item()
    delta, critical = 40 * energy * 300 / 400, 0.5 * energy
    expected = 1 - math.exp(-10 * math.exp(-delta * (1 - 0.35 / critical)))
    assert device.probability(0.35, 400.0).item() == pytest.approx(expected)
    # nothing but k_B T without a free layer
    bare = replace(device, free_layer=None)
    expected = 1 - math.exp(-10 * math.exp(-40 * 0.75 * (1 - 0.35 / 0.5)))
    assert bare.probability(0.35, 400.0).item() == pytest.approx(expected)


def test_measured_curves_go_with_the_critical_voltage():
    energy = LAYER.anisotropy_energy(350.0, 300.0).item()
    assert SOT.probability(0.894 * energy, 350.0).item() == pytest.approx(0.5)
    table = MTJ(Table((0.8, 1.0), (0.0, 1.0)), 1.0, 1.0, 5.0, 1.0, free_layer=LAYER)
    assert table.probability(0.85 * energy, 350.0).item() == pytest.approx(0.25)


def test_sot_80nm_from_250_to_400_k():
    """The numbers of docs/variation.md: a drive for p at 300 K gives this p at other temperatures."""
    shown = {250: (0.004, 0.009, 0.032), 275: (0.020, 0.042, 0.143), 300: (0.1, 0.2, 0.5), 325: (0.424, 0.633, 0.881),
             350: (0.859, 0.937, 0.986), 400: (0.999, 1.000, 1.000)}  # fmt: skip
    for kelvin, expected in shown.items():
        got = [round(SOT.probability(SOT.voltage(p), float(kelvin)).item(), 3) for p in (0.1, 0.2, 0.5)]
        assert got == pytest.approx(expected, abs=5e-4)
    text = (Path(__file__).parents[2] / "docs" / "variation.md").read_text()
    for index, p in enumerate((0.1, 0.2, 0.5)):
        assert " | ".join([f"p = {p}", *(f"{row[index]:.3f}" for row in shown.values())]) in text


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FreeLayer(0.0, 2.18, 0.5), "bloch_temperature_k"),
        (lambda: FreeLayer(1120.0, 2.18, 1.0), "below 1"),
        (lambda: LAYER.magnetization(1200.0, 300.0), "below 1120 K"),
        (lambda: LAYER.magnetization(0.0, 300.0), "above 0"),
        (lambda: replace(LAYER, shape_share=0.97).anisotropy_energy(700.0, 300.0), "no perpendicular anisotropy left"),
    ],
)
def test_what_no_layer_stands_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
