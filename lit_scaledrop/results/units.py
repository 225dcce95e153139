"""Units of energy, for people."""

UNITS = {"pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9, "J": 1e12}
"""Units of energy, in pJ."""


def unit_of(energy_pj: float) -> str:
    """The largest unit that is not larger than the energy."""
    return max((name for name, size in UNITS.items() if energy_pj >= size), key=UNITS.__getitem__, default="pJ")


def in_unit(energy_pj: float) -> str:
    """Energy with a unit that keeps the number readable.

    >>> in_unit(0.5), in_unit(181e3), in_unit(98.4e6)
    ('0.5 pJ', '181 nJ', '98.4 uJ')
    """
    unit = unit_of(energy_pj)
    return f"{energy_pj / UNITS[unit]:.3g} {unit}"
