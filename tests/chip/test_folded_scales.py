"""What `scale="folded"` stands for: on a trained network two thresholds a channel give all signs, kept and dropped."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import sampling, stochastic_layers
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.plans import draw_plan


def trained(method: str) -> tuple[nn.Module, torch.Tensor]:
    """LeNet-5 on scikit-learn's digits, for some steps, in double precision; and test images."""
    torch.manual_seed(0)
    digits = load_digits()
    images = F.interpolate(torch.tensor(digits.images[:600]).float()[:, None] / 8 - 1, 32, mode="bilinear")
    labels = torch.tensor(digits.target[:600])
    network = build_network("lenet5", METHODS[method], in_channels=1).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(40):
        batch = slice(64 * (step % 8), 64 * (step % 8) + 64)
        optimizer.zero_grad()
        F.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
    network.eval()
    assert (network(images[512:]).argmax(1) == labels[512:]).float().mean() > 0.5
    return network.double(), images[512:560].double()


def affine(block: nn.Sequential, kept: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of the block's A x + B, from its parameters: scale and BatchNorm in their order."""
    norm, scale = block.norm, block.scale
    slope = norm.weight / (norm.running_var + norm.eps).sqrt()
    offset = norm.bias - norm.running_mean * slope
    factor = scale.scale if kept else torch.ones_like(scale.scale)
    if list(dict(block.named_children())).index("scale") < list(dict(block.named_children())).index("norm"):
        return slope * factor, offset
    shift = scale.bias if kept else torch.zeros_like(scale.scale)
    return slope * factor, offset * factor + shift


def folded(sums: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Signs by one comparison a channel: x >= -B/A, or x <= -B/A where A is negative; one word and one bit."""
    shape = (-1, *[1] * (sums.dim() - 2))
    threshold, rising = (-B / A).view(shape), (A > 0).view(shape)
    return torch.where(rising, sums >= threshold, sums <= threshold)


@pytest.mark.parametrize("method", ["proposed", "proposed_affine"])
def test_thresholds_give_all_signs(method):
    network, images = trained(method)
    blocks = {name.rpartition(".")[0]: layer for name, layer in stochastic_layers(network).items()}
    assert all(isinstance(layer, ScaleDropout) for layer in blocks.values())
    plan = draw_plan(network, 6, 1)
    seen, compared, kinds = {}, 0, set()
    for name in blocks:
        block = network.get_submodule(name)
        first = next(iter(dict(block.named_children()).values()))
        first.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__((name, "sums"), out))
        block.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__((name, "values"), out))
    for index in range(plan.samples):
        with torch.no_grad(), sampling(network, plan.single(index)):
            network(images)
        for name in blocks:
            block, sums, values = network.get_submodule(name), seen[name, "sums"], seen[name, "values"]
            kept = bool(plan.draws[f"{name}.scale"][index].all())
            A, B = affine(block, kept)
            assert torch.equal(sums, sums.round())  # whole numbers, so that a threshold may be one
            ones = folded(sums, A, B)
            if hasattr(block, "pool"):
                # the largest value of 2 x 2 decides: one of four signs, or all where the rest turns the order round
                any_of = block.pool(ones.double()) > 0
                all_of = -block.pool(-ones.double()) > 0
                forward = block.norm.weight > 0 if method == "proposed" else A > 0
                ones = torch.where(forward.view(-1, 1, 1), any_of, all_of)
            assert torch.equal(ones, values >= 0)
            compared, kinds = compared + ones.numel(), kinds | {kept}
    assert compared == 6 * 48 * (16 * 25 + 120 + 84)
    assert kinds == {True, False}
