"""LightningCLI that plans a ``fit``, and one that runs it: resumes, evaluates the checkpoint that it chose, records."""

import functools
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import datamodules  # noqa: F401  so that --data finds its classes by name
from lit_scaledrop.callbacks import (
    AttemptTimer,
    CrossbarEnergy,
    EpochLines,
    EstimatorSchedule,
    LearningCurve,
    MTJVariation,
    RunCheckpoint,
    TimeUpError,
    ValidationComes,
    evaluation_with,
)
from lit_scaledrop.cli.checks import require_model_optimizer, require_trainer, require_validation
from lit_scaledrop.cli.errors import explain
from lit_scaledrop.cli.flags import WORDS, expand_configs, known_flags
from lit_scaledrop.evaluation.checkpoint import (
    CheckpointError,
    fit_weights,
    load_trained,
    read_checkpoint,
)
from lit_scaledrop.evaluation.evaluate import evaluate_network, normalized_test_set, write_predictions
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results import provenance
from lit_scaledrop.runs import forecast
from lit_scaledrop.runs.compiler import require_compiler
from lit_scaledrop.runs.identity import FROM_DATA, class_of
from lit_scaledrop.runs.media import log_media
from lit_scaledrop.runs.plan import RunPlan, plain_refusals
from lit_scaledrop.runs.record import RunRecord, keep_or_write, training_record
from lit_scaledrop.runs.run import Run, resume_checkpoint
from lit_scaledrop.runs.tracking import build_loggers, finish_loggers, log_artifacts, start_loggers


class BaseCLI(LightningCLI):
    """LightningCLI with our words for configuration files, our groups of settings, and errors of one line.

    Args:
        words: command line behind ``scaledrop``.
        args: the same parsed; by default it is parsed from the words.
    """

    def __init__(self, words: Sequence[str], args: dict[str, Any] | None = None) -> None:
        self.words = tuple(words)
        strict = {"exit_on_error": False}  # errors come as exceptions: see parse_arguments
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
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
        except ArgumentError as error:
            command = self.words[0] if self.words[0] in self._subcommand_parsers else "fit"
            raise ArgumentError(None, explain(error, known_flags(self._parser(command)))) from error

    def _parse_ckpt_path(self) -> None:
        """Leave the flags alone: Lightning would let a checkpoint's hyper-parameters override them."""


class Planner(BaseCLI):
    """Parser of ``fit`` alone, made once for any number of plans; builds and runs nothing."""

    def __init__(self) -> None:
        super().__init__(["fit"], args={})

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """That of a plan."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse when a plan is asked for; see :meth:`plan`."""
        self.config = Namespace(subcommand=None) if not args else self.config
        if args:
            super().parse_arguments(parser, args)

    def _set_seed(self) -> None:
        """Leave the random streams alone."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""

    def plan(self, flags: Sequence[str]) -> RunPlan:
        """Check the flags of a ``fit``, and find what it would be."""
        self.words = ("fit", *flags)
        self.parse_arguments(self.parser, expand_configs(list(self.words)))
        settings, parser = self.config["fit"], self._parser("fit")
        require_model_optimizer(settings)
        evaluation = evaluation_with(_variations(settings), Evaluation(**settings["evaluation"].as_dict()))
        plan = RunPlan(self.words, settings, evaluation, parser)
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

    Args:
        plan: what is to be trained.
        evaluation: how it will be asked, if not as the plan says.

    Returns:
        Model and data, as a namespace.

    Raises:
        ValueError: what they say.
    """
    with torch.random.fork_rng(devices=[]):
        built = plan.build()
    _require_variation(plan, evaluation or plan.evaluation, built["model"])
    return built


def _require_variation(plan: RunPlan, evaluation: Evaluation, model: L.LightningModule) -> None:
    varied = [callback.variation for callback in _variations(plan.settings)]
    for variation in filter(None, (*varied, evaluation.variation)):
        variation.require(model)


