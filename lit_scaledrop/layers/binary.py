r"""Binary convolutions and linear layers with their sign estimators (paper eq. 2-9 and IR-Net, arXiv:1909.10788).

Forward, every estimator: $\operatorname{sign}(x) = +1$ for $x \ge 0$, else $-1$: two states, as a crossbar cell has
(``torch.sign`` would give a third one, 0, at 0). The estimators differ in the gradient that they pretend:

=========  =====================================================================================
``STE``    $g \cdot \mathbf 1[|x| \le 1]$ (BNN, arXiv:1602.02830)
``EDE``    $g \cdot k\,t\,(1 - \tanh^2(t x))$, $k = \max(1/t, 1)$, $t$ growing over the training (IR-Net)
``Poly``   $g \cdot (2 - 2|x|)_+$ (Bi-Real Net, arXiv:1808.00278)
=========  =====================================================================================

Those of the other methods are in ``quantizers.py``.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_scaledrop.layers.bitwise import product_of_signs
from lit_scaledrop.layers.exact import conv2d_of_signs, worthwhile
from lit_scaledrop.shapes import Float

WeightScale = Literal["none", "power_of_two"]


def binary_sign(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Sign with two values: +1 where ``x >= 0``, -1 elsewhere.

    >>> binary_sign(torch.tensor([-0.3, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """
    return signs_of(x.detach())


def signs_of(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """:func:`binary_sign` for the inside of a custom gradient.

    torch 2.11 compiles such a gradient away, without a word, if its result has been detached or made in place.
    """
    if not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(x):
        return (x >= 0).to(x.dtype) * 2 - 1  # torch.func.vmap has no rule for what follows
    # of one type throughout: torch.where with two numbers is much slower on a CPU
    positive = x.clone().ge_(0)
    if torch.compiler.is_compiling():
        return positive * 2 - 1
    return positive.mul_(2).sub_(1)


def window(x: Float[Tensor, "..."], low: float = -1.0, high: float = 1.0) -> Float[Tensor, "..."]:
    """1 where ``low <= x <= high``, else 0, in the type of ``x``.

    By arithmetic instead of comparisons, whose bytes ``torch.compile`` would keep for the backward pass: writing them
    is slow on a CPU. Exact, since the difference of two numbers is zero only if they are equal.

    >>> window(torch.tensor([-1.1, -1.0, 0.0, 1.0]))
    tensor([0., 1., 1., 1.])
    """
    return 1 - torch.maximum(low - x, x - high).clamp(0, 1).ceil()


class _Sign(torch.autograd.Function):
    """Sign of the first input; the gradient, which may read all inputs, is a subclass's. Also under ``torch.func``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return signs_of(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        ctx.save_for_backward(*inputs)


class _StraightThroughSign(_Sign):
    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad[0] * window(x)


class _ErrorDecaySign(_Sign):
    @staticmethod
    def forward(x: Tensor, _t: Tensor, _k: Tensor) -> Tensor:  # type: ignore[override]
        # no *args: torch.compile counts the arguments
        return signs_of(x)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        x, t, k = ctx.saved_tensors
        slope = k * t * (1 - torch.tanh(t * x).square())
        return grad[0] * slope.to(grad[0].dtype), None, None


class STE(nn.Module):
    """Sign with the clipped straight-through gradient; shape in, shape out."""

    signs = True

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize ``x``."""
        return _StraightThroughSign.apply(x)


class EDE(nn.Module):
    r"""Sign with IR-Net's error-decay gradient.

    $t = 10^{\lg t_{min} + (\lg t_{max} - \lg t_{min}) \cdot \text{progress}}$ starts near the identity and ends near
    the sign; :class:`lit_scaledrop.callbacks.EstimatorSchedule` sets it once per epoch.

    Args:
        t_min: ``t`` at progress 0. IR-Net: 1e-3 for ResNet-20, 1e-1 for VGG-small.
        t_max: ``t`` at progress 1. IR-Net: 10.
    """

    signs = True
    t: Tensor
    k: Tensor

    def __init__(self, t_min: float = 1e-3, t_max: float = 10.0) -> None:
        super().__init__()
        if not 0 < t_min <= t_max:
            raise ValueError(f"EDE needs 0 < t_min <= t_max, got t_min={t_min}, t_max={t_max}")
        self.t_min, self.t_max = t_min, t_max
        # Tensors, so that a new epoch's values do not recompile the graph; training state, so not in the weights.
        self.register_buffer("t", torch.tensor(t_min), persistent=False)
        self.register_buffer("k", torch.tensor(max(1 / t_min, 1.0)), persistent=False)

    def set_progress(self, progress: float) -> None:
        """Set ``t`` and ``k`` for a share of the training, 0 (start) to 1 (end)."""
        low, high = math.log10(self.t_min), math.log10(self.t_max)
        t = 10 ** (low + (high - low) * progress)
        self.t.fill_(t)
        self.k.fill_(max(1 / t, 1.0))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize ``x``."""
        return _ErrorDecaySign.apply(x, self.t, self.k)

    def extra_repr(self) -> str:
        """Range of ``t``."""
        return f"t_min={self.t_min}, t_max={self.t_max}"


class _PolynomialSign(_Sign):
    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad[0] * (2 - 2 * x.abs()).clamp_min(0)


class Poly(nn.Module):
    """Sign with Bi-Real Net's piecewise polynomial gradient, which is zero where a clip's is; shape in, shape out."""

    signs = True

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize ``x``."""
        return _PolynomialSign.apply(x)


def normalize_weight(weight: Float[Tensor, "out ..."], eps: float = 1e-12) -> Float[Tensor, "out ..."]:
    r"""Channel-wise normalized proxy weights (paper section 3).

    $\hat W_c = W_c - \mu_c$, $\tilde W_c = \hat W_c / \sqrt{\operatorname{mean}(\hat W_c^2)}$ with both means over
    everything but the output channel, so that about half of a channel's signs are +1 and its entropy is largest.

    Args:
        weight: proxy weights, output channels first.
        eps: added to the variance; keeps a constant channel finite.

    >>> normalize_weight(torch.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]])
    """
    dims = tuple(range(1, weight.dim()))
    centred = weight - weight.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)


