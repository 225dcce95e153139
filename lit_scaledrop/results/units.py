"""Formats energies and durations."""

UNITS = {"pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9, "J": 1e12}
"""Units of energy, in pJ."""


def unit_of(energy_pj: float) -> str:
    """The largest unit that is not larger than the energy."""
    return max((name for name, size in UNITS.items() if energy_pj >= size), key=UNITS.__getitem__, default="pJ")


def each_for(target: float, total: float, part: float, operations: float) -> float | None:
    """Energy of an operation with which a total meets a target; ``None`` where all but its part takes more.

    >>> each_for(10.0, 14.0, 6.0, 4.0), each_for(8.0, 14.0, 6.0, 4.0)
    (0.5, None)
    """
    left = target - total + part
    return left / operations if left > 0 else None


def in_unit(energy_pj: float) -> str:
    """Energy with a unit that keeps the number readable.

    >>> in_unit(0.5), in_unit(181e3), in_unit(98.4e6)
    ('0.5 pJ', '181 nJ', '98.4 uJ')
    """
    unit = unit_of(energy_pj)
    return f"{energy_pj / UNITS[unit]:.3g} {unit}"


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(12.34), duration(200.0), duration(9000.0)
    ('12.3 s', '3.3 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
