"""``scaledrop summary NETWORK METHOD``: weights, memory, operations and random bits of every layer, as in larq.

A weight or a multiply-accumulate (MAC) is 1-bit where weights *and* inputs are binary; of the segmentation networks
whose inputs have 4 bits, where the weights are, and a line below the table says so. Memory counts the weights that
an inference needs: 1 bit each, times the arrays that SpinBayes stores, or 32; BatchNorm's running statistics are
weights of an inference as well. Analytic scales of binary weights (XNOR-Net, DoReFa-Net, LAB, DSQ) are not counted:
they are constants in front of a BatchNorm and go into it. Random bits are those of one stochastic pass.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from torch import nn

from hardware.workload import trace_workload
from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear
from lit_scaledrop.layers.stochastic import StochasticLayer


@dataclass(frozen=True)
class LayerSummary:
    """One layer, or the sum of several."""

    name: str
    kind: str
    """class"""
    weights_1bit: int
    """binary weights"""
    weights_32bit: int
    """real-valued weights, BatchNorm's statistics included"""
    macs_1bit: int
    """binary multiply-accumulates of one pass over one image"""
    macs_32bit: int
    """real-valued ones"""
    random_bits: int

    @property
    def memory_bytes(self) -> float:
        """Memory of the weights, bytes."""
        return self.weights_1bit / 8 + self.weights_32bit * 4


def summarize(model: nn.Module, input_shape: tuple[int, ...]) -> list[LayerSummary]:
    """Summary of every layer that has weights or random bits, in the order of the modules.

    Args:
        model: any network; it is run once on zeros.
        input_shape: one input without the batch dimension.

    >>> summarize(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), (3, 4, 4))[0].macs_32bit
    3456
    """
    macs: Counter[str] = Counter()
    for shape in trace_workload(model, input_shape):
        macs[shape.name] += shape.mac
    rows = []
    for name, layer in model.named_modules():
        binary = isinstance(layer, BinaryConv2d | BinaryLinear)
        real = 0 if binary or "_estimator." in f"{name}." else _real_weights(layer)
        ones = layer.weight.numel() * getattr(layer, "arrays", 1) if binary else 0
        bits = layer.random_bits if isinstance(layer, StochasticLayer) else 0
        if real or ones or bits:
            mac = (macs[name], 0) if binary else (0, macs[name])
            rows.append(LayerSummary(name, type(layer).__name__, ones, real, *mac, bits))
    return rows


def _real_weights(layer: nn.Module) -> int:
    """Real numbers that a layer itself, without its children, needs at inference."""
    numbers = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        numbers += sum(buffer.numel() for buffer in (layer.running_mean, layer.running_var) if buffer is not None)
    return numbers


def total(rows: Sequence[LayerSummary]) -> LayerSummary:
    """Sum of all layers."""
    numbers = [sum(column) for column in zip(*[astuple(row)[2:] for row in rows], strict=True)]
    return LayerSummary("total", "", *numbers)


def render(rows: Sequence[LayerSummary]) -> str:
    """Text table of the layers with their sum in the last line."""
    header = ["layer", "kind", "1-bit weights", "32-bit weights", "memory kB", "1-bit MAC", "32-bit MAC", "random bits"]
    lines = [header]
    for row in (*rows, total(rows)):
        name, kind, *numbers = astuple(row)
        cells = [f"{number:,}" for number in numbers]
        cells.insert(2, f"{row.memory_bytes / 1000:,.2f}")
        lines.append([name, kind, *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    aligned = [str.ljust, str.ljust, *[str.rjust] * (len(widths) - 2)]
    text = ["  ".join(align(c, w) for align, c, w in zip(aligned, line, widths, strict=True)) for line in lines]
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])
