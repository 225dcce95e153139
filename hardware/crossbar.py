r"""Functional simulation of a binary layer on crossbars of complementary cells.

A weight is two devices: (LRS, HRS) for +1 and (HRS, LRS) for -1. Input +1 drives the word line of the first, -1 that of
the second, 0 (a padded or dropped input) neither, so that it adds nothing. Conductances are counted from HRS in units
of the window, $g = (G - G_{AP}) / (G_P - G_{AP})$; a reference column in HRS, under the same word lines, takes
$G_{AP}$ off. A column then reads the number of matches $m$ of a tile, its converter makes an integer of it, and with
the number $n$ of word lines that are on, which the periphery knows, the partial sum is $2m - n$. Partial sums are
added digitally. With ideal devices and enough bits this is the digital layer, bit for bit.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.cells import Imperfections, conductances
from hardware.mapping import Crossbar, tile_rows
from hardware.shapes import Float

#: elements of the unfolded inputs that are held at once
CHUNK = 1 << 20


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

    low: Tensor
    step: Tensor
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
        signs, factor = _signs(weight.detach())
        self.register_buffer("factor", factor, persistent=False)
        area = math.prod(self.kernel)
        rows = weight[0].numel()
        sizes = tile_rows(rows, area, self.crossbar.rows, self.crossbar.mapping)
        self._store(self._by_row(signs), sizes, generator)

    def _by_row(self, signs: Tensor) -> Tensor:
        """Weights as ``(groups, out / groups, rows)`` in the order of the crossbars' rows."""
        flat = signs.flatten(2) if signs.dim() > 2 else signs[:, :, None]
        if self.crossbar.mapping == "kernel_split":
            flat = flat.transpose(1, 2)
        return flat.reshape(self.groups, len(signs) // self.groups, -1)

    def _store(self, weight: Tensor, sizes: list[int], generator: torch.Generator) -> None:
        """Tiles of one size computed together: their places, and their conductances as buffers."""
        starts = [sum(sizes[:tile]) for tile in range(len(sizes))]
        self.stacks: list[tuple[int, Tensor]] = []
        lows, spans = [], []
        for size in sorted(set(sizes), reverse=True):
            places = [start for start, rows in zip(starts, sizes, strict=True) if rows == size]
            tiles = [weight[:, :, start : start + size] for start in places]
            pairs = [
                [conductances(block, self.crossbar, self.imperfect, generator) for block in tile] for tile in tiles
            ]
            # (groups, tiles, out, rows); the digital layer's number of matches is (x w + n) / 2
            match, miss = (
                torch.stack([torch.stack([pair[side] for pair in tile]) for tile in pairs], 1) for side in (0, 1)
            )
            index = len(self.stacks)
            self.register_buffer(f"difference_{index}", (match - miss) / 2, persistent=False)
            if not self.imperfect.ideal_devices:
                self.register_buffer(f"common_{index}", (match + miss) / 2, persistent=False)
            self.stacks.append((size, torch.tensor(places)))
            lows.append(torch.zeros(len(places)))
            spans.append(torch.full((len(places),), float(size)))
        self.register_buffer("low", torch.cat(lows), persistent=False)
        self.register_buffer("step", torch.ones_like(self.low), persistent=False)
        self.observed: Tensor | None = None
        self.set_range(self.low, torch.cat(spans))

    def set_range(self, low: Float[Tensor, " tiles"], span: Float[Tensor, " tiles"]) -> None:
        """Range of each tile's converters, in matches; by default 0 to the tile's rows.

        A step is a match or more: a finer one would tell nothing.
        """
        bits = self.imperfect.adc_bits
        self.low.copy_(low)
        if bits is not None:
            self.step.copy_((span / (2**bits - 1)).clamp(min=1))
        #: codes are matches
        self.plain = bool((self.low == 0).all() and (self.step == 1).all())

    def forward(self, input: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The layer's sums."""
        x, level = _three_states(self.input_estimator(input))
        if not len(x):
            return self._sum(torch.zeros(1, *x.shape[1:], dtype=x.dtype, device=x.device))[:0]
        per_image = x[0].numel() if self.linear else math.prod(self.kernel) * x[0].numel() // math.prod(self.stride)
        parts = x.split(max(1, CHUNK // max(1, per_image)))
        sums = torch.cat([self._sum(part) for part in parts]) if len(parts) > 1 else self._sum(x)
        factor = self.factor if self.linear else self.factor[:, None, None]
        return sums * (factor * level)

    def _sum(self, x: Tensor) -> Tensor:
        if self.linear:
            flat = x.flatten(0, -2)
            # the batch takes the place of the pixels
            columns = flat.t()[None, None]
            return self._tiles(columns, flat.abs().t()[None, None])[0, 0].t().unflatten(0, x.shape[:-1])
        padded = F.pad(x, self.pads)
        height, width = (
            (size - step * (k - 1) - 1) // stride + 1
            for size, k, step, stride in zip(padded.shape[2:], self.kernel, self.dilation, self.stride, strict=True)
        )
        on = x.abs()
        if bool((on == 1).all()):
            on = on[:1]  # which word lines are on depends on the padding alone
        sums = self._tiles(self._unfold(padded), self._unfold(F.pad(on, self.pads)))
        return sums.flatten(1, 2).unflatten(2, (height, width))

    def _unfold(self, padded: Tensor) -> Tensor:
        """Inputs of the rows: ``(batch, groups, rows, pixels)``."""
        columns = F.unfold(padded, self.kernel, self.dilation, 0, self.stride)
        columns = columns.unflatten(1, (self.groups, -1, math.prod(self.kernel)))
        if self.crossbar.mapping == "kernel_split":
            columns = columns.transpose(2, 3)
        return columns.flatten(2, 3)

    def _tiles(self, x: Tensor, on: Tensor) -> Tensor:
        """Sum of the tiles' partial sums: ``(batch, groups, out / groups, pixels)`` of what the rows get."""
        matches: Tensor | float = 0.0
        active: Tensor | float = 0.0
        first = 0
        for index, (size, places) in enumerate(self.stacks):
            block, lines = (_take(rows, places, size) for rows in (x, on))
            lit = lines.sum(3, keepdim=True)
            read = getattr(self, f"difference_{index}") @ block
            if self.imperfect.ideal_devices:
                read += lit / 2
            else:
                read += getattr(self, f"common_{index}") @ lines
            matches = matches + self._convert(read, slice(first, first + len(places))).sum(2)
            active = active + lit.sum(2)
            first += len(places)
        return 2 * matches - active  # type: ignore[return-value]

    def _convert(self, matches: Tensor, tiles: slice) -> Tensor:
        """What the converters make of the columns, ``(batch, groups, tiles, out, pixels)``, in place."""
        if self.observed is not None:
            ends = torch.stack([matches.amin((0, 1, 3, 4)), matches.amax((0, 1, 3, 4))])
            self.observed[0, tiles] = torch.minimum(self.observed[0, tiles], ends[0])
            self.observed[1, tiles] = torch.maximum(self.observed[1, tiles], ends[1])
        bits = self.imperfect.adc_bits
        if bits is None:
            return matches
        top = 2**bits - 1
        if self.plain:
            return matches.round_().clamp_(0, top)
        low, step = (value[tiles, None, None] for value in (self.low, self.step))
        return matches.sub_(low).div_(step).round_().clamp_(0, top).mul_(step).add_(low)


def _take(rows: Tensor, places: Tensor, size: int) -> Tensor:
    """Tiles of ``size`` rows at ``places`` of ``(batch, groups, rows, pixels)``, as a view where they are regular."""
    count = len(places)
    if count == 1 or bool((places.diff() == size).all()):
        start = int(places[0])
        return rows[:, :, start : start + count * size].unflatten(2, (count, size))
    index = (places[:, None] + torch.arange(size)).flatten().to(rows.device)
    return rows.index_select(2, index).unflatten(2, (count, size))


def _signs(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of the weights and the positive factor of each output."""
    factor = weight.flatten(1).abs().amax(1)
    signs = weight / factor.reshape(-1, *[1] * (weight.dim() - 1))
    if not bool((signs.abs() == 1).all()):
        raise ValueError("binary weights must be +1 and -1, times one positive factor for each output")
    return signs, factor


def _three_states(x: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs as -1, 0 and 1, and the factor that they had in common."""
    level = x.abs().amax() if x.numel() else x.new_ones(())
    level = torch.where(level > 0, level, 1.0)
    states = x / level
    if not bool(((states.abs() == 1) | (states == 0)).all()):
        raise ValueError("inputs of a crossbar must be -c, 0 or c: has the layer an input_estimator that binarizes?")
    return states, level


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
