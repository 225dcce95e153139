"""Which layers the tensors of a traced pass come from."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary


class Flow:
    """Sources of activations: the layers whose outputs they are made of, through whatever stands between layers.

    An activation depends on the network's input; parameters and what is made of them alone are none.
    """

    def __init__(self) -> None:
        # by identity, and gone with the tensor: those of U-Net are gigabytes
        self._sources = WeakTensorKeyDictionary()

    def begin(self, values: Any, *places: int) -> None:
        """Activations that are the outputs of the layers numbered ``places``, or of none."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                self._sources[tensor] = frozenset(places)

    def pass_on(self, inputs: Any, results: Any) -> None:
        """Results of an operation come from where its inputs come from."""
        if any(self.is_activation(tensor) for tensor in tree_leaves(inputs)):
            self.begin(results, *self.sources(inputs))

    def is_activation(self, value: Any) -> bool:
        """Whether a value depends on the network's input."""
        return isinstance(value, Tensor) and value in self._sources

    def sources(self, values: Any) -> dict[int, int]:
        """Layers that ``values`` come from, each with the most numbers that a tensor of its has, of the one input."""
        found: dict[int, int] = {}
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                for place in self._sources.get(tensor, ()):
                    found[place] = max(found.get(place, 0), tensor.numel())
        return found
