r"""Converters of a layer's columns: their range and non-idealities.

A converter of b bits makes of a column's current of m matches the code nearest to

$$ y = \frac{(1 + \gamma) m + o - low}{step}, \qquad y + 4 \lambda t (1 - t), \quad t = y / (2^b - 1) $$

with a gain error $\gamma$, an offset $o$ and a bow of $\lambda$ steps at mid-scale (integral nonlinearity). Columns
of a tile share a converter as the geometry says; each is drawn once a chip. A code stands for ``low + step * code``.

The sum that is most frequent, half of a tile's rows, lies on a code and not on the edge between two, where noise would
toss it: all codes are shifted by up to half a step. With a range of 0 to the rows that costs nothing, since the largest
error stays half a step.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hardware.cells import Imperfections
from hardware.mapping import Crossbar
from hardware.shapes import Float


class Converters(nn.Module):
    """Converters of all tiles of a layer.

    Args:
        sizes: rows of each tile along the inputs.
        outputs: columns of all groups.
        groups: blocks of columns that have tiles of their own.
        crossbar: geometry.
        imperfect: bits and errors.
        generator: where the errors come from.

    Attributes:
        scale: lowest value and step of each tile's codes, matches.
        observed: while it is no ``None``, the lowest and highest value that each tile's converters were given.
    """

    offset: Tensor
    gain: Tensor
    bow: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        outputs: int,
        groups: int,
        crossbar: Crossbar,
        imperfect: Imperfections,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.sizes, self.imperfect = list(sizes), imperfect
        self.observed: list[tuple[float, float]] | None = None
        self.errors: list[str] = []
        if imperfect.drawn_converters:
            place = torch.arange(outputs)
            group, column = place // (outputs // groups), place % (outputs // groups)
            block, within = column // crossbar.columns, column % crossbar.columns
            number = torch.stack([group, block, within // crossbar.columns_per_adc])
            _, of_column = number.unique(dim=1, return_inverse=True)
            draws = torch.randn(len(sizes), 3, int(of_column.max()) + 1, generator=generator, dtype=torch.float64)
            spreads = (imperfect.adc_offset_matches, imperfect.adc_gain_cv, imperfect.adc_inl_steps)
            for name, spread, drawn in zip(("offset", "gain", "bow"), spreads, draws.unbind(1), strict=True):
                if spread:
                    self.errors.append(name)
                    values = (spread * drawn)[:, of_column, None, None].to(torch.get_default_dtype())
                    self.register_buffer(name, values, persistent=False)
        self.set_range()

    def set_range(self, ranges: Sequence[tuple[float, float]] | None = None) -> None:
        """Range of each tile's converters: lowest and highest, in matches; by default 0 to the tile's rows.

        A step is a match or more: a finer one would tell nothing.
        """
        codes = 2 ** (self.imperfect.adc_bits or 24) - 1
        self.scale = []
        for (low, high), size in zip(ranges or [(0.0, float(s)) for s in self.sizes], self.sizes, strict=True):
            step = max(1.0, (high - low) / codes)
            if step > 1:
                # half of the rows on a code: the lowest is the next one down
                low = size / 2 - step * math.floor((size / 2 - low) / step + 0.5 + 1e-9)
            self.scale.append((low, step))

    def trim(self) -> None:
        """Take offset and gain error off, as trimming against two known currents does; bow and noise stay."""
        self.errors = [name for name in self.errors if name not in ("offset", "gain")]

    def forward(self, tile: int, matches: Float[Tensor, "rows out h w"]) -> Float[Tensor, "rows out h w"]:
        """What the converters of a tile make of its columns, in place."""
        if "gain" in self.errors:
            matches.mul_(1 + self.gain[tile])
        if "offset" in self.errors:
            matches.add_(self.offset[tile])
        if self.observed is not None and matches.numel():
            low, high = self.observed[tile]
            self.observed[tile] = min(low, float(matches.min())), max(high, float(matches.max()))
        bits = self.imperfect.adc_bits
        if bits is None:
            return matches
        low, step = self.scale[tile]
        if (low, step) == (0, 1) and "bow" not in self.errors:  # codes are matches
            return matches.round_().clamp_(0, 2**bits - 1)
        codes = matches.sub_(low).div_(step)
        if "bow" in self.errors:
            share = (codes / (2**bits - 1)).clamp_(0, 1)
            codes.add_(share.mul_(1 - share).mul_(4 * self.bow[tile]))
        return codes.round_().clamp_(0, 2**bits - 1).mul_(step).add_(low)
