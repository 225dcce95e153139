"""Memories: energy per bit, which grows with the capacity."""

import math

from hardware.constants import Preset

WORD_BITS = 64
"""bits of the word that the constants are for"""


def read_pj(capacity_bits: int | float, preset: Preset) -> float:
    """Energy of reading one bit of a memory of a capacity, pJ.

    ``sram_word_energy`` is for a word of 64 bits, by bytes of the memory. Between its entries energy and capacity are
    interpolated on logarithmic axes, above the last one along the last slope; below the first it is the first's, since
    a source says nothing of smaller ones.
    """
    table = preset.table("sram_word_energy", "pJ")
    known, capacity = sorted(table), capacity_bits / 8
    if len(known) == 1 or capacity <= known[0]:
        return table[known[0]] / WORD_BITS
    upper = next((size for size in known if size >= capacity), known[-1])
    lower = known[known.index(upper) - 1]
    slope = math.log(table[upper] / table[lower]) / math.log(upper / lower)
    return table[lower] * (capacity / lower) ** slope / WORD_BITS


def write_pj(capacity_bits: int | float, preset: Preset) -> float:
    """Energy of writing one bit, pJ."""
    return read_pj(capacity_bits, preset) * preset.number("sram_write_factor", "1")
