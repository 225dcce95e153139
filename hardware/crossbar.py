r"""Functional simulation of a binary layer on crossbars of complementary cells.

A weight is two devices: (LRS, HRS) for +1 and (HRS, LRS) for -1. Input +1 drives the word line of the first, -1 that of
the second, 0 (a padded or dropped input) neither, so that it adds nothing. Conductances are counted from HRS in units
of the window, $g = (G - G_{AP}) / (G_P - G_{AP})$; a reference column in HRS, under the same word lines, takes
$G_{AP}$ off. A column then reads the number of matches $m$ of a tile, its converter makes an integer of it, and with
the number $n$ of word lines that are on, which the periphery knows, the partial sum is $2m - n$. Partial sums are
added digitally. With ideal devices and enough bits this is the digital layer, bit for bit.

A tile is computed as a convolution of the channels that drive it with the part of the kernels that it holds. What wires
take is in :mod:`hardware.wires`, what converters make of it in :mod:`hardware.converter`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.cells import Imperfections, TileCells, manufacture
from hardware.converter import Converters
from hardware.kernels import Box, box_of, pads, pair, row_places, signs_and_factor, three_states
from hardware.mapping import Crossbar
from hardware.shapes import Float
from hardware.wires import columns_of


@dataclass(frozen=True)
class _Lines:
    """What the word lines that are on give, for each tile and in all."""

    common: list[Tensor]
    """what both devices of a cell have in common, and what wires add to it"""
    lit: list[Tensor]
    active: Tensor
    """their number in all tiles"""


CROSSBAR_MODEL = 2
"""Of wires and converters, for identities: 1 had wires to first order, and codes from the lowest sum on."""


class CrossbarLayer(nn.Module):
    """A binary convolution or linear layer on crossbars.

    Args:
        weight: +1 and -1, times a positive factor for each output that is applied digitally; ``(out, in)`` or
            ``(out, in / groups, kh, kw)``.
        crossbar: geometry and mapping.
        imperfect: what is not ideal.
        generator: for all that is drawn once a chip: devices and converters; needed with them.
        noise: for what is drawn at each read; needed with it.
        input_estimator: makes an input one of -c, 0 and c; ``None``: it is that already.
        stride: as those of :class:`torch.nn.Conv2d`, likewise the following.
        padding: zeros around the input.
        dilation: distance of the kernel's elements.
        groups: blocks of channels.

    Shape: as the digital layer.

    Attributes:
        converters: the :class:`hardware.converter.Converters`, with their ranges.
        shape: channels, height and width of a kernel.
        places: for each tile, the numbers of its rows' weights in a flattened kernel.
        cells: devices of each tile and group, where they are not nominal.

    >>> layer = CrossbarLayer(torch.tensor([[1.0, -1.0, 1.0]]))
    >>> layer(torch.tensor([[1.0, 1.0, 0.0]]))
    tensor([[0.]])
    """

    factor: Tensor

    def __init__(
        self,
        weight: Float[Tensor, "out ..."],
        crossbar: Crossbar | None = None,
        imperfect: Imperfections | None = None,
        generator: torch.Generator | None = None,
        noise: torch.Generator | None = None,
        *,
        input_estimator: nn.Module | None = None,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.crossbar, self.imperfect = crossbar or Crossbar(), imperfect or Imperfections()
        if generator is None:
            if self.imperfect.drawn_cells or self.imperfect.drawn_converters:
                raise ValueError("variation, stuck devices and errors of converters need a generator")
            generator = torch.Generator()
        if noise is None and self.imperfect.noisy:
            raise ValueError("noise of reads and converters needs a generator of its own: noise=torch.Generator()")
        self.noise = noise
        self.input_estimator = input_estimator or nn.Identity()
        self.stride, self.dilation, self.groups = pair(stride), pair(dilation), groups
        self.kernel = pair(tuple(weight.shape[2:]) or 1)
        self.linear = weight.dim() == 2
        self.pads = pads(padding, self.kernel, self.dilation, self.stride)
        # on the CPU: a generator makes the same chip for every device
        signs, factor = signs_and_factor(weight.detach().cpu())
        self.register_buffer("factor", factor, persistent=False)
        self.shape = (weight.shape[1], *self.kernel)
        self.places = row_places(self.shape, self.crossbar)
        self.boxes: list[Box] = [box_of(places, self.shape) for places in self.places]
        self.cells: list[list[TileCells]] = []
        blocks = -(-len(signs) // groups // self.crossbar.columns)
        for tile, places in enumerate(self.places):
            parts = signs.flatten(1)[:, places].unflatten(0, (groups, -1))
            cells = [manufacture(part, blocks, self.imperfect, generator) for part in parts]
            self.program(tile, cells)
            if self.imperfect.drawn_cells:
                self.cells.append(cells)
        sizes = [len(places) for places in self.places]
        self.converters = Converters(sizes, len(signs), groups, self.crossbar, self.imperfect, generator)
        self._kept: tuple[object, _Lines] | None = None
        self.to(weight.device)

    @property
    def tiles(self) -> int:
        """Tiles along the inputs."""
        return len(self.places)

    def program(self, tile: int, cells: list[TileCells]) -> None:
        """Make kernels of a convolution of the devices of a tile, one entry a group; zero where it has no cell."""
        columns = [columns_of(part, self.crossbar, self.imperfect) for part in cells]
        places, dtype, device = self.places[tile], self.factor.dtype, self.factor.device
        lines = torch.ones(self.groups, len(places), dtype=dtype)
        held = {"difference": torch.cat([part.difference for part in columns]), "lines": lines}
        if not self.imperfect.ideal_devices:
            held["common"] = torch.cat([part.common for part in columns])
        for name, values in held.items():
            kernel = values.new_zeros(len(values), self.shape[0] * self.kernel[0] * self.kernel[1])
            kernel = kernel.index_copy_(1, places, values).unflatten(1, self.shape)[:, *self.boxes[tile]]
            self.register_buffer(f"{name}_{tile}", kernel.to(device, dtype).contiguous(), persistent=False)
        for name in ("constant", "bend"):
            if any(self.imperfect.wire_ohm):
                values = torch.cat([getattr(part, name) for part in columns])[:, None, None]
                self.register_buffer(f"{name}_{tile}", values.to(device, dtype), persistent=False)
        self._kept = None

    def forward(self, input: Float[Tensor, "batch ..."]) -> Float[Tensor, "rows ..."]:
        """The layer's sums."""
        x, on, level = three_states(self.input_estimator(input))
        leading = x.shape[:-1]
        if self.linear:
            x = x.reshape(-1, x.shape[-1], 1, 1)
        lines = self._all_on(x) if on is None else self._lines(on.reshape(x.shape))
        x = F.pad(x, self.pads) if any(self.pads) else x
        matches = self._read(0, x, lines)
        for tile in range(1, self.tiles):
            matches += self._read(tile, x, lines)
        sums = matches.mul_(2).sub_(lines.active).mul_((self.factor * level)[:, None, None])
        return sums.reshape(*leading, len(self.factor)) if self.linear else sums

    def _read(self, tile: int, x: Tensor, lines: _Lines) -> Tensor:
        """What the converters of a tile make of its columns."""
        read = self._multiply(self._part(tile, x), getattr(self, f"difference_{tile}"))
        read.add_(lines.common[tile])
        if any(self.imperfect.wire_ohm):
            high = 1 / self.imperfect.tmr
            # a column's current less the mean's, whose every row is on
            departs = read + (high * lines.lit[tile] - len(self.places[tile]) * (high + 0.5))
            read.addcmul_(departs.square_(), getattr(self, f"bend_{tile}"), value=-1)
        if self.imperfect.noisy:
            self._add_noise(read, lines.lit[tile])
        return self.converters(tile, read)

    def _add_noise(self, read: Tensor, lit: Tensor) -> None:
        """Noise of the cells that conduct, of as many of the reference column, and of the converter's input."""
        assert self.noise is not None
        noise = torch.randn(read.shape, generator=self.noise, dtype=read.dtype, device=self.noise.device)
        high, cv = 1 / self.imperfect.tmr, self.imperfect.read_noise_cv
        # m cells at 1 + high and the rest at high, of which the reference column has all
        variance = cv**2 * ((1 + 2 * high) * read.clamp(min=0) + 2 * high**2 * lit)
        read.add_(noise.to(read.device) * (variance + self.imperfect.adc_noise_matches**2).sqrt_())

    def word_lines(self, on: Float[Tensor, "batch channels h w"]) -> list[Tensor]:
        """For each tile and pixel the lit word lines, for all outputs or each; ``on``: 1 where an input is not 0."""
        return self._lines(on).lit

    def _lines(self, on: Tensor) -> _Lines:
        """From where the word lines are on: what a tile reads of them, and how many are."""
        on = F.pad(on, self.pads)
        common, lits = [], []
        for tile in range(self.tiles):
            part = self._part(tile, on)
            lit = self._multiply(part, getattr(self, f"lines_{tile}"))
            if self.groups > 1:
                lit = lit.repeat_interleave(len(self.factor) // self.groups, 1)
            lits.append(lit)
            read = lit / 2 if self.imperfect.ideal_devices else self._multiply(part, getattr(self, f"common_{tile}"))
            if any(self.imperfect.wire_ohm):
                # the reference column bends as well
                off = (lit - len(self.places[tile])).square() / self.imperfect.tmr**2
                read = read + getattr(self, f"constant_{tile}") + off * getattr(self, f"bend_{tile}")
            common.append(read)
        return _Lines(common, lits, torch.stack(lits).sum(0))

    def _all_on(self, x: Tensor) -> _Lines:
        """The same where no input is 0: it depends on the padding alone, and is kept for the next batch."""
        key = (x.shape[1:], x.dtype, x.device)
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self._lines(torch.ones_like(x[:1])))
        return self._kept[1]

    def _part(self, tile: int, x: Tensor) -> Tensor:
        """The inputs that a tile's rows get, of padded ones."""
        channels, *window = self.boxes[tile]
        x = x.unflatten(1, (self.groups, -1))[:, :, channels].flatten(1, 2) if self.groups > 1 else x[:, channels]
        for axis, (part, size, step) in enumerate(zip(window, self.kernel, self.dilation, strict=True), 2):
            x = x.narrow(axis, part.start * step, x.shape[axis] - (size - part.stop + part.start) * step)
        return x

    def _multiply(self, x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x, kernel, None, self.stride, 0, self.dilation, self.groups)
