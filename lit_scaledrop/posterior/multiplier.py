"""How predictions compute binary layers: as bit operations where possible, and comparisons where only signs follow."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.bitwise import Backend, bitwise, choose_backend, watched
from lit_scaledrop.layers.recorded import Recorded
from lit_scaledrop.layers.stochastic import MaskPlan, sampling

logger = logging.getLogger(__name__)


_SIZES = 16
"""of inputs for which networks are kept as they were recorded"""


class Multiplier:
    """Chooses a backend for each prediction, and records its networks once.

    Args:
        backend: what was asked for.

    Attributes:
        multiplied: the backend of the last prediction, and why; ``("", "")`` before the first.
        recorded: networks for inputs of some sizes; ``None`` where one runs as it is.

    Raises:
        ValueError: there is no such backend.
    """

    def __init__(self, backend: Backend) -> None:
        if backend not in get_args(Backend):
            raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
        self.backend: Backend = backend
        self.multiplied: tuple[str, str] = ("", "")
        self.recorded: dict[tuple[Any, ...], Recorded | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what was recorded, for copies: it is recorded again."""
        return {**vars(self), "recorded": {}}

    def look(self, networks: Sequence[nn.Module], x: Tensor) -> bool:
        """Whether all networks are what they were when they were recorded, for inputs like ``x``."""
        found = [self.recorded.get(_key(network, x)) for network in networks]
        return all(one is not None and one.of_now() for one in found)

    @contextmanager
    def choosing(self, networks: Sequence[nn.Module], x: Tensor) -> Iterator[None]:
        """A prediction for inputs like ``x``."""
        with bitwise(True):  # weights are compared with their packed ones once
            self.multiplied = choose_backend(self.backend, networks, x, self.look(networks, x))
            with bitwise(self.multiplied[0] == "bits"):
                yield

    def running(self, network: nn.Module, plan: MaskPlan, x: Tensor) -> Callable[[Tensor], Tensor]:
        """What makes passes of one network over parts of ``x``: the network, or what was recorded of it."""
        if self.multiplied[0] != "bits" or not len(x):
            return network
        key = _key(network, x)
        found = self.recorded.get(key)
        if found is not None and found.of_now():
            return found
        if watched(network):
            return network
        if key not in self.recorded or found is not None:
            if len(self.recorded) >= _SIZES:
                self.recorded.clear()
            found = self.recorded[key] = _recorded(network, plan, x)
        return network if found is None else found


def _key(network: nn.Module, x: Tensor) -> tuple[Any, ...]:
    return x.shape[1:], x.stride()[1:], network


def _recorded(network: nn.Module, plan: MaskPlan, x: Tensor) -> Recorded | None:
    """A network's steps, unless they give other numbers than it does: three passes of two inputs tell."""
    try:
        recorded = Recorded(network, x)
        same = bool(recorded.routines) and _same(network, recorded, plan, x[:2])
    except Exception as why:  # whatever ails a network with three rows: with those that it is given it may run
        logger.debug("%s runs as it is: %s", type(network).__name__, why)
        return None
    return recorded if same else None


def _same(network: nn.Module, recorded: Recorded, plan: MaskPlan, x: Tensor) -> bool:
    def logits(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        passes = [run(x)]
        for index in sorted({0, plan.samples - 1}) if plan.draws else ():
            with sampling(network, plan.single(index)):
                passes.append(run(x))
        return passes

    try:
        return all(map(torch.equal, logits(recorded), logits(network)))
    except (TypeError, ValueError, RuntimeError, IndexError):  # of a number of rows, say, that was written down
        return False