class ScaleDropCLI(BaseCLI):
    """The commands; a ``fit`` resumes, evaluates and records.

    Args:
        words: command line behind ``scaledrop``.
        plan: what a ``fit`` is.
    """

    def __init__(self, words: Sequence[str], plan: RunPlan | None = None) -> None:
        self.plan = plan
        super().__init__(words, None if plan is None else {"subcommand": "fit", "fit": plan.settings.clone()})

    def before_instantiate_classes(self) -> None:
        """Find where the run goes on."""
        config = self.config[self.subcommand]
        require_model_optimizer(config)
        if self.plan is None:
            if not config["ckpt_path"]:
                raise CheckpointError(f"{self.subcommand} needs the network of a run: add --ckpt_path FILE")
            return
        self.timer = AttemptTimer(config["trainer"]["max_time"])
        own = resume_checkpoint(self.plan.folder, first=process_rank() == 0)
        config["ckpt_path"] = str(own) if own else config["ckpt_path"]

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        with plain_refusals():
            super().instantiate_classes()
        if self.plan is not None:
            _require_variation(self.plan, self.plan.evaluation, self.model)
        require_gpus(self.trainer)
        if self.model.hparams.get("compile_network"):
            require_compiler(self.trainer.strategy.root_device)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Trainer with our loggers and callbacks beside the user's."""
        config = self.config_init[self.subcommand]["trainer"]
        interactive = sys.stderr.isatty() and sys.stdout.isatty()
        if not config["plugins"] and SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            # its own requeueing would go on from the middle of an epoch; ours does from the end of one
            kwargs["plugins"] = [SLURMEnvironment(auto_requeue=False)]
        if (plan := self.plan) is not None:
            self.checkpoint = RunCheckpoint(
                plan.folder / "checkpoints", "best-{epoch}", monitor=self.model.monitor, mode="max", save_last=True
            )
            kwargs["max_time"] = None  # or Lightning would make a second timer
            ours: list[Callback] = [
                EstimatorSchedule(),
                LearningCurve(),
                ValidationComes(),
                self.checkpoint,
                self.timer,
            ]
            ours.append(RichProgressBar() if interactive and find_spec("rich") else EpochLines())
            kwargs["callbacks"] = [*(config["callbacks"] or []), *ours]
            kwargs["default_root_dir"] = str(plan.folder)
            kwargs["enable_progress_bar"] = isinstance(ours[-1], RichProgressBar)
            if config["logger"] is not False:
                arguments = plan.config["model"]["init_args"]
                name = f"{arguments.get('network')}-{arguments.get('method')}-s{plan.config['seed_everything']}"
                kwargs["logger"] = build_loggers(
                    plan.folder, plan.run.tracking, plan.run.project, plan.run.study, name,
                    [plan.run.profile, plan.run.study, plan.id],
                )  # fmt: skip
        else:
            if config["logger"] in (None, True):
                kwargs["logger"] = False
            if config["enable_progress_bar"] is None:
                kwargs["enable_progress_bar"] = interactive
        return super().instantiate_trainer(**kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        if self.plan is not None:
            # now, not at the end: the tree may be edited while the run trains
            self.started, self.commit = datetime.now(UTC), provenance.commit()
            start_loggers(self.trainer.loggers, {"id": self.plan.id, **self.plan.recorded(self.datamodule)})
            forecast.announce(self.trainer, self.model, self.datamodule, self.plan.run.profile)
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

    def predict(self, model: L.LightningModule, datamodule: Any, ckpt_path: str | None = None, **_: Any) -> None:
        """Write the class probabilities of the deterministic network to a CSV file, one row a test image, in order."""
        if self.trainer.world_size > 1:
            raise ValueError("predict keeps the order of the images on one device only: --trainer.devices=1")
        batches = self.trainer.predict(model, datamodule=datamodule, ckpt_path=ckpt_path)
        probabilities = torch.cat(batches)  # type: ignore[arg-type]
        labels = datamodule.test_set.labels[: len(probabilities)]
        out = self.config_init["predict"]["out"]
        accuracy = write_predictions(out, probabilities, labels, datamodule.class_names)
        print(f"{len(labels)} images, accuracy {100 * accuracy:.2f} %: {out}", flush=True)

    def after_fit(self) -> None:
        """Evaluate the chosen checkpoint on one device and write the result."""
        plan, device = self.plan, self.trainer.strategy.root_device
        assert plan is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        if world > 1:
            # the other ranks leave; a collective of rank 0 alone would hang
            torch.distributed.destroy_process_group()
        if rank:
            return
        if self.timer.time_up:
            epochs, of = self.trainer.current_epoch, self.trainer.max_epochs
            raise TimeUpError(
                f"trainer.max_time is up after epoch {epochs}{f' of {of}' if of and of > 0 else ''}: nothing is "
                "recorded yet, the same command goes on where this one stopped"
            )
        if self.config_init["fit"]["trainer"]["fast_dev_run"]:
            print("fast_dev_run: a trial of the code, nothing is recorded", flush=True)
            return
        evaluation = plan.evaluation
        path = self.checkpoint.best_model_path if evaluation.checkpoint == "best" else self.checkpoint.last_model_path
        if not path:
            raise CheckpointError("training left no checkpoint: there was no validation")
        model = load_trained(path, compile_network=self.model.hparams["compile_network"])
        measured = model.test_metrics(evaluation)
        metrics, how = evaluate_network(
            model.network, normalized_test_set(self.datamodule), evaluation, measured, device
        )
        epoch, compiled = read_checkpoint(path)["epoch"], self.model.hparams["compile_network"]
        training = training_record(self.trainer, self.timer, self.checkpoint, epoch, compiled)
        record = RunRecord.of(plan, self.datamodule, self.started, self.commit, self.model.method)
        energy = self._energy(model.network)
        result = record.result(self.datamodule, training, how, metrics | energy | model.baseline(self.datamodule))
        tested = {f"test/{name}": value for name, value in metrics.items()}
        written = keep_or_write(result, plan.run)
        loggers, step = self.trainer.loggers, self.trainer.global_step
        log_media(loggers, model, measured, self.datamodule, evaluation, step)
        log_artifacts(loggers, written, Path(path))
        finish_loggers(loggers, tested | energy, step)

    def _energy(self, network: torch.nn.Module) -> dict[str, float]:
        """Energy on the chip, where the callback that counts it is there."""
        metrics: dict[str, float] = {}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, CrossbarEnergy):
                image, _ = self.datamodule.test_set[0]
                metrics |= callback.finish(self.trainer, network, tuple(image.shape))
        return metrics


def require_gpus(trainer: L.Trainer) -> None:
    """Refuse what several processes have on GPUs only, before the data is loaded.

    Raises:
        ValueError: for SyncBatchNorm on another device.
    """
    asked = getattr(trainer.strategy, "_layer_sync", None) is not None
    if asked and trainer.world_size > 1 and trainer.strategy.root_device.type != "cuda":
        raise ValueError(
            "trainer.sync_batchnorm needs GPUs, other devices have no SyncBatchNorm: leave it out, and BatchNorm takes "
            "its statistics from each process's share of a batch"
        )


def process_rank() -> int:
    """Number of this process among those that train one network; the first has 0."""
    return getattr(rank_zero_only, "rank", 0)
