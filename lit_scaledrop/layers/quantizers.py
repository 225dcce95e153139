r"""Binarizations by name: what a binary layer does to its weights and inputs, and to its proxies after a step.

The baselines' 1-bit weights and inputs: BNN, XNOR-Net, DoReFa-Net, LAB, DSQ and ReCU.

Each module is elementwise or sees one layer's proxy weights $W$ (output channels first); $g$ is the gradient that comes
back to its output, $b = \operatorname{sign}(W)$ with $\operatorname{sign}(0) = +1$.

==================  ==================================================  =============================================
module              forward                                             backward
==================  ==================================================  =============================================
``ClippedSign``     $b$; $W$ clipped to [-1, 1] after each step         $g$
``XNORWeight``      $\alpha_c b$, $\alpha_c = \operatorname{mean}|W_c|$    $g\,(1/n + \alpha_c 1[|W| \le 1])$
``DoReFaWeight``    $E b$, $E = \operatorname{mean}|W|$ of the layer       $g$
``DoReFaInput``     $\operatorname{round}(\operatorname{clip}(x, 0, 1))$     $g\,1[0 \le x \le 1]$
``LABWeight``       $\alpha b$, $\alpha = \sum d|W| / \sum d$              $g$
``DSQ``             $c \operatorname{sign}(x)$                             through $c \tanh(k x) / (1 - a)$
``ReCUWeight``      $b$                                                 $2\sqrt 2\,g\,1[|W| \le Q_\tau]$
``ReCUInput``       $\operatorname{sign}(x)$                             $g\,(2 - 2|x|)_+$
==================  ==================================================  =============================================
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear, Poly, binary_sign, signs_of, window
from lit_scaledrop.shapes import Float


def follow_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Let weight estimators act after every step: BNN clips the proxy weights, LAB takes in the gradient's square.

    :class:`lit_scaledrop.modules.LitClassifier` calls it; a training loop of your own calls it once.

    Args:
        network: with binary layers; one without estimators that need it is left alone.
        optimizer: that trains it.

    Returns:
        A handle, whose ``remove()`` ends it; ``None`` where there is nothing to do.
    """
    layers: list[tuple[Callable[[Tensor], None], Tensor]] = []
    for layer in network.modules():
        after_step: Any = getattr(getattr(layer, "weight_estimator", None), "after_step", None)
        if after_step is not None and isinstance(layer, BinaryConv2d | BinaryLinear):
            layers.append((after_step, layer.weight))
    if not layers:
        return None

    @torch.no_grad()
    def act(*_: Any) -> None:
        for after_step, weight in layers:
            after_step(weight)

    return optimizer.register_step_post_hook(act)


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(_: Tensor, value: Tensor, _slope: Tensor | None) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], _: Tensor) -> None:
        slope = inputs[2]
        ctx.save_for_backward(*(() if slope is None else (slope,)))

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad[0] * ctx.saved_tensors[0] if ctx.saved_tensors else grad[0]), None, None


def straight_through(
    x: Float[Tensor, "..."], value: Float[Tensor, "..."], slope: Float[Tensor, "..."] | None = None
) -> Float[Tensor, "..."]:
    """``value`` with the gradient ``slope`` (one where it is ``None``) towards ``x``.

    >>> x = torch.tensor([0.3], requires_grad=True)
    >>> straight_through(x, torch.tensor([1.0])).backward()
    >>> x.grad
    tensor([1.])
    """
    return _StraightThrough.apply(x, value.detach(), None if slope is None else slope.detach())


class ClippedSign(nn.Module):
    """BNN's weights (Courbariaux & Hubara et al., arXiv:1602.02830, algorithm 1): sign, with the gradient as it comes.

    The proxy weights are clipped to [-1, 1] after every step of the optimizer: what lies farther out would not change
    the sign for long.
    """

    signs = True

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize."""
        return straight_through(weight, binary_sign(weight))

    def after_step(self, weight: Float[Tensor, "..."]) -> None:
        """Clip the proxy weights in place; see :func:`lit_scaledrop.layers.quantizers.follow_optimizer`."""
        weight.clamp_(-1, 1)


class XNORWeight(nn.Module):
    r"""XNOR-Net's weights (Rastegari et al., arXiv:1603.05279): sign times the L1 mean of each filter.

    The gradient is the paper's, $g(1/n + \alpha_c 1[|W| \le 1])$ with $n$ weights in a filter. The paper's code also
    centres and clips the weights, which the paper does not mention; neither is done here.
    """

    def forward(self, weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
        """Binarize and scale."""
        alpha = weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True)
        slope = 1 / weight[0].numel() + alpha * (weight.abs() <= 1)
        return straight_through(weight, alpha * binary_sign(weight), slope)


class DoReFaWeight(nn.Module):
    """DoReFa-Net's 1-bit weights (Zhou et al., arXiv:1606.06160, eq. 7-8): sign times one mean of the whole layer."""

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize and scale."""
        return straight_through(weight, weight.abs().mean() * binary_sign(weight))


class _UnitRound(torch.autograd.Function):
    """Keeps the input, which the layer before keeps as well, and no mask of bytes, as ``window`` says."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(0, 1).round()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], _: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad[0] * window(x, 0.0, 1.0)


