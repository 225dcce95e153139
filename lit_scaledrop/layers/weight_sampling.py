"""Layers with random weights: DropConnect and SpinBayes.

DropConnect drops full-precision weights one by one; SpinBayes stores several arrays of binary weights and draws one.

A pass draws one set of weights and uses it for the whole batch. Where rows of one batch belong to different passes
(folded or shared execution), each run of rows with the same draws is multiplied by its own weights.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear, multiply
from lit_scaledrop.layers.scale_dropout import check_probability
from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.shapes import Bool, Float, Shaped


class WeightSampling(StochasticLayer, ABC):
    """What layers with random weights share. In training there is one draw for a batch."""

    mask_per = "batch"
    weight: Tensor

    @abstractmethod
    def weight_of(self, draw: Shaped[Tensor, "..."]) -> Float[Tensor, "out ..."]:
        """Weights of one pass from its draw."""

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
            return multiply(self, input, mean_weight)
        if len(draws) == 1:
            return multiply(self, input, self.weight_of(draws[0]))
        runs = (draws[1:] != draws[:-1]).flatten(1).any(1).nonzero().flatten() + 1
        parts = torch.tensor_split(input, runs.cpu())
        starts = [0, *runs.tolist()]
        return torch.cat(
            [multiply(self, part, self.weight_of(draws[start])) for part, start in zip(parts, starts, strict=True)]
        )


class _DropConnect(WeightSampling):
    p: Tensor

    def __init__(self, *shape: Any, p: float = 0.5, **geometry: Any) -> None:
        super().__init__(*shape, bias=False, **geometry)  # of the convolution or linear layer
        self.register_buffer("p", torch.tensor(check_probability(p)), persistent=False)

    @property
    def uniform_shape(self) -> tuple[int, ...]:
        """One number for each weight."""
        return tuple(self.weight.shape)

    def from_uniform(self, uniform: Float[Tensor, "rows ..."]) -> Bool[Tensor, "rows ..."]:
        """Keep bits."""
        return uniform >= self.p.to(uniform.device)

    def weight_of(self, draw: Bool[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
        """Kept weights, scaled up."""
        return self.weight * draw / (1 - self.p).clamp_min(torch.finfo(torch.float32).tiny)

    def forward(self, input: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Multiply."""
        return self.sampled(input, self.weight)


class DropConnectConv2d(_DropConnect, nn.Conv2d):
    r"""Convolution whose weights are dropped one by one, at inference as well (Mobiny et al., arXiv:1906.04569).

    $W' = W \odot M / (1 - p)$ with $M_i \sim \mathrm{Bernoulli}(1 - p)$, one random bit a weight. As in the authors'
    code a training batch has one mask, and p is 0.5; biases, first and last layer are not dropped here. Folded
    execution holds a mask of the size of the weights for each row; take the loop for wide networks.

    Args:
        shape: channels in, channels out and kernel size, as :class:`torch.nn.Conv2d` has them.
        p: probability that a weight is dropped, in [0, 1].
        geometry: its stride, padding, dilation and groups.

    Shape: ``(batch, in_channels, height, width)`` to ``(batch, out_channels, height', width')``.
    """


class DropConnectLinear(_DropConnect, nn.Linear):
    """Linear layer, without bias, whose weights are dropped one by one; see :class:`DropConnectConv2d`.

    Shape: ``(batch, in_features)`` to ``(batch, out_features)``.

    >>> layer = DropConnectLinear(3, 2)
    >>> layer.random_bits, layer.draw(5).shape
    (6, torch.Size([5, 2, 3]))
    """


