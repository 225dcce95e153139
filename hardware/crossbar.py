r"""Functional simulation of a binary layer on crossbars of complementary cells.

A weight is two devices: (LRS, HRS) for +1 and (HRS, LRS) for -1. Input +1 drives the word line of the first, -1 that of
the second, 0 (a padded or dropped input) neither, so that it adds nothing. Conductances are counted from HRS in units
of the window, $g = (G - G_{AP}) / (G_P - G_{AP})$; a reference column in HRS, under the same word lines, takes
$G_{AP}$ off. A column then reads the number of matches $m$ of a tile, its converter makes an integer of it, and with
the number $n$ of word lines that are on, which the periphery knows, the partial sum is $2m - n$. Partial sums are
added digitally. With ideal devices and enough bits this is the digital layer, bit for bit.

A tile is computed as a convolution of the channels that drive it with the part of the kernels that it holds.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.cells import Imperfections, conductances
from hardware.mapping import Crossbar, tile_rows
from hardware.shapes import Float

#: channels, rows and columns of a kernel
Box = tuple[slice, slice, slice]


class CrossbarLayer(nn.Module):
    """A binary convolution or linear layer on crossbars.

    Args:
        weight: +1 and -1, times a positive factor for each output that is applied digitally; ``(out, in)`` or
            ``(out, in / groups, kh, kw)``.
        crossbar: geometry and mapping.
        imperfect: what is not ideal.
        generator: for variation and stuck devices; needed with them.
        input_estimator: makes an input one of -c, 0 and c; ``None``: it is that already.
        stride: as those of :class:`torch.nn.Conv2d`, likewise the following.
        padding: zeros around the input.
        dilation: distance of the kernel's elements.
        groups: blocks of channels.

    Shape: as the digital layer.

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
            if not self.imperfect.ideal_devices:
                raise ValueError("variation and stuck devices need a generator")
            generator = torch.Generator()
        self.input_estimator = input_estimator or nn.Identity()
        self.stride, self.dilation, self.groups = _pair(stride), _pair(dilation), groups
        self.kernel = tuple(weight.shape[2:]) or (1, 1)
        self.linear = weight.dim() == 2
        self.pads = _pads(padding, self.kernel, self.dilation, self.stride)
        # on the CPU: a generator makes the same chip for every device
        signs, factor = _signs(weight.detach().cpu())
        self.register_buffer("factor", factor, persistent=False)
        self._store(signs.reshape(*signs.shape[:2], *self.kernel), generator)
        self.to(weight.device)

    def _store(self, weight: Float[Tensor, "out channels kh kw"], generator: torch.Generator) -> None:
        """Conductances of each tile as kernels of a convolution, zero where the tile has no cell."""
        channels, height, width = weight.shape[1:]
        area = height * width
        # the crossbars' rows, each as the number of its weight in a flattened kernel
        order = torch.arange(channels * area)
        if self.crossbar.mapping == "kernel_split":
            order = order.reshape(channels, area).t().flatten()
        rows = weight.flatten(1)[:, order].unflatten(0, (self.groups, -1))
        sizes = tile_rows(len(order), area, self.crossbar.rows, self.crossbar.mapping)
        self.boxes: list[Box] = []
        for tile, places in enumerate(order.split(sizes)):
            start = sum(sizes[:tile])
            pairs = [
                conductances(block[:, start : start + len(places)], self.crossbar, self.imperfect, generator)
                for block in rows
            ]
            match, miss = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
            box = _box(places, (channels, height, width))
            self.boxes.append(box)
            # the digital layer's number of matches is (x w + n) / 2
            held = {"difference": (match - miss) / 2, "lines": torch.ones(self.groups, len(places))}
            if not self.imperfect.ideal_devices:
                held["common"] = (match + miss) / 2
            for name, cells in held.items():
                kernel = cells.new_zeros(len(cells), len(order)).index_copy_(1, places, cells)
                kernel = kernel.unflatten(1, (channels, height, width))[:, *box].contiguous()
                self.register_buffer(f"{name}_{tile}", kernel, persistent=False)
        self.observed: list[tuple[float, float]] | None = None
        self._kept: tuple[object, tuple[list[Tensor], Tensor]] | None = None
        self.set_range([(0.0, float(size)) for size in sizes])

    @property
    def tiles(self) -> int:
        """Tiles along the inputs."""
        return len(self.boxes)

    def set_range(self, ranges: Sequence[tuple[float, float]]) -> None:
        """Range of each tile's converters: lowest and highest, in matches; by default 0 to the tile's rows.

        A step is a match or more: a finer one would tell nothing.
        """
        codes = 2 ** (self.imperfect.adc_bits or 24) - 1
        #: lowest value and step of each tile's converters
        self.scale = [(low, max(1.0, (high - low) / codes)) for low, high in ranges]

    def forward(self, input: Float[Tensor, "batch ..."]) -> Float[Tensor, "rows ..."]:
        """The layer's sums."""
        x, on, level = _three_states(self.input_estimator(input))
        leading = x.shape[:-1]
        if self.linear:
            x = x.reshape(-1, x.shape[-1], 1, 1)
        common, active = self._all_on(x) if on is None else self._lines(on.reshape(x.shape))
        x = F.pad(x, self.pads) if any(self.pads) else x
        matches = self._read(0, x, common)
        for tile in range(1, self.tiles):
            matches += self._read(tile, x, common)
        sums = matches.mul_(2).sub_(active).mul_((self.factor * level)[:, None, None])
        return sums.reshape(*leading, len(self.factor)) if self.linear else sums

    def _read(self, tile: int, x: Tensor, common: Sequence[Tensor]) -> Tensor:
        """What the converters of a tile make of its columns."""
        read = self._multiply(self._part(tile, x), getattr(self, f"difference_{tile}"))
        return self._convert(tile, read.add_(common[tile]))

    def _lines(self, on: Tensor) -> tuple[list[Tensor], Tensor]:
        """From where the word lines are on: what both devices of a cell have in common, by tile, and how many are."""
        on = F.pad(on, self.pads)
        common, active = [], []
        for tile in range(self.tiles):
            part = self._part(tile, on)
            lit = self._multiply(part, getattr(self, f"lines_{tile}"))
            if self.groups > 1:
                lit = lit.repeat_interleave(len(self.factor) // self.groups, 1)
            active.append(lit)
            ideal = self.imperfect.ideal_devices
            common.append(lit / 2 if ideal else self._multiply(part, getattr(self, f"common_{tile}")))
        return common, torch.stack(active).sum(0)

    def _all_on(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
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

    def _convert(self, tile: int, matches: Tensor) -> Tensor:
        """What the converters make of the columns of a tile, in place."""
        if self.observed is not None and matches.numel():
            low, high = self.observed[tile]
            self.observed[tile] = min(low, float(matches.min())), max(high, float(matches.max()))
        bits = self.imperfect.adc_bits
        if bits is None:
            return matches
        low, step = self.scale[tile]
        if (low, step) == (0, 1):  # codes are matches
            return matches.round_().clamp_(0, 2**bits - 1)
        return matches.sub_(low).div_(step).round_().clamp_(0, 2**bits - 1).mul_(step).add_(low)


def _box(places: Tensor, shape: tuple[int, int, int]) -> Box:
    """The smallest box of channels, rows and columns of a kernel around some of its weights."""
    held = torch.zeros(math.prod(shape), dtype=torch.bool)
    held[places] = True
    ends = held.reshape(shape).nonzero().aminmax(dim=0)
    channels, height, width = (slice(a, b + 1) for a, b in zip(ends.min.tolist(), ends.max.tolist(), strict=True))
    return channels, height, width


def _signs(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of the weights and the positive factor of each output."""
    factor = weight.flatten(1).abs().amax(1)
    signs = weight / factor.reshape(-1, *[1] * (weight.dim() - 1))
    if not bool((signs.abs() == 1).all()):
        raise ValueError("binary weights must be +1 and -1, times one positive factor for each output")
    return signs, factor


def _three_states(x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Inputs as -1, 0 and 1, which are not 0 (``None``: all), and the factor that they had in common."""
    magnitude = x.abs()
    if not x.numel():
        return x, magnitude, x.new_ones(())
    low, level = magnitude.aminmax()
    level = torch.where(level > 0, level, 1.0)
    states = x if bool(level == 1) else x / level
    if bool(low == level):
        return states, None, level
    if not bool(((magnitude == level) | (magnitude == 0)).all()):
        raise ValueError("inputs of a crossbar must be -c, 0 or c: has the layer an input_estimator that binarizes?")
    return states, states.abs(), level


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    one, other = (value, value) if isinstance(value, int) else value
    return one, other


def _pads(
    padding: int | tuple[int, int] | str, kernel: Sequence[int], dilation: Sequence[int], stride: Sequence[int]
) -> list[int]:
    """Zeros to the left, right, top and bottom."""
    if padding == "same":
        if tuple(stride) != (1, 1):
            raise ValueError("padding='same' is for stride 1")
        totals = [step * (k - 1) for k, step in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        one = (0, 0) if isinstance(padding, str) else _pair(padding)
        sides = [(side, side) for side in one]
    return [*sides[1], *sides[0]]
