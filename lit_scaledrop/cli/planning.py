"""From flags to a :class:`lit_scaledrop.runs.plan.RunPlan`: parsed and checked, nothing built."""

import functools
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import datamodules  # all of it, so that --data finds its classes by name
from datamodules.own.description import OwnData
from lit_scaledrop.callbacks import MTJVariation, evaluation_with
from lit_scaledrop.cli.checks import require_model_optimizer, require_named_network, require_trainer, require_validation
from lit_scaledrop.cli.flags import expand_configs
from lit_scaledrop.cli.lightning import BaseCLI
from lit_scaledrop.modules.anybody import network_of
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.runs.identity import class_of
from lit_scaledrop.runs.plan import RunPlan


class Planner(BaseCLI):
    """Parser of ``fit`` alone, made once for any number of plans; builds and runs nothing."""

    def __init__(self) -> None:
        super().__init__(["fit"], args={})

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """That of a plan."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse nothing while the parser is made; see :meth:`plan`."""
        self.config = Namespace(subcommand=None)

    def _set_seed(self) -> None:
        """Leave the random streams alone."""

    def before_instantiate_classes(self) -> None:
        """Check nothing yet."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def plan(self, flags: Sequence[str]) -> RunPlan:
        """Check the flags of a ``fit``, and find what it would be.

        Raises:
            ValueError: a setting that a training cannot go with.
            ArgumentError: flags that there are not, or values of another kind.
        """
        self.words = ("fit", *flags)
        super().parse_arguments(self.parser, expand_configs(list(self.words)))
        settings, parser = self.config["fit"], self._parser("fit")
        require_model_optimizer(settings)
        evaluation = evaluation_with(_variations(settings), Evaluation(**settings["evaluation"].as_dict()))
        plan = RunPlan(self.words, settings, evaluation, parser)
        require_named_network(plan.config)
        require_trainer(plan.config["trainer"])
        require_validation(plan.config)
        return plan


@functools.cache
def planner() -> Planner:
    """The one of this process: to make its parser takes longer than a plan."""
    return Planner()


def _variations(settings: Namespace) -> list[MTJVariation]:
    """Callbacks of a configuration that have a say in its evaluation."""
    given = settings["trainer"]["callbacks"] or []
    found = []
    for callback in given if isinstance(given, list) else [given]:
        kind = class_of(callback["class_path"])
        if isinstance(kind, type) and issubclass(kind, MTJVariation):
            found.append(kind(**callback.get("init_args", Namespace()).as_dict()))
    return found


def check(plan: RunPlan, evaluation: Evaluation | None = None) -> Any:
    """Build model and data once, so that they refuse bad arguments before anything else is done.

    Returns:
        Model and data, as a namespace.

    Raises:
        ValueError: what they say.
    """
    with torch.random.fork_rng(devices=[]):
        built = plan.build()
    require_variation(plan, evaluation or plan.evaluation, built["model"])
    if isinstance(built["data"], datamodules.OwnImagesDataModule | datamodules.OwnMasksDataModule):
        _require_size(built["model"], built["data"].own)
    return built


def _require_size(model: L.LightningModule, own: OwnData) -> None:
    """Refuse a network that does not take pictures of the size of one's own, in a pass with masks.

    Raises:
        ValueError: saying what to do.
    """
    network = network_of(model)
    x = torch.zeros(2, own.channels, own.size, own.size)
    try:
        PosteriorPredictive(network, samples=1)(x)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the network, or its method, does not accept images of {own.size} x {own.size} pixels "
            f"({str(error).splitlines()[0]}): read the folder again with another --size (lenet5 and vgg_small need "
            "32), or choose another --model.network or --model.method"
        ) from error


def require_variation(plan: RunPlan, evaluation: Evaluation, model: L.LightningModule) -> None:
    """Refuse a variation of drop probabilities, in training or evaluation, that the network cannot have.

    Raises:
        ValueError: saying why.
    """
    varied = [callback.variation for callback in _variations(plan.settings)]
    for variation in filter(None, (*varied, evaluation.variation_of(model))):
        variation.require(model)
