"""Posterior inference: T passes of one stochastic network, all its masks, or M networks give one Predictive."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.bitwise import Backend
from lit_scaledrop.layers.prefix import PrefixTree, sharing
from lit_scaledrop.layers.probing import evaluating, looking_once
from lit_scaledrop.layers.stochastic import MaskPlan, differing_passes, sampling
from lit_scaledrop.posterior.any_network import AnyNetwork, Output, adapted, fits, inputs_in
from lit_scaledrop.posterior.drop_probability import Probability, as_built
from lit_scaledrop.posterior.execution import (
    Execution,
    Segment,
    classes_last,
    in_parts,
    shared_passes,
    shared_rows,
    trace,
)
from lit_scaledrop.posterior.multiplier import Multiplier
from lit_scaledrop.posterior.plans import Scheme, draw_plan, enumerate_plan
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.posterior.shareable import obstacle, require_shareable
from lit_scaledrop.progress import with_progress
from lit_scaledrop.shapes import Float

logger = logging.getLogger(__name__)


class PosteriorPredictive:
    r"""Predict with the posterior of a network.

    The networks are put into evaluation mode: BatchNorm uses and keeps its running statistics; the masks of the
    plan, and nothing else, are random. The plan is drawn once, so T sampled networks see all the inputs, whatever
    the batch size.

    ===========  ======================================================================================================
    execution
    ===========  ======================================================================================================
    ``loop``     one pass after the other; any network, also a compiled one
    ``folded``   all passes as one batch of ``T * batch`` rows
    ``shared``   each common prefix of masks once (:mod:`lit_scaledrop.layers.prefix`); networks whose branches meet
                 otherwise than in sums, products and concatenations call ``align``; others than ours are tried
                 with two passes of one input, once for each size of inputs
    ``exact``    all masks with their probabilities, in place of ``samples`` random ones, computed as ``shared`` is: no
                 Monte-Carlo error. Of more than ``max_leaves`` masks the most probable ones that cover ``mass``; the
                 prediction's ``uncovered`` then bounds the error of each class probability
    ``auto``     ``exact`` if all masks cost at most half of the T passes, else ``shared`` if it saves a tenth of them,
                 else ``folded`` for small batches and ``loop`` for large ones
    ===========  ======================================================================================================

    Loop, folded and shared give the same T samples for the same plan, up to rounding.

    Networks that are not ours (:mod:`lit_scaledrop.posterior.any_network`): ``nn.Dropout`` and
    ``torch.nn.functional.dropout`` with their relatives, whatever ``training`` says, are sampled by the plan as
    MC-Dropout, one mask for all inputs of a pass; :attr:`plans` has their masks once a prediction has shown where they
    are. Other random numbers, and dropout within fused layers, are refused. One logit z is a sigmoid's: logits 0 and z
    of two classes.

    Of a segmentation network, whose logits are maps ``(batch, classes, h, w)``, every pixel is an example of the
    prediction, in the order image, row, column: ``prediction.mean.unflatten(0, (batch, h, w))`` are maps again.

    Args:
        networks: one network (T passes), or several (an ensemble; each makes ``samples`` passes of its own, or one if
            it is not random, and all count alike).
        samples: passes T a network. A network without stochastic layers or dropout makes one, a Tiny-Deep Ensemble at
            most one a member.
        seed: seed of the mask plan; network m of an ensemble uses ``seed + m``.
        execution: how the passes are run.
        scheme: how a plan of T passes is drawn: ``"iid"``, or with less variance ``"stratified"`` or ``"systematic"``.
        mass: for ``exact``, the probability to cover where not all masks are taken.
        max_leaves: for ``exact``, the most masks.
        probability: draws the drop probabilities that the Scale-Dropout layers really have (see
            :mod:`lit_scaledrop.posterior.drop_probability`); by default they are the nominal ones. The numbers behind
            the masks stay the same, so predictions with and without it are paired.
        correlation: of a junction's successive bits (see :mod:`lit_scaledrop.posterior.plans`), which goes with
            ``"iid"`` plans only.
        chip: seed of a finished chip, whose probabilities are drawn once; ``None`` draws others for each pass, which
            goes with ``"iid"`` plans only.
        row_budget: bounds the memory of ``shared``, ``exact`` and ``folded``: a batch is cut (down to single inputs) so
            that no layer's output is larger than that of the network's widest layer for this many inputs. Default:
            128 on a CPU (for ``shared`` and ``exact`` one and a half times the batch, from 32 to 128: little more than
            the loop's memory, and more is not faster); 1024 elsewhere, which is not measured.
        sample_dropout: whether PyTorch's dropout is sampled, or off as in any evaluation.
        output: of networks that return tuples, dicts or dataclasses, which part the logits are: a key, a place or a
            function. By default the first of a tuple, ``logits`` or ``out``, or the only tensor.
        backend: how signs are multiplied by signs: as ``"bits"`` (:mod:`lit_scaledrop.layers.bitwise`: the same
            numbers, bit for bit, on a CPU) or by ``"torch"``; ``"auto"`` takes bits where there are kernels.

    Attributes:
        choice: the execution that runs; for ``auto`` ``""`` before the first prediction.
        reason: why.

    Raises:
        ValueError: for ``samples < 1``, no network, an unknown execution or scheme, masks that cannot be enumerated;
            with ``probability`` for a network without Scale-Dropout, an execution or scheme that needs one p a layer.
    """

    def __init__(
        self,
        networks: nn.Module | Sequence[nn.Module],
        samples: int = 20,
        seed: int = 0,
        execution: Execution = "loop",
        *,
        scheme: Scheme = "iid",
        mass: float = 0.99,
        max_leaves: int = 1024,
        row_budget: int | None = None,
        probability: Probability | None = None,
        chip: int | None = None,
        correlation: float = 0.0,
        sample_dropout: bool = True,
        output: Output | None = None,
        backend: Backend = "auto",
    ) -> None:
        if execution not in get_args(Execution):
            raise ValueError(f"execution must be one of {', '.join(get_args(Execution))}, got {execution!r}")
        if row_budget is not None and row_budget < 1:
            raise ValueError(f"row_budget must be at least 1, got {row_budget}")
        self.networks = [networks] if isinstance(networks, nn.Module) else list(networks)
        if not self.networks:
            raise ValueError("PosteriorPredictive needs at least one network")
        if chip is not None and probability is None:
            raise ValueError("a chip needs the probability that its layers' p are drawn by")
        self._probability, self._chip = probability, chip
        self._redrawn = probability if chip is None else None
        self._enumerable = not self._redrawn and not correlation
        if correlation and execution == "exact":
            raise ValueError("execution 'exact' assumes independent bits, and these are correlated: use 'shared'")
        if self._redrawn and execution == "exact":
            raise ValueError(
                "execution 'exact' needs one p per layer, and p is redrawn for each pass: name a chip, whose p are "
                "fixed, or use execution='shared'"
            )
        self.execution, self.max_leaves, self.row_budget = execution, max_leaves, row_budget
        self._samples, self._seed, self._scheme, self._mass, self._correlation = (
            samples,
            seed,
            scheme,
            mass,
            correlation,
        )
        self._sample_dropout, self._output = sample_dropout, output
        self._multiplier = Multiplier(backend)
        self._seen: torch.Size | None = None
        self._segments: dict[tuple[int, torch.Size], list[Segment]] = {}
        self.plans = [self._plan(m) for m in range(len(self.networks))]
        self.choice: str = "" if execution == "auto" else execution
        self.reason = "" if execution == "auto" else "asked for"

    @property
    def plans(self) -> list[MaskPlan]:
        """The plan of each network."""
        return self._plans

    @plans.setter
    def plans(self, plans: list[MaskPlan]) -> None:
        self._plans = plans
        self._trees: dict[int, PrefixTree] = {}

    @property
    def num_samples(self) -> int:
        """Rows of the sample dimension of a prediction."""
        return sum(plan.samples for plan in self.plans)

    @property
    def multiplied(self) -> tuple[str, str]:
        """How signs were multiplied in the last prediction, and why."""
        return self._multiplier.multiplied

    @property
    def uncovered(self) -> float:
        """Probability that an exact prediction leaves out; it bounds the error of every class probability."""
        return sum(plan.uncovered for plan in self.plans) / len(self.plans)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "batch ..."]) -> Predictive:
        """Predictive distribution for a batch of inputs."""
        with looking_once():
            self._multiplier.look(self.networks, x)  # whose modules then are known
            with evaluating(*self.networks):
                self._look(x)
                if not self.choice:
                    self.choice, self.reason = self._best(x)
                    logger.info("execution: %s, %s", self.choice, self.reason)
                run = {"loop": self._loop, "folded": self._folded}.get(self.choice, self._shared)
                with self._multiplier.choosing(self.networks, x):
                    runs = [run(member, x) for member in range(len(self.networks))]
        logits = torch.cat(runs) if len(runs) > 1 else runs[0]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if logits.dim() == 5:
            logits = logits.flatten(1, 3)
        return Predictive(logits, self._weights(logits.device), self.uncovered)

    def _weights(self, device: torch.device) -> Tensor | None:
        """Of the samples, so that each network counts alike; ``None`` where all samples do."""
        if all(plan.weights is None and plan.samples == self.plans[0].samples for plan in self.plans):
            return None
        equal = [torch.full((plan.samples,), 1 / plan.samples, dtype=torch.float64) for plan in self.plans]
        given = [plan.weights if plan.weights is not None else e for plan, e in zip(self.plans, equal, strict=True)]
        return torch.cat([weights.to(device) for weights in given]) / len(given)

    def over(
        self,
        batches: Iterable[Any],
        description: str = "predicting",
        inputs: str | Callable[[Any], Tensor] | None = None,
    ) -> Predictive:
        """The predictive distribution of many batches, with a progress bar on a terminal; the result is on the CPU.

        Args:
            batches: as a ``DataLoader`` gives them: inputs, tuples that begin with them, or dicts with one of the keys
                ``image``, ``images``, ``input``, ``inputs``, ``x`` and ``pixel_values``; each is moved to the
                network's device.
            description: what the bar says.
            inputs: of other batches, the key of the inputs or a function that takes them out.

        Raises:
            ValueError: there is no batch, or its inputs are not plain.
        """
        device = next((tensor.device for tensor in self.networks[0].state_dict().values()), torch.device("cpu"))
        taken = (inputs_in(batch, inputs) for batch in with_progress(batches, description))
        return Predictive.cat([self(x.to(device)).cpu() for x in taken])

    def passes(self, x: Float[Tensor, "batch ..."]) -> float:
        """Work of ``shared`` (or ``exact``) execution in passes of the network, all members together."""
        with evaluating(*self.networks):
            self._look(x)
            return sum(shared_passes(self._trace(m, x), self._tree(m)) for m in range(len(self.networks)))

    def _look(self, x: Tensor) -> None:
        """Find PyTorch's dropout in the networks, whose masks have the sizes of this input, and what they return."""
        if not len(x) or x.shape[1:] == self._seen:
            return
        plans = list(self.plans)
        for member, network in enumerate(self.networks):
            inner = network.network if isinstance(network, AnyNetwork) else network
            network = adapted(inner, x, self._samples, self._sample_dropout, self._output)
            if network is not inner:
                self.networks[member] = network
                if not fits(plans[member], network):
                    plans[member] = self._plan(member)
        self.plans, self._seen = plans, x.shape[1:]
        if self.choice in ("shared", "exact"):
            for member in range(len(self.networks)):
                require_shareable(self.networks[member], self._tree(member), x[:1])

    def _plan(self, member: int) -> MaskPlan:
        network = self.networks[member]
        if self.execution == "exact":
            return self._all_masks(network, self._mass)
        how = self._scheme, self._redrawn, self._correlation
        with self._built(network):
            # further passes would repeat these
            return draw_plan(network, differing_passes(network, self._samples), self._seed + member, *how)

    def _built(self, network: nn.Module) -> AbstractContextManager[None]:
        """The network with the probabilities of the finished chip, if there is one."""
        if self._probability is None or self._chip is None:
            return nullcontext()
        return as_built(network, self._probability, self._chip)

    def _all_masks(self, network: nn.Module, mass: float) -> MaskPlan:
        with self._built(network):
            return enumerate_plan(network, mass, self.max_leaves)

    def _loop(self, member: int, x: Tensor) -> Tensor:
        network, plan = self.networks[member], self.plans[member]
        logits = torch.empty(0)
        make_pass = self._multiplier.running(network, plan, x)
        for index in range(plan.samples):
            with sampling(network, plan.single(index)):
                rows = classes_last(make_pass(x))
            if not index:
                # filled pass by pass: a stack would hold all of them twice, which counts for maps
                logits = torch.empty(plan.samples, *rows.shape, dtype=rows.dtype, device=rows.device)
            logits[index] = rows
        return logits

    def _folded(self, member: int, x: Tensor) -> Tensor:
        network, plan = self.networks[member], self.plans[member]
        make_passes = self._multiplier.running(network, plan, x)

        def run(part: Tensor) -> Tensor:
            with sampling(network, plan.folded(len(part))):
                rows = classes_last(make_passes(part.repeat(plan.samples, *[1] * (part.dim() - 1))))
            return rows.unflatten(0, (plan.samples, len(part)))

        return in_parts(run, x, self._rows(x) / plan.samples)

    def _shared(self, member: int, x: Tensor) -> Tensor:
        if not len(x):
            return self._loop(member, x)
        network, plan, tree = self.networks[member], self.plans[member], self._tree(member)
        make_passes = self._multiplier.running(network, plan, x)

        def run(part: Tensor) -> Tensor:
            with sharing(network, tree, len(part)) as state:
                rows = classes_last(state.expand(make_passes(part)))
            leaves = rows.unflatten(0, (-1, len(part)))
            # the T samples in the order of the plan: intervals and the quantile rule count passes, not leaves
            return leaves[state.partition.group_of]

        rows = self._rows(x)
        if not self.row_budget and x.device.type == "cpu" and self.multiplied[0] == "torch":
            rows = min(rows, max(32, 3 * len(x) // 2))  # little more than the loop's memory; more is not faster
        return in_parts(run, x, rows / shared_rows(self._trace(member, x), tree))

    def _rows(self, x: Tensor) -> int:
        return self.row_budget or (128 if x.device.type == "cpu" else 1024)

    def _tree(self, member: int) -> PrefixTree:
        if member not in self._trees:
            self._trees[member] = PrefixTree(self.networks[member], self.plans[member])
        return self._trees[member]

    def _trace(self, member: int, x: Tensor) -> list[Segment]:
        key = (member, x.shape[1:])
        if key not in self._segments:
            self._segments[key] = trace(self.networks[member], x[:1])
        return self._segments[key]

    def _best(self, x: Tensor) -> tuple[Execution, str]:
        loop = self.num_samples
        if not any(plan.draws for plan in self.plans):
            return "loop", "nothing is random: one pass a network"
        trees = [self._tree(member) for member in range(len(self.networks))]
        shared, why = self.passes(x), obstacle(self.networks, trees, x[:1])
        if not why:
            try:
                exact = [self._all_masks(network, 1.0) for network in self.networks] if self._enumerable else []
            except ValueError:
                exact = []
            if exact:
                trees = [PrefixTree(network, plan) for network, plan in zip(self.networks, exact, strict=True)]
                work = sum(shared_passes(self._trace(m, x), tree) for m, tree in enumerate(trees))
                if work <= loop / 2:
                    self.plans = exact
                    return "exact", f"all {self.num_samples} masks cost {work:.1f} passes, the loop {loop}"
            if shared <= 0.9 * loop:
                return "shared", f"the prefixes of {loop} passes cost {shared:.1f}"
        why = why or f"sharing prefixes would save little ({shared:.1f} of {loop} passes)"
        if max(plan.samples for plan in self.plans) * len(x) <= self._rows(x):
            return "folded", f"{why}, and the passes fit into one batch"
        return "loop", why
