"""LightningCLI with our settings and error messages, and its commands on a checkpoint."""

import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import lightning as L
import torch
import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import datamodules  # noqa: F401  so that --data finds its classes by name
from lit_scaledrop.cli.checks import require_model_optimizer
from lit_scaledrop.cli.errors import explain, odd_config
from lit_scaledrop.cli.flags import WORDS, expand_configs
from lit_scaledrop.cli.known import known_flags
from lit_scaledrop.deploy.open import model_names
from lit_scaledrop.evaluation.checkpoint import CheckpointError, fit_weights, read_checkpoint
from lit_scaledrop.evaluation.evaluate import write_predictions
from lit_scaledrop.naming import count
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.yaml_text import require_bounded
from lit_scaledrop.runs.compiler import require_compiler
from lit_scaledrop.runs.identity import FROM_DATA
from lit_scaledrop.runs.plan import plain_refusals
from lit_scaledrop.runs.run import Run

_load_yaml: Callable[[str], Any] = get_loader("yaml")


def _load_bounded(text: str) -> Any:
    """What jsonargparse reads YAML with, without aliases that stand for more than any machine holds."""
    require_bounded(text)
    return _load_yaml(text)


set_loader("yaml", _load_bounded, exceptions=(yaml.YAMLError,))


class BaseCLI(LightningCLI):
    """LightningCLI with our words for configuration files, our groups of settings, and errors of one line.

    Args:
        words: command line behind ``scaledrop``.
        args: the same parsed; by default it is parsed from the words.
    """

    save_config: ClassVar[type[SaveConfigCallback] | None] = None
    """what keeps the settings beside the logs; commands without a folder of their own leave no file"""

    def __init__(self, words: Sequence[str], args: dict[str, Any] | None = None) -> None:
        self.words = tuple(words)
        strict = {"exit_on_error": False}  # errors come as exceptions: see parse_arguments
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
            save_config_callback=self.save_config,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "prog": "scaledrop",
                "default_config_files": [],
                **strict,
                **{command: {**strict, "epilog": WORDS} for command in self.subcommands()},
            },
            load_from_checkpoint_support=False,
            args=expand_configs(list(words)) if args is None else args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where a run belongs, and how it is evaluated."""
        parser.add_class_arguments(Run, "run")
        parser.add_class_arguments(Evaluation, "evaluation")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        for name in FROM_DATA:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument("--out", default="predictions.csv", help="CSV file of the class probabilities")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and say in one line what does not fit."""
        try:
            super().parse_arguments(parser, args)
        except (ArgumentError, UnicodeDecodeError) as error:
            if problem := odd_config(args):
                raise ArgumentError(None, problem) from error
            command = self.words[0] if self.words[0] in self._subcommand_parsers else "fit"
            raise ArgumentError(None, explain(error, known_flags(self._parser(command)))) from error

    def _parse_ckpt_path(self) -> None:
        """Leave the flags alone: Lightning would let a checkpoint's hyper-parameters override them."""

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        with plain_refusals():
            super().instantiate_classes()
        require_gpus(self.trainer)
        if self.model.hparams.get("compile_network"):
            require_compiler(self.trainer.strategy.root_device)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Trainer that leaves requeueing to us."""
        plugins = self.config_init[self.subcommand]["trainer"]["plugins"]
        if not plugins and SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            # its own requeueing would resume in the middle of an epoch; ours resumes at the end of one
            kwargs["plugins"] = [SLURMEnvironment(auto_requeue=False)]
        try:
            return super().instantiate_trainer(**kwargs)
        except TypeError as error:  # Lightning's, of a value that its accelerator cannot take
            raise ValueError(f"the trainer refuses its settings: {error}") from error

    def _run_subcommand(self, subcommand: str) -> None:
        path = self.config_init[subcommand]["ckpt_path"]
        if path:
            fit_weights(self.model, read_checkpoint(path)["state_dict"], path)
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into an exit that says nothing
            if self.trainer.interrupted:
                raise KeyboardInterrupt from stop
            raise


class CheckpointCLI(BaseCLI):
    """``validate``, ``test`` and ``predict``, which need a network, and the help of ``fit``."""

    def before_instantiate_classes(self) -> None:
        """Refuse to run without a network."""
        config = self.config[self.subcommand]
        require_model_optimizer(config)
        if not config["ckpt_path"]:
            raise CheckpointError(f"{self.subcommand} needs the network of a run: add --ckpt_path FILE")
        if (name := str(config["ckpt_path"])) in model_names():
            raise CheckpointError(
                f"{name} is a packaged model, and {self.subcommand} needs a checkpoint of a run: `scaledrop "
                f"evaluate {name} --data NAME` measures it, `predict --model {name} --images DIR` classifies images"
            )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Trainer without a logger, unless one is asked for."""
        config = self.config_init[self.subcommand]["trainer"]
        if config["logger"] in (None, True):
            kwargs["logger"] = False
        if config["enable_progress_bar"] is None:
            kwargs["enable_progress_bar"] = interactive()
        return super().instantiate_trainer(**kwargs)

    def predict(self, model: L.LightningModule, datamodule: Any, ckpt_path: str | None = None, **_: Any) -> None:
        """Write the class probabilities of the deterministic network to a CSV file, one row a test image, in order."""
        if self.trainer.world_size > 1:
            raise ValueError("predict keeps the order of the images on one device only: --trainer.devices=1")
        batches = self.trainer.predict(model, datamodule=datamodule, ckpt_path=ckpt_path)
        probabilities = torch.cat(batches)  # type: ignore[arg-type]
        labels = datamodule.test_set.labels[: len(probabilities)]
        out = self.config_init["predict"]["out"]
        accuracy = write_predictions(out, probabilities, labels, datamodule.class_names)
        print(f"{count(len(labels), 'image')}, accuracy {100 * accuracy:.2f} %: {out}", flush=True)


def interactive() -> bool:
    """Whether somebody looks on."""
    return sys.stderr.isatty() and sys.stdout.isatty()


def require_gpus(trainer: L.Trainer) -> None:
    """Refuse what several processes have on GPUs only, before the data is loaded.

    Raises:
        ValueError: for SyncBatchNorm on another device.
    """
    asked = getattr(trainer.strategy, "_layer_sync", None) is not None
    if asked and trainer.world_size > 1 and trainer.strategy.root_device.type != "cuda":
        raise ValueError(
            "trainer.sync_batchnorm needs GPUs, other devices have no SyncBatchNorm: remove it, and BatchNorm uses "
            "the statistics of each process's share of a batch"
        )


def process_rank() -> int:
    """Number of this process among those that train one network; the first has 0."""
    return getattr(rank_zero_only, "rank", 0)
