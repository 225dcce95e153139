r"""Currents of a tile's columns with resistive wires, as two matrices, a constant and a quadratic term.

Word lines are driven at their left end by the read voltage (1 here), bit lines end in a virtual ground below the first
row, and the reference column stands behind the last one. Of each cell the device on the driven word line conducts. A
device of conductance $g$ sees $v = 1 - W(g v) - B(g v)$, where $W$ and $B$ add the drops along its word and bit line.

Each row has one of its two devices on, so the array is first solved exactly at the mean $c$ of both (fixed point,
contracting by the largest drop). A device that departs from it by $\delta x$, with the input $x = \pm 1$, changes its
column's current by $\delta x\, v b$, where by reciprocity $b = 1 - B(g b)$ is the voltage that its own bit line, driven
at the sensing end, has there; and through its word line the currents of all columns, by $- c b\, W(v \delta x)$. What
remains is of second order: a column that conducts more than the mean loads its own bit line more. With $M_{ik} =
\min(i, k)$ pieces of wire that rows i and k share, its current lacks $r \sum_{ik} M_{ik} \delta_i x_i \delta_k x_k$,
here the mean of $M$ over $i \ne k$ times the squared departure of the column's current, and exactly where $i = k$.
So a tile costs the matrix products that it costs without wires, and nothing for each image.

The array is input-driven: an undriven line is open, as with a selector or an access transistor that its word line
turns off. A transistor array whose inputs come by the gates has its read voltage on other lines, and in a passive array
undriven lines at 0 V take current (at 3 ohm a cell and 128 x 64 cells 2.5 instead of 1.3 matches): neither is this.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hardware.cells import Imperfections, TileCells
from hardware.mapping import Crossbar
from hardware.shapes import Float

#: largest share of the read voltage that the wires may take
MOST = 0.2


@dataclass(frozen=True)
class Columns:
    """A column reads ``difference . x + common . |x| + constant - bend * d^2`` matches; d: current less the mean."""

    difference: Float[Tensor, "out rows"]
    """times the input"""
    common: Float[Tensor, "out rows"]
    """times whether the input is not 0"""
    constant: Float[Tensor, " out"] | None = None
    """where lines may be off, what the others gain; ``None`` without wires, like the bend"""
    bend: Float[Tensor, " out"] | None = None
    """loss by the square of a column's current, a match"""


def columns_of(cells: TileCells, crossbar: Crossbar, imperfect: Imperfections) -> Columns:
    """What the columns of a tile read less what their reference columns read, in float64.

    Raises:
        ValueError: the wires take more than a fifth of the read voltage.
    """
    blocks = range(0, len(cells.weight), crossbar.columns)
    parts = [slice(start, start + crossbar.columns) for start in blocks]
    if not any(imperfect.wire_ohm):
        sizes = torch.tensor([len(cells.weight[part]) for part in parts])
        match, miss = (
            devices - reference.repeat_interleave(sizes, 0)
            for devices, reference in zip((cells.match, cells.miss), cells.reference, strict=True)
        )
        return Columns((match - miss) / 2, (match + miss) / 2)
    found = [
        _behind_wires(cells.match[part], cells.miss[part], cells.reference[:, block], imperfect)
        for block, part in enumerate(parts)
    ]
    return Columns(*(torch.cat(pieces) for pieces in zip(*found, strict=True)))


def drop(current: Tensor, dim: int, ohm: float) -> Tensor:
    """Voltage that a line loses on the way to each of its places, of the currents that leave or enter it there."""
    through = current.flip(dim).cumsum(dim).flip(dim)
    return ohm * through.cumsum(dim)


def _behind_wires(
    match: Tensor, miss: Tensor, reference: Tensor, imperfect: Imperfections
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fields of :class:`Columns` for one tile; conductances in units of the window, resistances in their inverse."""
    word, bit = (ohm * imperfect.window_siemens for ohm in imperfect.wire_ohm)
    on_match = torch.cat([match, reference[:1]]).double() + 1 / imperfect.tmr
    on_miss = torch.cat([miss, reference[1:]]).double() + 1 / imperfect.tmr
    mean, delta = (on_match + on_miss) / 2, (on_match - on_miss) / 2
    first = drop(mean, 0, word) + drop(mean, 1, bit)
    v = own = torch.ones_like(mean)
    # each round gains the factor of the largest drop; an estimate that is far too large need not be solved
    for _ in range(40 if float(first.max()) < 0.5 else 1):
        v = 1 - drop(mean * v, 0, word) - drop(mean * v, 1, bit)
        own = 1 - drop(mean * own, 1, bit)
    if float(v.min()) < 1 - MOST:
        raise ValueError(
            f"the wires would take {100 * float(1 - v.min()):.0f} % of the read voltage, where the model is for "
            f"{100 * MOST:.0f} %: use smaller tiles, cells of a higher resistance, or less wire resistance"
        )
    neighbours = drop(v * delta, 0, word)
    rows = mean.shape[1]
    place = torch.arange(1, rows + 1, dtype=mean.dtype)
    shared = (rows + 1) / 3  # the mean of min(i, k) over i != k
    difference = delta * v * own - mean * own * neighbours
    common = mean * v * own - delta * own * neighbours - bit * (place - shared) * delta**2
    constant = (mean * v * (1 - own)).sum(1)
    bend = bit * shared * (v * v * own).mean(1)
    # from conductances to what is above the reference column, which carries its own load
    return (
        difference[:-1] - difference[-1:],
        common[:-1] - common[-1:],
        constant[:-1] - constant[-1:],
        bend[:-1],
    )
