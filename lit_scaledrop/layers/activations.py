r"""Activations: a clip with a cheaper backward pass, PACT, and the distribution loss in front of a sign.

**Clip**: ``nn.Hardtanh`` with a backward pass that reads its output.

Values and gradients are those of ``nn.Hardtanh``. For its own backward pass ``torch.compile`` keeps a mask of bytes,
and writing it is slow on a CPU (``benchmarks/bench_training.py``). The output is kept for the next layer anyway.

**PACT**: an activation of k bits whose clip is learned (Choi et al., arXiv:1805.06085).

$$ y = \operatorname{round}\Big(\operatorname{clip}(x, 0, \alpha)\, \tfrac{2^k - 1}{\alpha}\Big)
       \tfrac{\alpha}{2^k - 1},
\qquad \frac{\partial y}{\partial x} = \mathbf 1[0 \le x < \alpha],
\qquad \frac{\partial y}{\partial \alpha} = \mathbf 1[x \ge \alpha]. $$

So the inputs of the next layer are unsigned k-bit codes times one number, which the BatchNorm behind it takes. The
objective has an L2 term on the clips (``objective.method_terms``), without which nothing would pull one down.

**Distribution loss** of RAD (Ding et al., CVPR 2019, arXiv:1904.02823) on what a sign is about to binarize.

For each channel, with mean $\mu$ and standard deviation $\sigma$ over batch and positions:

$$ L = \underbrace{(\mu^2 - \sigma^2)_+}_{\text{degeneration}} + \underbrace{(\sigma - 4)_+^2}_{\text{saturation}}
     + \underbrace{(2 - |\mu| - \sigma)_+^2}_{\text{gradient mismatch}}. $$

Degeneration: a channel whose values nearly all have one sign tells nothing. Saturation: beyond [-1, 1] the clipped
gradient is zero. Mismatch: where all values are inside, the straight-through gradient is everywhere the identity's,
though the function is the sign. Constants and the mean over channels are those of the authors' code.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.shapes import Float


class _Clip(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        ctx.save_for_backward(output)
        _, ctx.low, ctx.high = inputs

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        # 0 on the borders, 1 inside: the arithmetic of `window`
        inside = torch.minimum(y - ctx.low, ctx.high - y).clamp(0, 1).ceil()
        return grad[0] * inside, None, None


class Clip(nn.Hardtanh):
    """Clip to ``[min_val, max_val]``, by default [-1, 1]; the gradient passes strictly inside. Shape in, shape out.

    >>> x = torch.tensor([-2.0, 0.5, 1.0], requires_grad=True)
    >>> Clip()(x).sum().backward()
    >>> x.grad
    tensor([0., 1., 0.])
    """

    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Clip ``input``."""
        if not torch.is_grad_enabled():  # calling a gradient's function takes as long as clipping 200,000 numbers
            return input.clamp(self.min_val, self.max_val)
        return _Clip.apply(input, self.min_val, self.max_val)


#: a clip never acts as a smaller one, so that no learning rate can make the step zero or negative
SMALLEST_CLIP = 1e-3


class _ClippedLevels(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, clip: Tensor, bits: int) -> Tensor:
        top = 2**bits - 1
        step = clip.clamp_min(SMALLEST_CLIP) / top
        # clipped behind the division: whatever its rounding, there are 2^k levels
        return (x / step).clamp(0, top).round() * step

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], _: Tensor) -> None:
        ctx.save_for_backward(inputs[0], inputs[1].clamp_min(SMALLEST_CLIP))

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, clip = ctx.saved_tensors
        # arithmetic instead of comparisons, as in `binary.window`
        below = (clip - x).clamp(0, 1).ceil()  # 1 where x < clip
        negative = x.neg().clamp(0, 1).ceil()  # 1 where x < 0
        wide = torch.promote_types(grad[0].dtype, torch.float32)
        to_clip = (grad[0] * (1 - below)).sum(dtype=wide).to(clip.dtype)
        return grad[0] * (below - negative), to_clip, None


def pact(x: Float[Tensor, "..."], clip: Float[Tensor, ""], bits: int) -> Float[Tensor, "..."]:
    r"""Clip to $[0, \alpha]$ and round to $2^k$ levels, with PACT's gradients.

    Args:
        x: anything; the result has its type.
        clip: $\alpha$.
        bits: k.

    >>> x = torch.tensor([-1.0, 0.4, 1.4, 5.0], requires_grad=True)
    >>> clip = torch.tensor(3.0, requires_grad=True)
    >>> y = pact(x, clip, bits=2)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist(), clip.grad.item()
    ([0.0, 0.0, 1.0, 3.0], [0.0, 1.0, 1.0, 0.0], 1.0)
    """
    return _ClippedLevels.apply(x, clip, bits)


class PACT(nn.Module):
    r"""Activation with $2^k$ levels from 0 to a learned clip; shape in, shape out.

    Args:
        bits: k, 1 to 16.
        clip: $\alpha$ at the beginning. 3 is nearly where four bits have the least mean square error (2.9) on the
            positive half of a unit Gaussian, as which values leave a fresh BatchNorm.

    Attributes:
        clip: the parameter $\alpha$, one for the layer.

    Raises:
        ValueError: for other bits, or a clip that is not positive.

    >>> PACT(bits=4)(torch.linspace(-1, 5, 1000)).unique().numel()
    16
    """

    def __init__(self, bits: int = 4, clip: float = 3.0) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise ValueError(f"PACT rounds to 1 to 16 bits, got bits={bits}")
        if clip <= 0:
            raise ValueError(f"PACT needs a clip above 0, got {clip}")
        self.bits = bits
        self.clip = nn.Parameter(torch.tensor(float(clip)))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Clip and round."""
        return pact(x, self.clip, self.bits)

    def extra_repr(self) -> str:
        """Number of bits."""
        return f"bits={self.bits}"


def distribution_loss(x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, ""]:
    """Sum of the three terms, mean over channels.

    >>> import torch
    >>> distribution_loss(torch.tensor([[-3.0], [3.0]])).item()  # spread over both signs
    0.0
    >>> distribution_loss(torch.tensor([[2.0], [2.0]])).item()  # all of one sign: 4 + 0 + 0
    4.0
    """
    dims = (0, *range(2, x.dim()))
    mean = x.mean(dims)
    variance = x.var(dims, unbiased=False)
    # the square root has no derivative at 0
    deviation = (variance + 1e-10).sqrt()
    degeneration = (mean.square() - variance).clamp_min(0)
    saturation = (deviation - 4).clamp_min(0).square()
    mismatch = (2 - mean.abs() - deviation).clamp_min(0).square()
    return (degeneration + saturation + mismatch).mean()


class DistributionLoss(nn.Module):
    """Passes its input on and keeps the loss of it for the objective, in training only.

    Args:
        weight: weight of the term in the objective; the authors train with 2.

    Attributes:
        loss: of the last training batch; ``None`` in front of the first.
    """

    def __init__(self, weight: float = 2.0) -> None:
        super().__init__()
        self.weight = weight
        self.loss: Tensor | None = None

    def forward(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        """Look at the input."""
        if self.training:
            self.loss = distribution_loss(x.float())
        return x

    def extra_repr(self) -> str:
        """Weight in the objective."""
        return f"weight={self.weight:g}"