def power_of_two_scale(weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
    r"""IR-Net's bit-shift scale $2^{\operatorname{round}(\log_2 \operatorname{mean}|W_c|)}$ per channel, detached."""
    dims = tuple(range(1, weight.dim()))
    return torch.exp2(torch.log2(weight.detach().abs().mean(dims, keepdim=True)).round())


def multiply(
    layer: nn.Module, input: Float[Tensor, "rows ..."], weight: Float[Tensor, "c_out ..."]
) -> Float[Tensor, "rows ..."]:
    """Product of a convolution or a linear layer with given weights, without bias."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(input, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.linear(input, weight)


class _Binarized:
    """What the binary convolution and the binary linear layer share: how weights and inputs become +-1."""

    weight: Tensor
    weight_estimator: nn.Module
    input_estimator: nn.Module
    weight_scale: WeightScale
    normalize: bool
    packable: bool = True
    """whether the weights of all passes are those of :meth:`binary_weight`"""
    input_bits: int = 1
    """bits of an input, for the hardware model; more where a quantizer in front makes codes and no sign acts on them"""

    def proxy_weight(self) -> Tensor:
        """Real-valued weights as the estimator gets them."""
        return normalize_weight(self.weight) if self.normalize else self.weight

    @property
    def only_signs(self) -> bool:
        """Whether inputs and weights, as they are multiplied, are +1 and -1 and nothing else."""
        estimators = (self.weight_estimator, self.input_estimator)
        return self.weight_scale == "none" and all(getattr(estimator, "signs", False) for estimator in estimators)

    def binary_weight(self) -> Tensor:
        """Weights as the layer uses them: +-1, times a scale where the method asks for it."""
        proxy = self.proxy_weight()
        binary = self.weight_estimator(proxy)
        return binary * power_of_two_scale(proxy) if self.weight_scale == "power_of_two" else binary


class BinaryConv2d(_Binarized, nn.Conv2d):
    """Convolution of a binarized input with binarized weights, without bias (BatchNorm follows).

    The border is padded with zeros, as in IR-Net.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: side of the square kernel.
        weight_estimator: estimator for the weights, e.g. ``EDE()``.
        input_estimator: estimator for the input; ``nn.Identity()`` leaves it real.
        stride: stride.
        padding: zeros around the input.
        dilation: distance of the kernel's elements.
        groups: blocks of channels that see nothing of each other.
        weight_scale: ``"none"`` or IR-Net's ``"power_of_two"``.
        normalize: channel-wise normalization in front of ``weight_estimator``.

    Shape: ``(batch, in_channels, height, width)`` to ``(batch, out_channels, height', width')``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        weight_estimator: nn.Module,
        input_estimator: nn.Module,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        weight_scale: WeightScale = "none",
        normalize: bool = True,
    ) -> None:
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
        self.weight_estimator, self.input_estimator = weight_estimator, input_estimator
        self.weight_scale, self.normalize = weight_scale, normalize

    def forward(self, input: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "rows c_out h_out w_out"]:
        """Convolve."""
        product = product_of_signs(self, input)
        if product is not None:
            return product
        signs, weight = self.input_estimator(input), self.binary_weight()
        if self.only_signs and worthwhile(signs):
            shape = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
            return conv2d_of_signs(signs, weight, **shape)
        return multiply(self, signs, weight)


class BinaryLinear(_Binarized, nn.Linear):
    """Linear layer with binarized input and weights, without bias; arguments as :class:`BinaryConv2d`.

    Shape: ``(batch, in_features)`` to ``(batch, out_features)``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        weight_estimator: nn.Module,
        input_estimator: nn.Module,
        *,
        weight_scale: WeightScale = "none",
        normalize: bool = True,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias=False)
        self.weight_estimator, self.input_estimator = weight_estimator, input_estimator
        self.weight_scale, self.normalize = weight_scale, normalize

    def forward(self, input: Float[Tensor, "batch *tokens c_in"]) -> Float[Tensor, "rows *tokens c_out"]:
        """Multiply."""
        product = product_of_signs(self, input.reshape(-1, self.in_features, 1, 1))
        if product is not None:
            return product.view(*input.shape[:-1], self.out_features)
        return multiply(self, self.input_estimator(input), self.binary_weight())
