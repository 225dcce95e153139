r"""PACT: an activation of k bits whose clip is learned (Choi et al., arXiv:1805.06085).

$$ y = \operatorname{round}\Big(\operatorname{clip}(x, 0, \alpha)\, \tfrac{2^k - 1}{\alpha}\Big)
       \tfrac{\alpha}{2^k - 1},
\qquad \frac{\partial y}{\partial x} = \mathbf 1[0 \le x < \alpha],
\qquad \frac{\partial y}{\partial \alpha} = \mathbf 1[x \ge \alpha]. $$

So the inputs of the next layer are unsigned k-bit codes times one number, which the BatchNorm behind it takes. The
objective has an L2 term on the clips (``objective.method_terms``), without which nothing would pull one down.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.shapes import Float

#: a clip never acts as a smaller one, so that no learning rate can make the step zero or negative
SMALLEST_CLIP = 1e-3


class _ClippedLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: Tensor, bits: int) -> Tensor:
        clip = clip.clamp_min(SMALLEST_CLIP)
        ctx.save_for_backward(x, clip)
        top = 2**bits - 1
        step = clip / top
        # clipped behind the division: whatever its rounding, there are 2^k levels
        level = (x / step).clamp_(0, top).round_()
        return level * step if torch.compiler.is_compiling() else level.mul_(step)  # see `binary.signs_of`

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, clip = ctx.saved_tensors
        # arithmetic instead of comparisons, as in `binary.window`
        below = (clip - x).clamp_(0, 1).ceil_()  # 1 where x < clip
        negative = x.neg().clamp_(0, 1).ceil_()  # 1 where x < 0
        wide = torch.promote_types(grad[0].dtype, torch.float32)
        to_clip = (grad[0] * (1 - below)).sum(dtype=wide).to(clip.dtype)
        return grad[0] * below.sub_(negative), to_clip, None


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
