"""What layers with random weights share: DropConnect (``dropconnect.py``) and SpinBayes (``spinbayes.py``).

A pass draws one set of weights and uses it for the whole batch. Where rows of one batch belong to different passes
(folded or shared execution), each run of rows with the same draws is multiplied by its own weights.
"""

import math

import torch
from torch import Tensor

from lit_scaledrop.layers.sampling import StochasticLayer
from lit_scaledrop.shapes import Float, Shaped


class WeightSampling(StochasticLayer):
    """What layers with random weights share. In training there is one draw for a batch."""

    mask_per = "batch"
    weight: Tensor

    def weight_of(self, draw: Shaped[Tensor, "..."]) -> Float[Tensor, "out ..."]:
        """Weights of one pass from its draw."""
        raise NotImplementedError

    def multiply(self, input: Float[Tensor, "rows ..."], weight: Float[Tensor, "out ..."]) -> Float[Tensor, "rows ..."]:
        """The layer's product with given weights."""
        raise NotImplementedError

    @property
    def random_bits(self) -> int:
        """Random bits a pass."""
        return math.prod(self.uniform_shape)

    def sampled(
        self, input: Float[Tensor, "batch ..."], mean_weight: Float[Tensor, "out ..."]
    ) -> Float[Tensor, "batch ..."]:
        """Product with the weights of each row's draw, or with ``mean_weight`` where nothing is random."""
        draws = self.active_draws(input)
        if draws is None:
            return self.multiply(input, mean_weight)
        if len(draws) == 1:
            return self.multiply(input, self.weight_of(draws[0]))
        runs = (draws[1:] != draws[:-1]).flatten(1).any(1).nonzero().flatten() + 1
        parts = torch.tensor_split(input, runs.cpu())
        starts = [0, *runs.tolist()]
        return torch.cat(
            [self.multiply(part, self.weight_of(draws[start])) for part, start in zip(parts, starts, strict=True)]
        )
