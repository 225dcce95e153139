"""Mapping of layers to crossbars of R x C complementary cells, and the operations of one pass over an image.

``"unrolled"``  one column holds a whole kernel: ``C_in K K`` rows (Gokmen & Vlasov 2017; the paper's strategy 1).
``"kernel_split"``  ``K K`` matrices of ``C_in`` rows, one for each element of the kernel, whose sums are added; an
    input drives the matrices one after another and is fetched once (Peng et al., ISCAS 2019; the paper's strategy 2).

Rows beyond R and columns beyond C go to further tiles. A cell is two devices with a word line each.

Inputs of k bits come bit by bit. A code ``u`` of 0 to ``2^k - 1`` is ``(sum_j 2^j s_j + 2^k - 1) / 2`` with the signs
``s_j`` of its bits, so a sum of ``w u`` is that of k reads with signs, shifted and added, and a number for each output
that goes into BatchNorm's threshold: the same cells and converters, k times.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hardware.workload import LayerShape

Mapping = Literal["unrolled", "kernel_split"]


@dataclass(frozen=True)
class Crossbar:
    """Geometry of a tile."""

    rows: int = 128
    """inputs of a tile, R"""
    columns: int = 128
    """columns of a tile, C"""
    columns_per_adc: int = 8
    """columns that share a converter"""
    mapping: Mapping = "unrolled"
    """how a convolution is laid out"""

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.columns_per_adc) < 1:
            raise ValueError(f"rows, columns and columns_per_adc of a crossbar must be at least 1, got {self}")
        if self.mapping not in get_args(Mapping):
            raise ValueError(f"mapping must be one of {', '.join(get_args(Mapping))}, got {self.mapping!r}")


def exact_adc_bits(rows: int) -> int:
    """Bits that tell all sums of ``rows`` one-bit products apart, 0 to ``rows`` matches: ``ceil(log2(rows + 1))``.

    >>> exact_adc_bits(127), exact_adc_bits(128)
    (7, 8)
    """
    return rows.bit_length()


def tile_rows(rows: int, kernel_area: int, limit: int, mapping: Mapping) -> list[int]:
    """Rows of each tile along the inputs of one group.

    Args:
        rows: weights that one output sums over.
        kernel_area: elements of the kernel.
        limit: rows of a tile, R.
        mapping: layout.

    >>> tile_rows(150, 25, 128, "unrolled"), tile_rows(18, 9, 128, "kernel_split")
    ([128, 22], [2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    blocks, size = (kernel_area, rows // kernel_area) if mapping == "kernel_split" else (1, rows)
    full, rest = divmod(size, limit)
    return ([limit] * full + [rest] * (rest > 0)) * blocks


@dataclass(frozen=True)
class MappedLayer:
    """A layer on crossbars; counts are those of one pass over one image."""

    shape: LayerShape
    crossbar: Crossbar

    @property
    def row_tiles(self) -> tuple[int, ...]:
        """Rows of each tile along the inputs of one group."""
        crossbar = self.crossbar
        return tuple(tile_rows(self.shape.rows, self.shape.kernel_area, crossbar.rows, crossbar.mapping))

    @property
    def column_tiles(self) -> int:
        """Tiles along the outputs of one group."""
        return math.ceil(self.shape.columns / self.shape.groups / self.crossbar.columns)

    @property
    def tiles(self) -> int:
        """Crossbars that the layer occupies."""
        return len(self.row_tiles) * self.column_tiles * self.shape.groups

    @property
    def devices(self) -> int:
        """Devices that hold a weight: two each."""
        return 2 * self.shape.weights

    @property
    def allocated_devices(self) -> int:
        """Devices of the occupied crossbars."""
        return 2 * self.tiles * self.crossbar.rows * self.crossbar.columns

    @property
    def utilization(self) -> float:
        """Share of the occupied crossbars' cells that hold a weight."""
        return self.devices / self.allocated_devices

    @property
    def cell_reads(self) -> int:
        """Cells that conduct: one device of each, at every output pixel and bit; padded inputs are counted as well."""
        return self.shape.mac * self.shape.input_bits

    @property
    def word_lines(self) -> int:
        """Word-line activations, one a row, bit and tile of columns."""
        return self.shape.rows * self.shape.groups * self.column_tiles * self.shape.positions * self.shape.input_bits

    @property
    def input_reads(self) -> int:
        """Input bits fetched: again for every kernel that covers them, or once with ``kernel_split``."""
        if self.crossbar.mapping == "kernel_split":
            return self.shape.inputs * self.shape.input_bits
        return self.shape.rows * self.shape.groups * self.shape.positions * self.shape.input_bits

    @property
    def conversions(self) -> int:
        """Conversions: one for every output, bit of the inputs and tile of rows."""
        return len(self.row_tiles) * self.shape.outputs * self.shape.input_bits

    @property
    def partial_sum_additions(self) -> int:
        """Additions that join the tiles of rows and the bits of the inputs."""
        return (len(self.row_tiles) * self.shape.input_bits - 1) * self.shape.outputs

    @property
    def converters(self) -> int:
        """Converters of the occupied crossbars."""
        return self.tiles * math.ceil(self.crossbar.columns / self.crossbar.columns_per_adc)

    @property
    def adc_bits(self) -> int:
        """Bits that exact partial sums need."""
        return exact_adc_bits(max(self.row_tiles))

    @property
    def sum_bits(self) -> int:
        """Width of the signed sum of a whole kernel, from minus to plus the rows times the largest code."""
        return exact_adc_bits(self.shape.rows * (2**self.shape.input_bits - 1)) + 1
