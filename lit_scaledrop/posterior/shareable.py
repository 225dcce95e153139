"""Tests whether a network's passes can share prefixes: a user's network may depend on the batch or join branches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.prefix import PrefixTree, sharing
from lit_scaledrop.layers.stochastic import MaskPlan, sampling
from lit_scaledrop.posterior.any_network import of_the_package
from lit_scaledrop.posterior.execution import classes_last
from lit_scaledrop.shapes import Float


def require_shareable(network: nn.Module, tree: PrefixTree, x: Float[Tensor, "1 ..."]) -> None:
    """Refuse a network, not of ours, that loses passes when they share prefixes, by a look at two of them.

    Args:
        network: in evaluation mode.
        tree: of its plan.
        x: one input.

    Raises:
        ValueError: they are others than one after the other.
    """
    plan, drawn = tree.plan, tree.draw_of.values()
    # the pass whose masks are most unlike the first one's
    far = max(range(plan.samples), key=lambda index: sum(numbers[index] != numbers[0] for numbers in drawn))
    if of_the_package(network) or not far:
        return
    two = MaskPlan({name: draws[[0, far]] for name, draws in plan.draws.items()}, 2)
    with sharing(network, PrefixTree(network, two), 1) as state:
        shared = classes_last(state.expand(network(x)))[state.partition.group_of]
    loop = []
    for index in range(2):
        with sampling(network, two.single(index)):
            loop.append(classes_last(network(x))[0])
    # what loses passes gives both the same, which is half of their distance off for one of them at least
    error = max((a - b).norm() for a, b in zip(shared, loop, strict=True))
    if error > (loop[0] - loop[1]).norm() / 4 and error > 1e-3 * loop[0].norm():
        raise ValueError(
            "passes that share prefixes differ from separate ones: after its first random layer the network depends "
            "on the batch size of its input. Use execution='folded' or 'loop' for this network"
        )


@torch.no_grad()
def obstacle(networks: Sequence[nn.Module], trees: Sequence[PrefixTree], x: Float[Tensor, "1 ..."]) -> str:
    """Why prefix sharing does not work for these networks; empty if it does."""
    # two inputs: the rows of a single one would broadcast where align() is missing
    pair = x.repeat(2, *[1] * (x.dim() - 1))
    for network, tree in zip(networks, trees, strict=True):
        try:
            with sharing(network, tree, 2) as state:
                state.expand(network(pair))
            require_shareable(network, tree, x)
        except (RuntimeError, ValueError) as error:
            why = str(error).splitlines()[0]
            return f"the network cannot share prefixes ({why}); call align() where its branches meet"
    return ""
