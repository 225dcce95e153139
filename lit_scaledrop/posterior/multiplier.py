"""How predictions compute binary layers: as bit operations where possible, and comparisons where only signs follow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.bitwise import Backend, bitwise, choose_backend, watched
from lit_scaledrop.layers.chain_search import can_be_parted, find_chains
from lit_scaledrop.layers.chains import Chain
from lit_scaledrop.layers.comparing import compared
from lit_scaledrop.layers.probing import modules_of
from lit_scaledrop.layers.stochastic import MaskPlan, sampling

_WANTED = (TypeError, AttributeError)
"""what code raises that gets bits where it wants numbers"""


class Multiplier:
    """Chooses a backend for each prediction, and finds the chains of its networks once.

    Args:
        backend: what was asked for.

    Attributes:
        multiplied: the backend of the last prediction, and why; ``("", "")`` before the first.

    Raises:
        ValueError: there is no such backend.
    """

    def __init__(self, backend: Backend) -> None:
        if backend not in get_args(Backend):
            raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
        self.backend: Backend = backend
        self.multiplied: tuple[str, str] = ("", "")
        self.chains: dict[tuple[Any, ...], list[Chain] | None] = {}

    @contextmanager
    def choosing(self, networks: Sequence[nn.Module], x: Tensor) -> Iterator[None]:
        """A prediction for inputs like ``x``."""
        with bitwise(True):  # weights are compared with their packed ones once
            self.multiplied = choose_backend(self.backend, networks, x)
            with bitwise(self.multiplied[0] == "bits"):
                yield

    def run(self, passes: Callable[[], Tensor]) -> Tensor:
        """Make passes; again without chains if one goes another way than the one that was looked at."""
        try:
            return passes()
        except _WANTED:
            if all(chains is None for chains in self.chains.values()):
                raise
            self.chains = dict.fromkeys(self.chains)
            return passes()

    @contextmanager
    def multiplying(self, network: nn.Module, plan: MaskPlan, x: Tensor) -> Iterator[None]:
        """Passes of one network over parts of ``x``."""
        chains = self._chains_of(network, plan, x) if self.multiplied[0] == "bits" and len(x) else None
        with nullcontext() if chains is None else compared(network, chains):
            yield

    def _chains_of(self, network: nn.Module, plan: MaskPlan, x: Tensor) -> list[Chain] | None:
        """Where only signs count between two convolutions; ``None`` where nothing may stand for the modules.

        Two passes of two inputs tell.
        """
        key = (x.shape[1:], x.stride()[1:], *modules_of(network))
        if key not in self.chains:
            if watched(network):
                return None
            found = find_chains(network, x[:1]) if can_be_parted(network) else None
            self.chains[key] = found if found is not None and _same(network, plan, x[:2], found) else None
        return self.chains[key]


def _same(network: nn.Module, plan: MaskPlan, x: Tensor, chains: Sequence[Chain]) -> bool:
    def logits() -> list[Tensor]:
        passes = [network(x)]
        for index in {0, plan.samples - 1} if plan.draws else ():
            with sampling(network, plan.single(index)):
                passes.append(network(x))
        return passes

    expected = logits()
    try:
        with compared(network, chains):
            return all(map(torch.equal, logits(), expected))
    except (*_WANTED, RuntimeError):  # numbers that are put off have no memory
        return False
