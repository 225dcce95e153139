"""Tables of the kernels that a layer's draw chooses between: thresholds of chains, factors and shifts of scales."""

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn

from lit_scaledrop.layers import bits
from lit_scaledrop.layers.bits import Cases, Thresholds
from lit_scaledrop.layers.chains import Chain
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import StochasticLayer, drawing_alone

_MOST_CASES = 16


class DrawnCases(Cases):
    """Cases of a layer that draws one number a pass, found when a draw is seen for the first time.

    Args:
        layer: it.
        find: the case of a draw, or of none.
        one: one of the same shapes.
    """

    def __init__(self, layer: StochasticLayer, find: Callable[[Tensor | None], Cases], one: Cases) -> None:
        self.layer, self._find = layer, find
        super().__init__(
            None if one.first is None else one.first.repeat(_MOST_CASES, 1),
            None if one.second is None else one.second.repeat(_MOST_CASES, 1),
            None if one.falling is None else one.falling.repeat(_MOST_CASES, 0),
            random=True,
        )
        self._number: dict[float | None, int] = {}
        self._lock = Lock()

    def case(self, draw: float | None) -> int:
        """Number of the case of a draw.

        Raises:
            OverflowError: there are too many.
        """
        if draw not in self._number:
            with self._lock:
                if draw not in self._number:
                    self._add(draw)
        return self._number[draw]

    def _add(self, draw: float | None) -> None:
        number = len(self._number)
        if number == _MOST_CASES:
            raise OverflowError(f"more than {_MOST_CASES} different draws of {type(self.layer).__name__}")
        found = self._find(None if draw is None else torch.full((1, 1, 1), draw))
        if self.first is not None and found.first is not None:
            self.first[number] = found.first[0]
        if self.second is not None and found.second is not None:
            self.second[number] = found.second[0]
        if self.falling is not None and found.falling is not None:
            self.falling[number] = found.falling[0]
        self._number[draw] = number


def few(layer: StochasticLayer) -> bool:
    """Whether there are tables for all of its draws."""
    try:
        return isinstance(layer, ScaleDropout) or len(layer.outcomes()[0]) < _MOST_CASES
    except ValueError:  # they cannot be enumerated
        return False


def of_chain(chain: Chain, told: Callable[[Thresholds], Cases]) -> Cases:
    """Thresholds of a chain.

    Args:
        chain: it; without modules signs are those of the layers.
        told: how an operation wants them.
    """
    if not chain.between:
        return told(bits.at_least_zero(chain.channels))
    if chain.random is None:
        return told(chain.thresholds(None))
    return DrawnCases(chain.random, lambda draw: told(chain.thresholds(draw)), told(bits.at_least_zero(chain.channels)))


def plainly(thresholds: Thresholds) -> Cases:
    """Thresholds as packing wants them."""
    return Cases(thresholds.threshold.contiguous(), thresholds.direction.contiguous())


def multiplies_and_adds(module: nn.Module) -> bool:
    """Whether it multiplies and adds for each channel, in float32, and it is known how."""
    tensors = [*module.parameters(), *module.buffers()]
    floats = all(t.device.type == "cpu" and (t.dtype == torch.float32 or not t.is_floating_point()) for t in tensors)
    if not floats or module.training:
        return False
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return module.running_mean is not None and bits.norm_is_fused(type(module) is nn.BatchNorm1d) is not None
    return type(module) is ScaleDropout and module.uniform_shape == (1, 1)


def of_stage(module: nn.BatchNorm1d | nn.BatchNorm2d | ScaleDropout) -> tuple[Cases, bool]:
    """Factors and shifts of such a module, and whether it rounds once."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        stage = bits.stage_of_norm(module)
        return Cases(stage.factor.contiguous(), None if stage.shift is None else stage.shift.contiguous()), stage.fused

    def find(draw: Tensor | None) -> Cases:
        with drawing_alone(module, draw), torch.no_grad():
            factor, shift = module.factor_and_shift(torch.empty(1, module.num_features))
        return Cases(factor.clone(), None if shift is None else shift.clone())

    return DrawnCases(module, find, find(None)), False
