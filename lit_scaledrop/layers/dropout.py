r"""Stochastic layers of the methods that Scale-Dropout is compared with."""

import torch
from torch import Tensor

from lit_scaledrop.layers.sampling import StochasticLayer
from lit_scaledrop.layers.scale_dropout import check_probability
from lit_scaledrop.layers.spindrop import SpinDrop
from lit_scaledrop.shapes import Float


class MCDropout(StochasticLayer):
    r"""Dropout of extracted features that stays on at inference (Gal & Ghahramani, arXiv:1506.02142).

    $y_i = x_i m_i / (1 - p)$, $m_i \sim \mathrm{Bernoulli}(1 - p)$. In training every example has its own mask; a
    planned pass is one network drawn from the posterior, with the same mask for all inputs.

    Args:
        num_features: features F (dimension 1 of the input).
        p: probability that a feature is dropped, in [0, 1].

    Shape: ``(batch, F)`` to the same.
    """

    p: Tensor

    def __init__(self, num_features: int, p: float = 0.5) -> None:
        super().__init__()
        self.num_features = num_features
        self.register_buffer("p", torch.tensor(check_probability(p)), persistent=False)

    @property
    def random_bits(self) -> int:
        """One bit for each feature."""
        return self.num_features

    @property
    def uniform_shape(self) -> tuple[int]:
        """One number for each feature."""
        return (self.num_features,)

    def from_uniform(self, uniform: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """Keep bits."""
        return (uniform >= self.p.to(uniform.device)).float()

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """Drop features and scale up the rest."""
        keep = self.active_draws(x)
        if keep is None:
            return x
        # p = 1 drops all: 0, not 0/0
        return (x * keep / (1 - self.p).clamp_min(torch.finfo(torch.float32).tiny)).to(x.dtype)

    def extra_repr(self) -> str:
        """Features and probability."""
        return f"{self.num_features}, p={float(self.p):g}"


class MCDropout2d(SpinDrop):
    """Dropout of single activations of feature maps that stays on at inference (Bayesian SegNet, arXiv:1511.02680).

    What SpinDrop draws in front of a crossbar, between any two layers: one bit for each activation, the same for all
    inputs of a planned pass.

    Args:
        p: probability that an activation is dropped, in [0, 1].
        shape: of the maps of one input, ``(C, H, W)``; ``None``: :func:`lit_scaledrop.layers.spindrop.fix_shapes` finds
            it out.

    Shape: ``(batch, C, H, W)`` to the same.
    """

    def __init__(self, p: float = 0.5, shape: tuple[int, ...] | None = None) -> None:
        super().__init__(shape, p)