class _SpinBayes(WeightSampling):
    packable = False
    log_sigma: nn.Parameter
    noise: Tensor
    arrays: int
    weight_estimator: nn.Module
    input_estimator: nn.Module
    proxy_weight: Callable[[], Tensor]
    binary_weight: Callable[[], Tensor]

    def __init__(self, *arguments: Any, arrays: int = 4, sigma: float = 0.5, **options: Any) -> None:
        super().__init__(*arguments, **options)  # of the binary layer
        if arrays < 2 or arrays & (arrays - 1):
            raise ValueError(f"SpinBayes chooses one of 2, 4, 8 ... arrays by random bits, not of {arrays}")
        self.arrays = arrays
        self.log_sigma = nn.Parameter(torch.full((len(self.weight), *[1] * (self.weight.dim() - 1)), math.log(sigma)))
        self.register_buffer("noise", torch.randn(arrays, *self.weight.shape))

    @property
    def uniform_shape(self) -> tuple[int]:
        """One number for each bit of the array's index."""
        return (self.arrays.bit_length() - 1,)

    def from_uniform(self, uniform: Float[Tensor, "rows bits"]) -> Bool[Tensor, "rows bits"]:
        """Bits of the array's index, the lowest first."""
        return uniform >= 0.5

    def outcomes(self) -> tuple[Bool[Tensor, "arrays bits"], list[float]]:
        """The bits of every array."""
        index = torch.arange(self.arrays)[:, None]
        places = 2 ** torch.arange(self.random_bits)
        return index // places % 2 == 1, [1 / self.arrays] * self.arrays

    def weight_of(self, draw: Bool[Tensor, " bits"]) -> Float[Tensor, "out ..."]:
        """Binary weights of the array that the bits choose."""
        places = 2 ** torch.arange(len(draw), device=draw.device)
        # index_select: a plain index would make the host wait for the device, and torch.compile fail
        noise = self.noise.index_select(0, (draw * places).sum()[None])[0]
        proxy = self.proxy_weight() + self.log_sigma.exp() * noise
        return self.weight_estimator(proxy)

    def divergence(self) -> Float[Tensor, ""]:
        r"""KL divergence of the proxies' posterior from its prior, mean over the weights, nats.

        $\tfrac12(\sigma^2 + w^2 - 1 - \ln \sigma^2)$ for $\mathcal N(w, \sigma^2)$ from $\mathcal N(0, 1)$, with $w$
        the normalized proxy weight.
        """
        square = self.proxy_weight().square()
        return ((2 * self.log_sigma).exp() + square - 1 - 2 * self.log_sigma).mean() / 2

    def forward(self, input: Float[Tensor, "batch ..."]) -> Float[Tensor, "rows ..."]:
        """Multiply."""
        return self.sampled(self.input_estimator(input), self.binary_weight())


class SpinBayesConv2d(_SpinBayes, BinaryConv2d):
    r"""Binary convolution with K weight arrays, one of which is drawn at random per pass.

    SpinBayes (Ahmed et al., ACM TECS 2023) learns a Gaussian posterior of the weights by variational inference and
    approximates it in memory: K sets of weights are drawn once and stored in crossbars, an arbiter picks one per layer
    and pass, so that $\log_2 K$ random bits replace a random number for each weight. With normalized proxy weights
    $\tilde W$, a learned $\sigma$ for each channel and noise $\epsilon_k$ drawn when the layer is made,

    $$ W_k = \operatorname{sign}(\tilde W + \sigma \epsilon_k), \qquad k \sim \mathrm{Uniform}\{1 \dots K\}. $$

    Our assumptions, since we have only its abstract: K = 4; training sees the K stored arrays, one a batch, rather than
    fresh noise, so what is trained is what is stored; the prior is standard normal and its KL divergence, as a mean
    over weights, is a term of the objective; weights are binary, while the paper also has cells of more bits.

    Args:
        arguments: channels in, channels out, kernel size, and the estimators for weights and input.
        arrays: stored arrays K, a power of two.
        sigma: standard deviation of the posterior at the beginning.
        options: stride, padding, dilation, groups, weight_scale and normalize of :class:`BinaryConv2d`.

    Shape: ``(batch, in_channels, height, width)`` to ``(batch, out_channels, height', width')``.

    Attributes:
        noise: the K draws, part of the state dict, shape ``(K, *weight.shape)``.
    """


class SpinBayesLinear(_SpinBayes, BinaryLinear):
    """Binary linear layer with K weight arrays; see :class:`SpinBayesConv2d`.

    Shape: ``(batch, in_features)`` to ``(batch, out_features)``.
    """
