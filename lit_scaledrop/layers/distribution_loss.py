r"""The distribution loss of RAD (Ding et al., CVPR 2019, arXiv:1904.02823) on what a sign is about to binarize.

For each channel, with mean $\mu$ and standard deviation $\sigma$ over batch and positions:

$$ L = \underbrace{(\mu^2 - \sigma^2)_+}_{\text{degeneration}} + \underbrace{(\sigma - 4)_+^2}_{\text{saturation}}
     + \underbrace{(2 - |\mu| - \sigma)_+^2}_{\text{gradient mismatch}}. $$

Degeneration: a channel whose values nearly all have one sign tells nothing. Saturation: beyond [-1, 1] the clipped
gradient is zero. Mismatch: where all values are inside, the straight-through gradient is everywhere the identity's,
though the function is the sign. Constants and the mean over channels are those of the authors' code.
"""

from torch import Tensor, nn

from lit_scaledrop.shapes import Float


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
