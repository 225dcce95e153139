"""Posterior inference: T passes of one stochastic network, or M networks, become one :class:`Predictive`."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.sampling import MaskPlan, draw_plan, sampling
from lit_scaledrop.predictive import Predictive
from lit_scaledrop.shapes import Float

Execution = Literal["loop", "folded"]


class PosteriorPredictive:
    """Predict with the posterior of a network.

    The networks are put into evaluation mode: BatchNorm uses and keeps its running statistics; the masks of the
    plan, and nothing else, are random. The plan is drawn once, so T sampled networks see all the inputs, whatever
    the batch size.

    Args:
        networks: one network (T passes), or several (an ensemble; each makes ``samples`` passes of its own).
        samples: passes T a network. A network without stochastic layers makes one.
        seed: seed of the mask plan; network m of an ensemble uses ``seed + m``.
        execution: ``"loop"`` runs one pass after the other; ``"folded"`` runs them as one batch of ``T * batch``
        rows. The
            same plan gives the same numbers either way.

    Raises:
        ValueError: for ``samples < 1``, no network or an unknown execution.
    """

    def __init__(
        self,
        networks: nn.Module | Sequence[nn.Module],
        samples: int = 20,
        seed: int = 0,
        execution: Execution = "loop",
    ) -> None:
        if execution not in ("loop", "folded"):
            raise ValueError(f"execution must be 'loop' or 'folded', got {execution!r}")
        if samples < 1:
            raise ValueError(f"samples (T) must be at least 1, got {samples}")
        self.networks = [networks] if isinstance(networks, nn.Module) else list(networks)
        if not self.networks:
            raise ValueError("PosteriorPredictive needs at least one network")
        self.execution = execution
        self.plans: list[MaskPlan] = []
        for index, network in enumerate(self.networks):
            plan = draw_plan(network, samples, seed + index)
            # without random layers all passes are alike: one says it all
            self.plans.append(plan if plan.draws else MaskPlan({}, 1))

    @property
    def num_samples(self) -> int:
        """Rows of the sample dimension of a prediction."""
        return sum(plan.samples for plan in self.plans)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "batch ..."]) -> Predictive:
        """Predictive distribution for a batch of inputs."""
        parts = []
        for network, plan in zip(self.networks, self.plans, strict=True):
            training = [module for module in network.modules() if module.training]
            network.eval()
            try:
                parts.append(self._passes(network, plan, x))
            finally:
                for module in training:
                    module.training = True
        return Predictive(torch.cat(parts).float())

    def _passes(self, network: nn.Module, plan: MaskPlan, x: Tensor) -> Tensor:
        if self.execution == "loop":
            outputs = []
            for index in range(plan.samples):
                with sampling(network, plan.single(index)):
                    outputs.append(network(x))
            return torch.stack(outputs)
        with sampling(network, plan.folded(len(x))):
            rows = network(x.repeat(plan.samples, *[1] * (x.dim() - 1)))
        return rows.unflatten(0, (plan.samples, len(x)))
