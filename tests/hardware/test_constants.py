"""Quantities as people write them: a number and its unit, turned into the unit that is read."""

import pytest

from hardware.constants import PresetError, convert, parse_quantity


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("0.894 V", "V", 0.894),
        ("894 mV", "V", 0.894),
        ("44.6 /V", "/V", 44.6),
        ("0.0446 /mV", "/V", 44.6),
        ("750 ps", "ns", 0.75),
        ("5 %", "1", 0.05),
        (0.05, "1", 0.05),
        ("4.9 k\N{GREEK CAPITAL LETTER OMEGA}", "kOhm", 4.9),
        ("3 ohm", "kOhm", 0.003),
        ("40 \N{MICRO SIGN}A", "uA", 40.0),
        ("0.9 fJ", "pJ", 0.0009),
    ],
)
def test_quantities(text, unit, value):
    read = convert("lab.yaml: x", parse_quantity("lab.yaml: x", text), unit)
    assert read.value == pytest.approx(value, rel=1e-12)
    assert (read.unit, read.source, read.status) == (unit, "lab.yaml", "given")


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("0.9 volt", "V", "lab.yaml: x: unknown unit 'volt'"),
        ("0.9 pJ", "V", r"lab.yaml: x must be in V \(or mV, uV\), not in pJ"),
        (0.9, "V", r"lab.yaml: x needs its unit, V \(or mV, uV\): 0.9 is a mere number"),
        ("-1 V", "V", "not negative"),
        ("inf V", "V", "must be a number"),
        ("V", "V", "must be a number"),
    ],
)
def test_what_is_no_quantity(text, unit, message):
    with pytest.raises(PresetError, match=message):
        convert("lab.yaml: x", parse_quantity("lab.yaml: x", text), unit)