class DoReFaInput(nn.Module):
    """DoReFa-Net's 1-bit activations (eq. 5, 9-11): clip to [0, 1] and round, so that the two states are 0 and 1.

    >>> DoReFaInput()(torch.tensor([-1.0, 0.4, 0.6, 2.0]))
    tensor([0., 0., 1., 1.])
    """

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize to 0 and 1."""
        return _UnitRound.apply(x)


class LABWeight(nn.Module):
    r"""Loss-aware binarization (Hou, Yao & Kwok, arXiv:1611.01600, proposition 3.1 and algorithm 1).

    A proximal Newton step with the diagonal Hessian $d = \sqrt v + \epsilon$ has the closed form
    $\hat W = \alpha b$, $\alpha = \|d \odot W\|_1 / \|d\|_1$. $v$ is Adam's second moment of the gradient: it is
    followed here (``after_step``), with Adam's $\beta_2$, so that it is there under SGD as well; with Adam it equals
    the optimizer's own (up to the bias correction, which cancels). The gradient at $\hat W$ goes to $W$ as it is, and
    $W$ is clipped to [-1, 1] after the step, as in the authors' code. With SGD the scale is loss-aware, the step
    itself is not preconditioned by $d$; the paper's own optimizer is Adam.

    Attributes:
        second_moment: $v$, a buffer of the state dict: the weights of the trained network depend on it.
    """

    second_moment: Tensor
    beta, eps = 0.999, 1e-8  # Adam's

    def __init__(self, weight: Float[Tensor, "..."]) -> None:
        super().__init__()
        self.register_buffer("second_moment", torch.zeros_like(weight, requires_grad=False))

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize and scale."""
        curvature = self.second_moment.sqrt() + self.eps
        alpha = (curvature * weight.abs()).sum() / curvature.sum()
        return straight_through(weight, alpha * binary_sign(weight))

    def after_step(self, weight: Float[Tensor, "..."]) -> None:
        """Take in the last gradient and clip the proxy weights in place."""
        if weight.grad is not None:
            self.second_moment.mul_(self.beta).addcmul_(weight.grad, weight.grad, value=1 - self.beta)
        weight.clamp_(-1, 1)


