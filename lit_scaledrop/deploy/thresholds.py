r"""BatchNorm in front of a sign is a comparison: with $\gamma > 0$, sign(BatchNorm(u)) = +1 where u >= a threshold.

In exact arithmetic the threshold is $\mu - \beta \sigma / \gamma$. Here it is the very number at which the computed,
rounded BatchNorm changes its sign, found by bisection over all floats: rounding is monotonic, so there is one, and the
comparison is right for every input. With $\gamma < 0$ it is +1 where u <= a threshold (M. Courbariaux et al.,
arXiv:1602.02830, and Y. Umuroglu et al., FINN, arXiv:1612.07119, have the real-valued one).

BatchNorm can only be replaced where nothing but signs sees it: in VGG-small, in LeNet-5 and between the two
convolutions of a block of ResNet-18; not in ResNet-20, whose every output is added to a skip.
"""

import copy

import torch
from torch import Tensor, nn

from lit_scaledrop.deploy.inference import Sign
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.probing import hooked
from lit_scaledrop.layers.stochastic import MaskPlan, sampling, stochastic_layers
from lit_scaledrop.layers.turning import RANK_OF_INFINITY, bisect, float_of
from lit_scaledrop.posterior.plans import draw_plan
from lit_scaledrop.shapes import Bool, Float

_SIDE = 8  # evaluated on maps of this side, as vector instructions do it on real ones


class Threshold(nn.Module):
    """+1 or -1 by a comparison for each channel; channels are dimension 1, shape in, shape out.

    Attributes:
        threshold: number that the input is compared with, ``(channels,)``.
        rising: whether larger inputs give +1, ``(channels,)``.
    """

    threshold: Tensor
    rising: Tensor
    channelwise = True

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.zeros(num_features))
        self.register_buffer("rising", torch.ones(num_features, dtype=torch.bool))

    def forward(self, x: Float[Tensor, "rows channels ..."]) -> Float[Tensor, "rows channels ..."]:
        """Compare."""
        shape = (-1, *[1] * (x.dim() - 2))
        direction = (self.rising.to(x.dtype) * 2 - 1).view(shape)
        return (x * direction >= self.threshold.view(shape) * direction).to(x.dtype) * 2 - 1


@torch.no_grad()
def threshold_of(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Threshold:
    """The comparison that a BatchNorm in evaluation, followed by a sign, is."""
    spatial = (_SIDE, _SIDE) if isinstance(norm, nn.BatchNorm2d) else ()
    channels = norm.num_features
    gamma = torch.ones(channels) if norm.weight is None else norm.weight

    def positive(u: Float[Tensor, " channels"]) -> Bool[Tensor, " channels"]:
        maps = u.view(1, -1, *[1] * len(spatial)).expand(_SIDE, -1, *spatial).contiguous()
        return (norm(maps) >= 0).flatten(2)[0, :, 0] if spatial else (norm(maps) >= 0)[0]

    rising = gamma >= 0
    # with gamma = 0 the sign is always the same: the search ends at one of its ends
    ends = torch.full((channels,), RANK_OF_INFINITY)
    last = bisect(
        lambda rank: positive(float_of(rank)), torch.where(rising, ends, -ends), torch.where(rising, -ends, ends)
    )
    made = Threshold(channels)
    made.threshold.copy_(float_of(last))
    made.rising.copy_(rising)
    return made


def foldable(network: nn.Module, images: Float[Tensor, "batch channels h w"]) -> list[str]:
    """Names of the BatchNorms of a frozen network that only signs see.

    Each is tried: with the comparison in its place the logits of ``images`` have to be the same bits, in a
    deterministic pass and in random ones, or in one of each member of a Tiny-Deep Ensemble.
    """
    plan = _plan(network)

    @torch.no_grad()
    def outputs(net: nn.Module) -> list[Tensor]:
        logits = [net(images)]
        for index in range(plan.samples):
            with sampling(net, plan.single(index)):
                logits.append(net(images))
        return logits

    expected, names = outputs(network), []
    for name in _in_front_of_signs(network, images):
        changed = fold(copy.deepcopy(network), [name])
        if all(torch.equal(*pair) for pair in zip(outputs(changed), expected, strict=True)):
            names.append(name)
    return names


def fold(network: nn.Module, names: list[str]) -> nn.Module:
    """Replace the BatchNorms of these names by their comparisons, in place."""
    for name in names:
        norm = network.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        network.set_submodule(name, threshold_of(norm))
    return network


def _plan(network: nn.Module) -> MaskPlan:
    """Two passes, or one of each member."""
    turns = [layer.turns for layer in stochastic_layers(network).values()]
    return draw_plan(network, max([2, *turns]), seed=0)


@torch.no_grad()
def _in_front_of_signs(network: nn.Module, images: Tensor) -> list[str]:
    """BatchNorms whose output gets to a sign through nothing that could change one."""
    source: dict[int, str] = {}
    seen: list[Tensor] = []  # alive, so that no id comes twice
    found: dict[str, None] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.extend((*inputs, output))
            origin = name if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else source.get(id(inputs[0]))
            if origin is None:
                return
            if isinstance(module, Sign):
                found[origin] = None
            elif origin == name or _keeps_signs(module):
                source[id(output)] = origin

        handles.append(module.register_forward_hook(hook))

    for name, module in network.named_modules():
        if not any(module.children()):
            watch(name, module)
    plan = _plan(network)
    with hooked(*handles):
        network(images)
        for index in range(plan.samples):  # members have norms of their own
            with sampling(network, plan.single(index)):
                network(images)
    return list(found)


def _keeps_signs(module: nn.Module) -> bool:
    if isinstance(module, Clip | nn.Hardtanh):
        return module.min_val < 0 < module.max_val
    return isinstance(module, nn.Identity | nn.Flatten | nn.MaxPool2d)
