r"""Recovery of a manufactured chip: trimmed converters, spare columns, corrected BatchNorm.

BatchNorm is corrected against the digital network on the same images and passes, not set to what a few images show: so
it takes on what the chip does to a channel, and an ideal chip stays what it is, bit for bit. With a channel's mean and
deviation in front of it, $\mu, \sigma$ in the digital network and $\mu', \sigma'$ on the chip, the numbers
$(x - \mu')\, \sigma / \sigma' + \mu$ are what the network knows, so with $s = \sigma' / \sigma$ the digital network's
running statistics M and V become

$$ M + (\mu' - \mu) + (\mu - M)(1 - s), \qquad V + (V + \epsilon)(s^2 - 1) $$

Layer by layer, since what a later one sees depends on those before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hardware.cells import TileCells, manufacture
from hardware.crossbar import CrossbarLayer
from hardware.network import calibrate, crossbar_layers

Run = Callable[[Tensor], object]


def recover(
    chip: nn.Module,
    digital: nn.Module,
    batches: Sequence[Tensor],
    run: Run | None = None,
    digital_run: Run | None = None,
    *,
    spare_columns: int = 0,
    generator: torch.Generator | None = None,
) -> None:
    """Trim the converters, replace the worst columns, set the converters' ranges, and correct BatchNorm.

    Args:
        chip: network of :func:`hardware.network.on_crossbar`.
        digital: the network that it was made of.
        batches: inputs, a few hundred images.
        run: makes the chip's passes over a batch, e.g. the random ones of a posterior; by default one pass.
        digital_run: the same passes of the digital network.
        spare_columns: columns that a tile has more than it needs.
        generator: where the devices of spare columns come from.
    """
    for layer in crossbar_layers(chip):
        layer.converters.trim()
        layer.converters.set_range()
    if spare_columns:
        replace_columns(chip, spare_columns, generator or torch.Generator())
    calibrate(chip, batches, run)
    correct_norms(chip, digital, batches, run, digital_run)


def replace_columns(chip: nn.Module, spare_columns: int, generator: torch.Generator) -> int:
    """Give the worst columns of each tile to spare ones of other devices, where those are better.

    How bad a column is, is known from reading its devices: the square of its error that inputs of random signs would
    have. Through wires a spare column is taken to read as in the place of the one that it replaces.

    Args:
        chip: network of :func:`hardware.network.on_crossbar`; where its devices are nominal nothing changes.
        spare_columns: most columns of a tile that are replaced.
        generator: where the devices of spare columns come from.

    Returns:
        Number of columns that were replaced.
    """
    replaced = 0
    for layer in crossbar_layers(chip):
        for tile, groups in enumerate(layer.cells):
            for group, cells in enumerate(groups):
                groups[group], count = _with_spares(layer, cells, spare_columns, generator)
                replaced += count
            layer.program(tile, groups)
    return replaced


def _with_spares(
    layer: CrossbarLayer, cells: TileCells, spare_columns: int, generator: torch.Generator
) -> tuple[TileCells, int]:
    match, miss, count, width = cells.match.clone(), cells.miss.clone(), 0, layer.crossbar.columns
    for start in range(0, len(cells.weight), width):
        block = slice(start, start + width)
        score = _badness(cells.weight[block], match[block], miss[block])
        worst = score.topk(min(spare_columns, len(score))).indices
        spare = manufacture(cells.weight[block][worst], 0, layer.imperfect, generator)
        better = _badness(spare.weight, spare.match, spare.miss) < score[worst]
        match[start + worst[better]], miss[start + worst[better]] = spare.match[better], spare.miss[better]
        count += int(better.sum())
    return replace(cells, match=match, miss=miss), count


def _badness(weight: Tensor, match: Tensor, miss: Tensor) -> Tensor:
    """Mean square of each column's error over inputs of random signs."""
    first, second = match - (weight > 0).double(), miss - (weight < 0).double()
    return ((first + second) / 2).sum(1).square() + ((first - second) / 2).square().sum(1)


def correct_norms(
    chip: nn.Module,
    digital: nn.Module,
    batches: Sequence[Tensor],
    run: Run | None = None,
    digital_run: Run | None = None,
) -> None:
    """Set the running statistics of every BatchNorm of a chip to what its channels are there; see the module.

    Arguments are those of :func:`recover`. Where one call of a run shows each BatchNorm all rows at once (one batch, no
    loop over passes), the chip runs once and each is corrected on the way; otherwise once for each of them.

    Raises:
        ValueError: no batch, or the digital network is another one.
    """
    if not batches:
        raise ValueError("BatchNorm is corrected on images: give at least one batch")
    norms, trained = _norms(chip), _norms(digital)
    if odd := sorted(norms.keys() ^ trained.keys()):
        raise ValueError(f"the chip was made of another network: they disagree on {', '.join(odd[:3])}")
    known = _watch(trained, batches, digital_run or digital)
    if all(moments.calls == 1 for moments in known.values()):
        _watch(norms, batches, run or chip, lambda name, here: _correct(norms[name], trained[name], known[name], here))
        return
    for name, moments in known.items():
        _correct(norms[name], trained[name], moments, _watch({name: norms[name]}, batches, run or chip)[name])


@dataclass
class _Moments:
    """Of each channel in front of a BatchNorm, float64."""

    calls: int = 0
    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        channels = x.detach().double().transpose(0, 1).flatten(1)
        self.calls, self.count = self.calls + 1, self.count + channels.shape[1]
        self.total, self.squares = self.total + channels.sum(1), self.squares + channels.square().sum(1)

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self.total) / self.count

    @property
    def variance(self) -> Tensor:
        return (torch.as_tensor(self.squares) / self.count - self.mean.square()).clamp(min=0)


def _correct(norm: Any, trained: Any, known: _Moments, here: _Moments) -> None:
    usable = (known.variance > 0) & (here.variance > 0)
    ratio = torch.where(usable, here.variance / torch.where(usable, known.variance, 1.0), 1.0)
    mean, variance = trained.running_mean.double(), trained.running_var.double()
    norm.running_mean.copy_(mean + (here.mean - known.mean) + (known.mean - mean) * (1 - ratio.sqrt()))
    norm.running_var.copy_(variance + (variance + norm.eps) * (ratio - 1))


def _norms(network: nn.Module) -> dict[str, Any]:
    """BatchNorm with running statistics, by name."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds) and m.track_running_stats}


def _watch(
    norms: dict[str, Any],
    batches: Sequence[Tensor],
    run: Run,
    then: Callable[[str, _Moments], None] = lambda _name, _moments: None,
) -> dict[str, _Moments]:
    """What is in front of each BatchNorm, in the order in which they run; ``then`` is called before it normalizes."""
    found: dict[str, _Moments] = {}

    def note(name: str, inputs: tuple[Any, ...]) -> None:
        found.setdefault(name, _Moments()).add(inputs[0])
        then(name, found[name])

    hooks = [
        norm.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs)) for name, norm in norms.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                run(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found
