r"""The training objective (paper eq. 10-17).

$$ L = L_{task} + \lambda_s \sum_l (1 - \operatorname{mean}\alpha_l)^2 + \lambda_w \sum_l \|W_l\|^2 $$

The scale term pulls each scale vector towards one, which is what a dropped scale equals. The weight term acts on the
real-valued proxy weights, for every convolution and linear layer, so that all methods are regularized alike.
"""

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.shapes import Float


def scale_regularization(model: nn.Module) -> Float[Tensor, ""]:
    r"""Sum over layers of $(1 - \operatorname{mean}\alpha_l)^2$; zero for a network without scales."""
    means = [layer.scale.mean() for layer in model.modules() if isinstance(layer, ScaleDropout)]
    return (1 - torch.stack(means)).square().sum() if means else torch.zeros(())


def weight_regularization(model: nn.Module) -> Float[Tensor, ""]:
    r"""Sum over convolutions and linear layers of $\|W_l\|^2$, biases left out."""
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return nn.utils.get_total_norm(weights).square() if weights else torch.zeros(())
