"""Sections and fields of a chip file, their units, and the objects of the model that they set."""

from dataclasses import dataclass
from typing import Literal, get_args

from hardware.chip import RealLayers, Scale
from hardware.mapping import Mapping

Part = Literal["constant", "cells", "crossbar", "chip"]


@dataclass(frozen=True)
class Field:
    """One thing that a chip file can say."""

    part: Part
    """which object it is of"""
    key: str
    """its name there"""
    unit: str | type | tuple[str, ...]
    """unit of a quantity; ``int`` for a number of something, ``bool`` for yes or no; or the choices"""
    about: str


FIELDS: dict[str, dict[str, Field]] = {
    "cell": {
        "resistance_p": Field("constant", "cell_resistance_p", "kOhm", "resistance of a device in LRS"),
        "tmr": Field("constant", "cell_tmr", "1", "tunnel magnetoresistance of a device"),
        "read_voltage": Field("constant", "cell_read_voltage", "V", "voltage of a word line in a read"),
        "read_time": Field("constant", "cell_read_time", "ns", "time of a read"),
        "area": Field("constant", "cell_area", "um2", "area of a device"),
        "conductance_cv": Field("cells", "conductance_cv", "1", "spread of every device's conductance, log-normal"),
        "stuck_p": Field("cells", "stuck_p", "1", "share of devices that stay in LRS"),
        "stuck_ap": Field("cells", "stuck_ap", "1", "share of devices that stay in HRS"),
        "read_noise_cv": Field("cells", "read_noise_cv", "1", "spread of a device's conductance from read to read"),
        "real_reference": Field("cells", "real_reference", bool, "whether the reference column's devices vary as well"),
    },
    "wires": {
        "per_cell": Field("cells", "wire_ohm_per_cell", "Ohm", "resistance of a line from one cell to the next"),
        "per_device": Field("cells", "wire_ohm_per_device", "Ohm", "the same for a device, two of which are a cell"),
    },
    "converter": {
        "bits": Field("chip", "adc_bits", int, "resolution; by default what exact partial sums need"),
        "offset": Field("cells", "adc_offset_matches", "1", "spread of the offsets, matches"),
        "gain_cv": Field("cells", "adc_gain_cv", "1", "spread of the relative gain errors"),
        "inl": Field("cells", "adc_inl_steps", "1", "spread of the integral nonlinearity at mid-scale, steps"),
        "noise": Field("cells", "adc_noise_matches", "1", "noise of a conversion, matches"),
    },
    "geometry": {
        "rows": Field("crossbar", "rows", int, "inputs of a crossbar"),
        "columns": Field("crossbar", "columns", int, "columns of a crossbar"),
        "columns_per_adc": Field("crossbar", "columns_per_adc", int, "columns that share a converter"),
        "mapping": Field("crossbar", "mapping", get_args(Mapping), "how a convolution lies on crossbars"),
    },
    "arithmetic": {
        "scale": Field("chip", "scale", get_args(Scale), "scale in front of a sign: two thresholds, or a product"),
        "scale_bits": Field("chip", "scale_bits", int, "bits of a scale"),
        "skip_bits": Field("chip", "skip_bits", int, "bits of a number on a skip connection"),
        "real_layers": Field("chip", "real_layers", get_args(RealLayers), "first and last layer"),
        "real_weight_bits": Field("chip", "real_weight_bits", int, "bits of a weight of a digital layer"),
        "real_mac_units": Field("chip", "real_mac_units", int, "multiply-accumulate units of a digital layer"),
    },
}
#: what a converter of one's own says; ``bits`` and errors may stand beside any
CONVERTER = ("name", "energy", "time", "area", "node")
SECTIONS = ("like", "device", *FIELDS, "constants")
