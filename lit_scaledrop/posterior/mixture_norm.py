r"""BatchNorm statistics of a mixture: running statistics re-estimated under the masks of inference.

In training BatchNorm sees fresh masks, images that are augmented, and weights that still change; its running statistics
are an average over all that. Here each BatchNorm gets the moments of its own input over given images *and* the masks
that a prediction takes, $\mu = \sum_t w_t\, E[x_t]$ and $\sigma^2 = \sum_t w_t\, E[x_t^2] - \mu^2$: those of T passes,
or of all masks with their probabilities. Weights stay, and nothing is random that a seed does not fix.

An input of a BatchNorm depends on the statistics of those in front of it. Within a batch each one normalizes by the
moments of that batch, as in training; so with all images in one batch the result is exact, and with several it is the
mean of the batches' moments.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.probing import evaluating, hooked
from lit_scaledrop.layers.stochastic import MaskPlan, sampling

Norm = nn.BatchNorm1d | nn.BatchNorm2d


@torch.no_grad()
def reestimate_norms(network: nn.Module, batches: Iterable[Tensor], plan: MaskPlan) -> int:
    """Give every BatchNorm with running statistics the moments of its input under the masks of a plan, in place.

    Args:
        network: any; its mode and the global random stream stay as they are.
        batches: network inputs, training images without augmentation; 50 or more a batch.
        plan: of ``draw_plan`` or ``enumerate_plan``. All its passes run at once: T times the memory of a batch.

    Returns:
        Number of BatchNorm layers.

    Raises:
        ValueError: there is no BatchNorm, or no batch.
    """
    norms = [module for module in network.modules() if isinstance(module, Norm) and module.running_mean is not None]
    if not norms:
        raise ValueError("the network has no BatchNorm with running statistics: there is nothing to estimate")
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64, device=_mean(norm).device) for norm in norms}
    count = 0
    with evaluating(network), torch.compiler.set_stance("force_eager"):
        for batch in batches:
            draws = plan.folded(len(batch))
            weights = None if plan.weights is None else plan.weights.repeat_interleave(len(batch)).to(batch.device)
            if weights is not None and bool((weights == weights[0]).all()):
                weights = None  # also where each BatchNorm sees the rows of one pass, as in a Tiny-Deep Ensemble
            see = partial(_see, sums=sums, weights=weights, images=len(batch))
            hooks = [norm.register_forward_pre_hook(see) for norm in norms]
            with hooked(*hooks), sampling(network, draws):
                network(batch.repeat(plan.samples, *[1] * (batch.dim() - 1)))
            count += len(batch)
    if not count:
        raise ValueError("running statistics are estimated from images, and there are none")
    for norm, total in sums.items():
        _set(norm, total / count)
    return len(norms)


def _see(norm: nn.Module, inputs: tuple[Tensor, ...], *, sums: dict, weights: Tensor | None, images: int) -> None:
    """Note the moments of an input, and normalize it by them."""
    assert isinstance(norm, Norm)
    x = inputs[0].double()
    rows = torch.stack([x, x.square()])
    if rows.dim() > 3:
        rows = rows.flatten(3).mean(3)  # (2, rows, channels)
    moments = rows.mean(1) if weights is None else (weights[:, None] * rows).sum(1) / weights.sum()
    sums[norm] += images * moments
    _set(norm, moments)


def _set(norm: Norm, moments: Tensor) -> None:
    mean = moments[0]
    _mean(norm).copy_(mean)
    assert norm.running_var is not None
    norm.running_var.copy_((moments[1] - mean.square()).clamp_min(0))


def _mean(norm: Norm) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean
