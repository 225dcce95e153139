"""DropConnect: full-precision layers whose weights are dropped one by one, at inference as well."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_scaledrop.layers.scale_dropout import check_probability
from lit_scaledrop.layers.weight_sampling import WeightSampling
from lit_scaledrop.shapes import Bool, Float


class _DropConnect(WeightSampling):
    p: Tensor

    def _init_sampling(self, p: float) -> None:
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


class DropConnectConv2d(_DropConnect, nn.Conv2d):
    r"""Convolution whose weights are dropped one by one, at inference as well (Mobiny et al., arXiv:1906.04569).

    $W' = W \odot M / (1 - p)$ with $M_i \sim \mathrm{Bernoulli}(1 - p)$, one random bit a weight. As in the authors'
    code a training batch has one mask, and p is 0.5; biases, first and last layer are not dropped here. Folded
    execution holds a mask of the size of the weights for each row; take the loop for wide networks.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: side of the square kernel.
        stride: stride.
        padding: zeros around the input.
        p: probability that a weight is dropped, in [0, 1].
        dilation: distance of the kernel's elements.
        groups: blocks of channels that see nothing of each other.

    Shape: ``(batch, in_channels, height, width)`` to ``(batch, out_channels, height', width')``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        p: float = 0.5,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
        self._init_sampling(p)

    def multiply(
        self, input: Float[Tensor, "rows c_in h w"], weight: Float[Tensor, "c_out ..."]
    ) -> Float[Tensor, "rows c_out h_out w_out"]:
        """Convolve with given weights."""
        return F.conv2d(input, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def forward(self, input: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "batch c_out h_out w_out"]:
        """Convolve."""
        return self.sampled(input, self.weight)


class DropConnectLinear(_DropConnect, nn.Linear):
    """Linear layer, without bias, whose weights are dropped one by one; see :class:`DropConnectConv2d`.

    Shape: ``(batch, in_features)`` to ``(batch, out_features)``.

    >>> layer = DropConnectLinear(3, 2)
    >>> layer.random_bits, layer.draw(5).shape
    (6, torch.Size([5, 2, 3]))
    """

    def __init__(self, in_features: int, out_features: int, p: float = 0.5) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias=False)
        self._init_sampling(p)

    def multiply(
        self, input: Float[Tensor, "rows *tokens c_in"], weight: Float[Tensor, "c_out c_in"]
    ) -> Float[Tensor, "rows *tokens c_out"]:
        """Multiply by given weights."""
        return F.linear(input, weight)

    def forward(self, input: Float[Tensor, "batch *tokens c_in"]) -> Float[Tensor, "batch *tokens c_out"]:
        """Multiply."""
        return self.sampled(input, self.weight)
