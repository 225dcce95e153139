r"""The training objective (paper eq. 10-17).

$$ L = L_{task} + \lambda_s \sum_l (1 - \operatorname{mean}\alpha_l)^2 + \lambda_w \sum_l \|W_l\|^2 $$

The scale term pulls each scale vector towards one, which is what a dropped scale equals; where a bias is dropped with
it, $(\operatorname{mean}\beta_l)^2$ is added. The weight term acts on the
real-valued proxy weights, for every convolution and linear layer, so that all methods are regularized alike; its
gradient is the optimizer's weight decay, $2\lambda_w$ (:func:`parameter_groups`), under Adam as under SGD. Some
methods add a term of their own (:func:`method_terms`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.activations import PACT, DistributionLoss
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.weight_sampling import SpinBayesConv2d, SpinBayesLinear
from lit_scaledrop.methods.method import Method
from lit_scaledrop.modules.normalized_update import ANGLE, TURNED, Update, turning_weights
from lit_scaledrop.shapes import Float


def scale_regularization(model: nn.Module) -> Float[Tensor, ""]:
    r"""Sum over layers of $(1 - \operatorname{mean}\alpha_l)^2 + (\operatorname{mean}\beta_l)^2$, 0 without scales."""
    layers = [layer for layer in model.modules() if isinstance(layer, ScaleDropout)]
    distances = [1 - layer.scale.mean() for layer in layers]
    distances += [layer.bias.mean() for layer in layers if layer.bias is not None]
    return torch.stack(distances).square().sum() if distances else _zero(model)


def weight_regularization(model: nn.Module) -> Float[Tensor, ""]:
    r"""Sum over convolutions and linear layers of $\|W_l\|^2$, biases left out."""
    weights = _weights(model)
    return nn.utils.get_total_norm(weights).square() if weights else _zero(model)


def parameter_groups(model: nn.Module, lambda_weight: float, update: Update = "plain") -> list[dict[str, Any]]:
    r"""Parameters for an optimizer: weights with the decay $2\lambda_w$, scales with their biases, and the rest.

    The L2 term of the objective and this decay are the same, for SGD and for Adam (not for AdamW). With the normalized
    update, weights whose length the loss does not see are a group of their own without decay, whose learning rate is
    the angle of :mod:`lit_scaledrop.modules.normalized_update`.
    """
    weights = _weights(model)
    turned = turning_weights(model) if update == "normalized" else []
    scales = [p for layer in model.modules() if isinstance(layer, ScaleDropout) for p in layer.parameters()]
    weights = [weight for weight in weights if not any(weight is other for other in turned)]
    taken = {id(parameter) for parameter in (*turned, *weights, *scales)}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    groups = [("weights", weights, 2 * lambda_weight), ("scales", scales, 0.0), ("rest", rest, 0.0)]
    made = [{"name": name, "params": params, "weight_decay": decay} for name, params, decay in groups if params]
    turning = {"name": TURNED, "params": turned, "weight_decay": 0.0, "lr": ANGLE, "nesterov": False}
    return [*made, turning] if turned else made


def _zero(model: nn.Module) -> Tensor:
    """Zero where the model is: a term on the host would make a GPU wait."""
    return next(model.parameters(), torch.empty(())).new_zeros(())


def _weights(model: nn.Module) -> list[Tensor]:
    return [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def clip_regularization(model: nn.Module) -> Float[Tensor, ""]:
    r"""PACT's L2 term (arXiv:1805.06085, section 3.1): sum over activations of $\alpha_l^2$; zero without clips."""
    squares = [layer.clip.square() for layer in model.modules() if isinstance(layer, PACT)]
    return torch.stack(squares).sum() if squares else _zero(model)


def method_terms(model: nn.Module, method: Method) -> dict[str, tuple[float, Float[Tensor, ""]]]:
    """Terms that only some methods have, by name with their weights in the objective.

    ``distribution``: RAD's loss on what is binarized, of the last forward pass in training, mean over layers.
    ``divergence``: SpinBayes' KL divergence of the weights' posterior, mean over layers. ``clip``: the squares of
    PACT's clips, summed as those of the weights are.
    """
    terms: dict[str, tuple[float, Tensor]] = {}
    if method.distribution_loss:
        losses = []
        for layer in model.modules():
            if isinstance(layer, DistributionLoss) and layer.loss is not None:
                losses.append(layer.loss)
                layer.loss = None  # taken once: the graph of the batch must not outlive it
        terms["distribution"] = (method.distribution_loss, torch.stack(losses).mean())
    if method.divergence:
        layers = [layer for layer in model.modules() if isinstance(layer, SpinBayesConv2d | SpinBayesLinear)]
        terms["divergence"] = (method.divergence, torch.stack([layer.divergence() for layer in layers]).mean())
    if method.clip_decay:
        terms["clip"] = (method.clip_decay, clip_regularization(model))
    return terms
