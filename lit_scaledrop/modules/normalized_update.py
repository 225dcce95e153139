r"""The normalized update: every filter of a normalized binary layer turns by the same angle a step.

The loss sees neither length nor mean of such a filter $w$ (:func:`lit_scaledrop.layers.binary.normalize_weight`), only
where it points; what plain SGD turns it by, about $\eta\,|g| / |w|$, follows from a length that is decided by accident
in the first steps. Here the direction is that of SGD's momentum buffer $b \leftarrow m\,b + g$, without Nesterov's look
ahead and without decay, and the length of the step is an angle $\theta$:

$$ u = b - \frac{b \cdot w}{w \cdot w}\,w, \qquad w \leftarrow \cos\theta\; w - \sin\theta\; |w|\, \frac{u}{|u|} $$

so that $|w|$ stays and the angle between the old and the new filter is $\theta$. A filter with $u = 0$ stays as it is.
The renormalization after each step is that of airbench's Muon (github.com/KellerJordan/cifar10-airbench).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear
from lit_scaledrop.shapes import Float

Update = Literal["plain", "normalized"]

ANGLE = 0.03
"""Radians that a filter turns by in a step at the peak of the schedule."""
TURNED = "turned"
"""Name of the parameter group of the filters that turn; its learning rate is the angle."""


def turn(
    weight: Float[Tensor, "out ..."], direction: Float[Tensor, "out ..."], angle: float | Float[Tensor, ""]
) -> Float[Tensor, "out ..."]:
    """Each filter turned by ``angle`` away from ``direction``, its norm kept.

    Args:
        weight: filters, output channels first.
        direction: what the filters move against, of the same shape; its part along the filter does not count.
        angle: radians.

    >>> turn(torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, -0.1]]), torch.pi / 2).round(decimals=4).abs()
    tensor([[0., 2.]])
    """
    filters, against = weight.flatten(1), direction.flatten(1)
    squares = filters.square().sum(1, keepdim=True)
    along = (against * filters).sum(1, keepdim=True) / squares.clamp_min(torch.finfo(weight.dtype).tiny)
    tangent = against - along * filters
    length = tangent.norm(dim=1, keepdim=True)
    angle = torch.as_tensor(angle)
    ahead = tangent * (squares.sqrt() / length)
    turned = angle.cos() * filters - angle.sin() * ahead
    return torch.where(length == 0, filters, turned).view_as(weight)


def turning_weights(network: nn.Module) -> list[Tensor]:
    """Weights of the binary layers that normalize them: those whose length the loss does not see."""
    layers = [layer for layer in network.modules() if isinstance(layer, BinaryConv2d | BinaryLinear)]
    return [layer.weight for layer in layers if layer.normalize]


def require_normalized_update(network: nn.Module, update: Update, optimizer: str) -> None:
    """Refuse the normalized update where it has nothing to do or no momentum to follow.

    Raises:
        ValueError: saying what to change.
    """
    if update == "plain":
        return
    if optimizer != "sgd":
        raise ValueError(f"update 'normalized' follows SGD's momentum, not {optimizer!r}: add --model.optimizer=sgd")
    if not turning_weights(network):
        raise ValueError(
            "update 'normalized' rotates filters of binary layers with normalized weights, but this network has none "
            "(full precision, or a method that does not normalize): use --model.update=plain"
        )


def turn_filters(optimizer: torch.optim.Optimizer) -> Any:
    """Let the optimizer's group :data:`TURNED` turn by its learning rate, an angle, instead of moving by it.

    The state is SGD's own, so that a state dict holds all of it.

    Args:
        optimizer: SGD without Nesterov and weight decay for that group.

    Returns:
        Handles, whose ``remove()`` ends it.
    """
    before: dict[Tensor, Tensor] = {}

    def turned() -> list[tuple[Tensor, Any]]:
        groups = [group for group in optimizer.param_groups if group["name"] == TURNED]
        return [(weight, group["lr"]) for group in groups for weight in group["params"]]

    def keep(*_: Any) -> None:
        before.update({weight: weight.detach().clone() for weight, _ in turned()})

    @torch.no_grad()
    def act(*_: Any) -> None:
        for weight, angle in turned():
            if weight.grad is not None:
                direction = optimizer.state[weight].get("momentum_buffer")
                direction = weight.grad if direction is None else direction  # without momentum
                weight.copy_(turn(before[weight], direction, angle))
        before.clear()

    return optimizer.register_step_pre_hook(keep), optimizer.register_step_post_hook(act)
