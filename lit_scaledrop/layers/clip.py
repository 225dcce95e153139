"""The clip in front of a sign: ``nn.Hardtanh`` with a backward pass that reads its output.

Values and gradients are those of ``nn.Hardtanh``. For its own backward pass ``torch.compile`` keeps a mask of bytes,
and writing it is slow on a CPU (``benchmarks/bench_training.py``). The output is kept for the next layer anyway.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.shapes import Float


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        y = x.clamp(low, high)
        ctx.save_for_backward(y)
        ctx.low, ctx.high = low, high
        return y

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
        return _Clip.apply(input, self.min_val, self.max_val)
