"""Memories by capacity, and the random bit of a junction, against their formulas."""

import math
from dataclasses import replace

import pytest

from hardware.devices import load_device
from hardware.draws import junction_bit, module_bit
from hardware.memory import read_pj, write_pj
from hardware.mtj import DriveError
from hardware.presets import components

PARTS = components()
KB = 8 * 1024


@pytest.mark.parametrize(
    ("kilo_byte", "word_pj"),
    # a slope of ln 5 / ln 32 from 32 KB to 1 MB: factors 2.76 and 5.25 over 8 KB
    [(1, 10), (8, 10), (16, math.sqrt(200)), (32, 20), (64, 27.59), (256, 52.53), (1024, 100), (4096, 190.4)],
)
def test_a_word_by_capacity(kilo_byte, word_pj):
    assert 64 * read_pj(kilo_byte * KB, PARTS) == pytest.approx(word_pj, rel=1e-3)
    assert write_pj(kilo_byte * KB, PARTS) == read_pj(kilo_byte * KB, PARTS)


def test_another_source_has_one_price_and_dear_writes():
    stt = PARTS.with_alternative("memories", "nvmexplorer")
    assert 64 * read_pj(KB, stt) == 64 * read_pj(1000 * KB, stt) == pytest.approx(7.19)
    assert 64 * write_pj(KB, stt) == pytest.approx(45.6, rel=1e-3)


@pytest.mark.parametrize("name", ["sot_80nm", "stt_nvsim"])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_junctions_bit(name, p):
    """Drives found by bisection on the switching law; SET, read and, where it switched, RESET."""
    device, _ = load_device(name)

    def drive(wanted: float) -> float:
        """The voltage by bisection, so that the law's own inverse is not taken for granted."""
        low, high = 0.0, device.max_voltage_v
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if device.probability(middle) < wanted else (low, middle)
        return low

    def pulse(volt: float) -> float:
        return volt**2 / float(device.write_resistance_kohm) * device.pulse_ns

    read = device.read_voltage_v**2 * device.read_ns / float(device.resistance_p_kohm)
    bit = junction_bit(device, p)
    assert bit.kept_pj == pytest.approx(pulse(drive(p)) + read, rel=1e-6)
    switched = pulse(drive(p)) + read / (1 + float(device.tmr)) + pulse(device.max_voltage_v)
    assert bit.dropped_pj == pytest.approx(switched, rel=1e-6)
    assert bit.mean_pj(p) == pytest.approx((1 - p) * bit.kept_pj + p * bit.dropped_pj)
    assert bit.mean_pj(p) == pytest.approx(float(device.draw_energy_pj(p)))
    assert bit.cycle_ns == pytest.approx(2 * device.pulse_ns + device.read_ns)


def test_what_needs_no_junction_and_what_none_reaches():
    device, _ = load_device("sot_80nm")
    assert junction_bit(device, 0.0).dropped_pj == junction_bit(device, 1.0).kept_pj == 0.0
    with pytest.raises(DriveError):
        junction_bit(replace(device, max_voltage_v=0.85), 0.5)


def test_the_papers_module():
    assert (module_bit(PARTS).kept_pj, module_bit(PARTS).cycle_ns) == (pytest.approx(0.225), 10.0)
