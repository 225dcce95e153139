"""Analog-to-digital converters: four models whose energies for a conversion differ by orders of magnitude."""

from dataclasses import dataclass
from typing import Literal, get_args

from hardware.constants import Preset

AdcModel = Literal["neurosim", "isaac", "mnsim", "murmann"]
ADC_MODELS: tuple[AdcModel, ...] = get_args(AdcModel)


@dataclass(frozen=True)
class Adc:
    """What one conversion takes, and the area of a converter."""

    bits: int
    """resolution"""
    energy_pj: float
    """energy of a conversion, pJ"""
    time_ns: float
    """time of a conversion, ns"""
    area_um2: float
    """area, um2"""


def build_adc(model: AdcModel, bits: int, column_resistance_kohm: float, preset: Preset) -> Adc:
    r"""A converter of one of the models.

    ``"neurosim"`` is a formula, $P = (2.1691\,b + 16.693)\,\mu W + 0.100225\,W\Omega / R_{col}$ and
    $E = P (b + 1)\,ns$; the others are tables by bits.

    Args:
        model: which.
        bits: resolution.
        column_resistance_kohm: resistance of a column with all its cells; NeuroSim's sensing depends on it.
        preset: component constants.

    Raises:
        ValueError: for an unknown model, or bits that a table has not.
    """
    if model not in ADC_MODELS:
        raise ValueError(f"ADC model must be one of {', '.join(ADC_MODELS)}, got {model!r}")
    if bits < 1:
        raise ValueError(f"a converter needs at least 1 bit, got {bits}")
    area_um2 = preset.at_bits("adc_area", "um2", bits)
    if model != "neurosim":
        energy_pj = preset.at_bits(f"adc_{model}_energy", "pJ", bits)
        return Adc(bits, energy_pj, preset.at_bits(f"adc_{model}_time", "ns", bits), area_um2)
    power_uw = preset.number("adc_neurosim_power_per_bit", "uW") * bits
    power_uw += preset.number("adc_neurosim_power_offset", "uW")
    # W Ohm / kOhm = 1e-3 W = 1e3 uW
    power_uw += preset.number("adc_neurosim_power_column", "W.Ohm") / column_resistance_kohm * 1e3
    time_ns = (bits + 1) * preset.number("adc_neurosim_step", "ns")
    return Adc(bits, power_uw * time_ns * 1e-3, time_ns, area_um2)
