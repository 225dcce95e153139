r"""Several sets of normalization layers on one set of weights: Tiny-Deep Ensemble (Ahmed et al., arXiv:2405.05286).

Every BatchNorm has M sets of scale, offset and running statistics, $y = \gamma_k (x - \mu_k) / \sigma_k + \beta_k$, and
a pass uses set k in all of them, as member k of an ensemble. Weights are stored once, nothing is random, and M passes
are all that there are. In front of a sign a set is a set of thresholds, so members differ in where signs change.

Our assumptions, since our copy has the paper's abstract only:

- M = 4; every BatchNorm of a network has sets, those of the stem and in front of the classifier too.
- In training a batch is cut into M parts of equal size, and part k sees member k: a step costs what one network's does,
  all members learn at every step, and each has the statistics of its own part. Batches are shuffled, so over the
  epochs every member sees all images. The other way, every image through all members, costs M times as much a step.
- Members start apart, scales within 0.3 of one and offsets within 0.6 of zero as those of affine Scale-Dropout do:
  sets that start alike see nothing different but their part of the batch.
- Without a plan, as on the validation split in training, the network is its first member.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.shapes import Float, Int

Norm = nn.BatchNorm1d | nn.BatchNorm2d
START = (0.3, 0.6)
"""How far from one the scales of a member start, and from zero its offsets, in scales."""


class Member(StochasticLayer):
    """Which member of an ensemble a pass is of: one for a whole network. What comes in goes out.

    Args:
        members: how many there are, M; passes take turns with them.
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        self.turns = members

    @property
    def uniform_shape(self) -> tuple[int]:
        """One number, for whoever draws a member."""
        return (1,)

    @property
    def random_bits(self) -> int:
        """None: passes take turns."""
        return 0

    def from_uniform(self, uniform: Float[Tensor, "rows 1"]) -> Int[Tensor, "rows 1"]:
        """Numbers of members."""
        return (uniform * self.turns).long()

    def outcomes(self) -> tuple[Int[Tensor, "members 1"], list[float]]:
        """All members, equally likely."""
        return torch.arange(self.turns)[:, None], [1 / self.turns] * self.turns

    def active_draws(self, x: Tensor) -> Tensor | None:
        """Those of the plan; without one there are none, in training either."""
        return None if self._planned is None else super().active_draws(x)

    def forward(self, x: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows ..."]:
        """Nothing; under prefix sharing members part here."""
        return x

    def extra_repr(self) -> str:
        """How many."""
        return f"members={self.turns}"


class EnsembleNorm(nn.Module):
    """BatchNorm with a set of parameters and statistics for each member of an ensemble.

    Args:
        norm: BatchNorm whose copies the sets are, their scales and offsets moved apart.
        members: how many, M.

    Shape: ``(batch, C, ...)`` to the same.

    Attributes:
        sets: the M of them.
        member: says which one is used; :func:`ensemble_norms` gives all layers of a network the same.

    >>> norm = EnsembleNorm(nn.BatchNorm1d(2), 3).eval()
    >>> norm(torch.zeros(4, 2)).equal(norm.sets[0](torch.zeros(4, 2)))
    True
    """

    one_step = True
    """what it does depends on draws, not on its input alone"""

    def __init__(self, norm: Norm, members: int) -> None:
        super().__init__()
        self.sets = nn.ModuleList(_apart(deepcopy(norm)) for _ in range(members))
        self.member = Member(members)

    def forward(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "rows channels ..."]:
        """Normalize each row by the set of its member."""
        x = self.member(x)
        draws = self.member.active_draws(x)
        if draws is not None:
            return self._chosen(x, draws[:, 0])
        return self._in_parts(x) if self.training else self.sets[0](x)

    def _in_parts(self, x: Tensor) -> Tensor:
        """Part k of a training batch by set k; a batch too small for two rows a part goes to the first sets."""
        parts = x.tensor_split(min(len(self.sets), max(1, len(x) // 2)))
        return torch.cat([norm(part) for norm, part in zip(self.sets, parts, strict=False)])

    def _chosen(self, x: Tensor, member: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            # all sets, then a choice: rows that depend on the data can be neither compiled nor exported
            y = self.sets[0](x)
            rows = member.reshape(-1, *[1] * (x.dim() - 1))
            for index, norm in enumerate(self.sets):
                y = torch.where(rows == index, norm(x), y) if index else y
            return y
        present = member.unique().tolist()
        if len(present) == 1:
            return self.sets[present[0]](x)
        y = torch.empty_like(x)
        for index in present:
            rows = (member == index).nonzero()[:, 0]
            y[rows] = self.sets[index](x[rows]).to(y.dtype)
        return y


def ensemble_norms(network: nn.Module, members: int) -> None:
    """Give every BatchNorm of a network a set for each of so many members, in place.

    Raises:
        ValueError: the network has no BatchNorm, so that its members would be alike.
    """
    made: dict[nn.Module, EnsembleNorm] = {}
    done = {part for norm in network.modules() if isinstance(norm, EnsembleNorm) for part in (norm, norm.sets)}
    for parent in [module for module in network.modules() if module not in done]:
        for key, child in list(parent.named_children()):
            if isinstance(child, Norm):
                made[child] = made[child] if child in made else EnsembleNorm(child, members)
                setattr(parent, key, made[child])
    norms = [module for module in network.modules() if isinstance(module, EnsembleNorm)]
    if not norms:
        raise ValueError("members of this ensemble differ in their BatchNorm layers, and the network has none")
    for norm in norms:
        norm.member = norms[0].member


@torch.no_grad()
def _apart(norm: Norm) -> Norm:
    """Move scale and offset away from where they are."""
    if norm.affine:
        norm.bias.add_(norm.weight * torch.empty_like(norm.bias).uniform_(-START[1], START[1]))
        norm.weight.mul_(torch.empty_like(norm.weight).uniform_(1 - START[0], 1 + START[0]))
    return norm