class _SoftQuantizer(torch.autograd.Function):
    """Values of the hard quantizer, derivatives of the soft one; autograd's chain would take twice the time."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, c: Tensor, _: Tensor) -> Tensor:
        return c * signs_of(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], _: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, c, a = ctx.saved_tensors
        k = torch.log(2 / a - 1) / (2 * c)
        inside = x.abs() <= c
        t = torch.tanh(k * x)
        slope = grad[0] * (1 - t.square()) * inside
        level = grad[0] * t * inside
        outside = (grad[0] * torch.where(x >= 0, 1.0, -1.0) * ~inside).sum()
        moved = (slope * x).sum()
        d_c = (level.sum() - k * moved) / (1 - a) + outside
        d_a = c * level.sum() / (1 - a).square() - moved / ((1 - a) * a * (2 - a))
        return (slope * (c * k / (1 - a))).to(x.dtype), d_c.to(c.dtype), d_a.to(a.dtype)


class DSQ(nn.Module):
    r"""Differentiable soft quantization with one bit (Gong et al., arXiv:1908.05033, eq. 3-11).

    In the interval $[-c, c]$, which is $\Delta = 2c$ wide, the soft quantizer is $Q_S(x) = c\,s \tanh(k x)$ with
    $s = 1/(1 - a)$ and $k = \frac 1\Delta \ln(2/a - 1)$, so that $Q_S(\pm c) = \pm c$; outside it is $\pm c$. Forward
    the values are $\pm c$ (the paper's $\operatorname{sgn}$ behind $Q_S$), backward the gradient goes through $Q_S$, to
    the characteristic variable $a$ and the clipping value $c$ as well. Simpler than the paper: the interval is
    symmetric (two learned bounds would need an offset behind a 1-bit product), and $\ln c$ and the logit of $a$ are
    what is learned, which keeps $c > 0$ and $0 < a < 1$ at any learning rate.

    Args:
        bound: clipping value $c$ at the beginning; for weights the largest magnitude.
        softness: $a$ at the beginning.
    """

    def __init__(self, bound: float = 1.0, softness: float = 0.2) -> None:
        super().__init__()
        if bound <= 0 or not 0 < softness < 1:
            raise ValueError(f"DSQ needs bound > 0 and 0 < softness < 1, got {bound} and {softness}")
        self.log_bound = nn.Parameter(torch.tensor(math.log(bound)))
        self.softness_logit = nn.Parameter(torch.tensor(math.log(softness / (1 - softness))))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize to plus and minus the clipping value."""
        # the tanh becomes a step in the limit: a floor keeps its slope finite
        softness = torch.sigmoid(self.softness_logit).clamp_min(1e-3)
        return _SoftQuantizer.apply(x, self.log_bound.exp(), softness)


class ReCUWeight(nn.Module):
    r"""Rectified clamp unit (Xu et al., ICCV 2021, arXiv:2103.12369): weights between two quantiles, then the sign.

    Standardized weights follow nearly a Laplace distribution, whose $\tau$-quantile is
    $Q_\tau = -\operatorname{mean}|W| \ln(2 - 2\tau)$. Weights beyond $\pm Q_\tau$ hardly ever change their sign;
    clamped they do. $\tau = A e^{\text{progress}} + B$ grows from ``tau_min`` to ``tau_max``, set once per epoch by
    :class:`lit_scaledrop.callbacks.EstimatorSchedule`. The clamp changes gradients only, not the sign.

    As in the authors' code the weights are standardized to a variance of 8, which the sign does not see and the
    gradient does: it is $2 \sqrt 2$ times that of unit variance. Simpler than theirs: no learned scale behind the
    convolution, since BatchNorm follows and removes it.
    """

    signs = True

    tau: Tensor

    def __init__(self, tau_min: float = 0.85, tau_max: float = 0.99) -> None:
        super().__init__()
        if not 0.5 < tau_min <= tau_max < 1:
            raise ValueError(f"ReCU needs 0.5 < tau_min <= tau_max < 1, got {tau_min} and {tau_max}")
        self.tau_min, self.tau_max = tau_min, tau_max
        # a tensor, so that a new epoch's value does not recompile the graph; training state, so not in the weights
        self.register_buffer("tau", torch.tensor(tau_min), persistent=False)

    def set_progress(self, progress: float) -> None:
        """Set ``tau`` for a share of the training, 0 (start) to 1 (end)."""
        slope = (self.tau_max - self.tau_min) / (math.e - 1)
        self.tau.fill_(slope * math.exp(progress) + self.tau_min - slope)

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Binarize standardized weights."""
        weight = math.sqrt(8) * weight
        quantile = (-weight.abs().mean() * torch.log(2 - 2 * self.tau)).detach()
        clamped = torch.minimum(torch.maximum(weight, -quantile), quantile)
        return straight_through(clamped, binary_sign(weight))


class ReCUInput(Poly):
    r"""Sign with Bi-Real Net's piecewise polynomial gradient (arXiv:1808.00278), as ReCU binarizes activations.

    In training an example is first divided by its standard deviation, which changes the gradient and not the sign.
    """

    signs = True

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Binarize."""
        if self.training:
            x = x / (x.var(tuple(range(1, x.dim())), keepdim=True) + 1e-5).sqrt()
        return super().forward(x)


@dataclass(frozen=True)
class Binarization:
    """How a binary layer computes."""

    weights: type[nn.Module]
    """estimator of the weights"""
    inputs: type[nn.Module]
    """estimator of the inputs"""
    normalize: bool = False
    """channel-wise normalization in front of the weights' estimator"""

    @property
    def binary_inputs(self) -> bool:
        """Whether inputs become 1-bit values as well, or stay what the activation in front makes of them."""
        return self.inputs is not nn.Identity

    def estimators(self, weight: Tensor, t_min: float) -> tuple[nn.Module, nn.Module]:
        """Estimators of a layer's weights and inputs.

        Args:
            weight: the first weights, which DSQ and LAB begin with.
            t_min: where EDE begins.
        """
        first: dict[type[nn.Module], Any] = {EDE: (t_min,), LABWeight: (weight,)}
        bound = (float(weight.detach().abs().max()),) if self.weights is DSQ else ()
        return self.weights(*first.get(self.weights, bound)), self.inputs(*first.get(self.inputs, ()))


BINARIZATIONS: dict[str, Binarization] = {
    "ste": Binarization(STE, STE, normalize=True),
    "ede": Binarization(EDE, EDE, normalize=True),
    "ede_weights": Binarization(EDE, nn.Identity, normalize=True),
    "ede_poly": Binarization(EDE, Poly, normalize=True),
    "bnn": Binarization(ClippedSign, STE),
    "xnor": Binarization(XNORWeight, STE),
    "dorefa": Binarization(DoReFaWeight, DoReFaInput),
    "dsq": Binarization(DSQ, DSQ),
    "lab": Binarization(LABWeight, STE),
    "recu": Binarization(ReCUWeight, ReCUInput, normalize=True),
}
