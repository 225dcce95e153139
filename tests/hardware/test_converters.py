"""Converters: the sources' own numbers, bits that there are, and entries of one's own."""

import math
from dataclasses import replace

import pytest
import yaml

from hardware.adc import read_converters
from hardware.chip import Chip
from hardware.constants import PresetError
from hardware.energy import network_energy
from hardware.mapping import Crossbar, exact_adc_bits
from hardware.passes import passes_of
from hardware.presets import components
from hardware.workload import LayerShape

LAYER = LayerShape("a", 300, 4, 1, True, 300)


def converter(name):
    return components().converter(name)


def chip_of_cells(kilo_ohm: float, tmr: float = 1.1) -> Chip:
    parts = components()
    changes = {"cell_resistance_p": kilo_ohm, "cell_tmr": tmr}
    changed = {name: replace(parts.constants[name], value=value) for name, value in changes.items()}
    return Chip(adc="neurosim", components=replace(parts, constants={**parts.constants, **changed}))


def test_against_the_table_of_sources():
    """Energies of a conversion by bits (hardware_constants): NeuroSim's for a column of 100 kOhm read at 0.5 V."""
    table = {1: 0.040, 3: 0.097, 4: 0.132, 5: 0.171, 6: 0.215, 8: 0.315}
    for bits, energy_pj in table.items():
        adc = converter("neurosim").at(bits, 100.0, 0.5)
        assert adc.energy_pj == pytest.approx(energy_pj, abs=0.0006)
        assert adc.time_ns == bits + 1
    named = {"isaac": {4: 0.79, 8: 1.67}, "mnsim": {1: 0.0016, 4: 4.2, 8: 15.6}, "survey": {4: 1.12}}
    for name, known in named.items():
        for bits, energy_pj in known.items():
            assert converter(name).at(bits, 1.0, 0.25).energy_pj == energy_pj
    assert 2.09 < converter("survey").at(8, 1.0, 0.25).energy_pj < 2.25
    assert converter("isaac").at(7, 1.0, 0.25).energy_pj == pytest.approx(math.sqrt(1.2 * 1.67))
    # Murmann's bound is four times for each bit
    assert converter("murmann").at(7, 1.0, 0.25).energy_pj == pytest.approx(3e-3 * 4, rel=0.02)


@pytest.mark.parametrize(("kilo_ohm", "tmr", "energy_pj"), [(1000.0, 1.1, 0.349), (50.0, 2.0, 1.08), (4.9, 1.1, 9.0)])
def test_neurosims_column_is_rescaled(kilo_ohm, tmr, energy_pj):
    """128 rows read at 0.25 V: the formula's resistance is that of 0.5 V, so the column's term is half as large."""
    adc = chip_of_cells(kilo_ohm, tmr).layer_adc(replace(LAYER, rows=128))
    assert adc.bits == 8
    assert adc.energy_pj == pytest.approx(energy_pj, rel=0.005)


def test_the_cells_of_a_column_are_counted_once():
    uses = passes_of([LAYER], 1)
    energies = {}
    for name in ("neurosim", "isaac"):
        report = network_energy([LAYER], uses, Chip(adc=name))
        energies[name] = {entry.component: entry for entry in report.entries}
    cells, others = energies["neurosim"]["crossbar"], energies["isaac"]["crossbar"]
    assert (cells.energy_pj, cells.operations) == (0.0, others.operations)
    assert others.energy_pj > 0
    assert cells.latency_ns == others.latency_ns


def test_bits_that_there_are():
    with pytest.raises(PresetError, match="comes in up to 8 bits, not in 9"):
        converter("isaac").require(9)
    for name, bits, instead in (("isaac", 3, 4), ("mnsim", 2, 4), ("mnsim", 3, 4), ("survey", 1, 4)):
        with pytest.raises(PresetError, match=f"is not available with {bits} bits.*adc_bits={instead}"):
            converter(name).at(bits, 1.0, 0.25)
    # a formula has no end; its area, which is another source's, stays the last one beyond
    wide, last = (converter("neurosim").at(bits, 1e9, 0.25) for bits in (12, 8))
    assert (wide.bits, wide.time_ns, wide.area_um2) == (12, 13.0, last.area_um2)
    assert wide.energy_pj == pytest.approx((2.1691 * 12 + 16.693) * 13e-3, rel=1e-4)
    assert Chip(Crossbar(256), "neurosim").layer_adc(LAYER).bits == 9
    with pytest.raises(PresetError, match="at least 1 bit"):
        Chip(adc_bits=0)
    # a chip that leaves the bits open takes the smallest converter that is enough
    assert Chip(Crossbar(4), "mnsim").layer_adc(LAYER).energy_pj == 4.2
    assert Chip(Crossbar(1), "mnsim").layer_adc(LAYER).energy_pj == 0.0016
    assert Chip().layer_adc(LAYER).bits == 8
    assert Chip(Crossbar(64)).layer_adc(LAYER).bits == exact_adc_bits(64) == 7
    assert Chip(adc_bits=5).layer_adc(LAYER).energy_pj == 0.99
    assert Chip().column_resistance_kohm(100) == pytest.approx(10 / ((1 + 1 / 2.1) / 2))


ENTRY = {"unit": "pJ", "status": "assumed", "source": "ours"}
LAB = {
    "node": "28 nm",
    "energy": {**ENTRY, "value": {4: 0.4, 8: 0.9}},
    "time": {**ENTRY, "value": 2.0, "unit": "ns"},
    "area": {**ENTRY, "value": 900, "unit": "um2"},
}


def test_a_converter_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"converters": {"lab": LAB}}))
    parts = components(path)
    chip = Chip(adc="lab", adc_bits=4, components=parts)
    adc = chip.layer_adc(LAYER)
    assert (adc.energy_pj, adc.time_ns, adc.area_um2) == (0.4, 2.0, 900)
    assert chip.converter.title == "lab (28 nm, yours)"
    # a list of circuits has none between
    with pytest.raises(PresetError, match=r"'lab' is not available with 6 bits.*adc_bits=8"):
        replace(chip, adc_bits=6)
    assert "isaac" in parts.converters
    assert parts.values()["lab.energy"] == {4: 0.4, 8: 0.9}
    with pytest.raises(PresetError, match="unknown converter 'lab'"):
        Chip(adc="lab")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node": None}, "lab lacks node"),
        ({"time": None}, "lab lacks time"),
        ({"energie": LAB["energy"]}, "did you mean 'energy'"),
        ({"time": {**LAB["time"], "unit": "V"}}, r"must be in ns \(or ps, us, ms, s\), not in V"),
        ({"energy": {**LAB["energy"], "value": {}}}, "without entries"),
        ({"energy": {**LAB["energy"], "source": ""}}, "must not be empty"),
        ({"role": "best"}, "role must be one of converter, bound, outlier"),
        ({"continuous_from": "four"}, "a number of bits"),
    ],
)
def test_wrong_entries_are_refused(change, message):
    entry = {key: value for key, value in {**LAB, **change}.items() if value is not None}
    with pytest.raises(PresetError, match=message):
        read_converters({"lab": entry}, "mine.yaml")
