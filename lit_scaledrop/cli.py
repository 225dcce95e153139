"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with our two additions.

A ``fit`` has an identity, the hash of its resolved configuration. Finished runs are not run again; a killed one goes on
in its folder; one that ends is evaluated and leaves ``results/<profile>/<study>/<id>.json``.
"""

import logging
import os
import sys
import warnings
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import datamodules  # noqa: F401  so that --data finds its classes by name
from lit_scaledrop import provenance
from lit_scaledrop.callbacks import EpochLines, EstimatorSchedule
from lit_scaledrop.evaluate import CheckpointError, Evaluation, evaluate_network, load_classifier, normalized_test_set
from lit_scaledrop.identity import run_identity
from lit_scaledrop.methods import Method, get_method
from lit_scaledrop.modules import LitClassifier  # noqa: F401  likewise
from lit_scaledrop.report.results import Result, is_finished, write_result
from lit_scaledrop.run import Run, exclusive, require_writable, resume_checkpoint
from lit_scaledrop.tracking import build_loggers


class ScaleDropCLI(LightningCLI):
    """LightningCLI whose ``fit`` resumes, evaluates and records.

    Args:
        args: command line behind ``scaledrop``.
        plan_only: parse and find the identity, but build and run nothing.
    """

    run_id: str = ""

    def __init__(self, args: list[str], plan_only: bool = False) -> None:
        self.plan_only = plan_only
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"default_config_files": []},
            load_from_checkpoint_support=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where a run belongs, and how it is evaluated."""
        parser.add_class_arguments(Run, "run")
        parser.add_class_arguments(Evaluation, "evaluation")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")
        parser.link_arguments("data.in_channels", "model.init_args.in_channels", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Leave the flags alone: Lightning would let a checkpoint's hyper-parameters override them."""

    def _set_seed(self) -> None:
        if not self.plan_only:
            super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Find out which run this is, whether it can be written, and where it goes on."""
        if self.subcommand != "fit":
            return
        config = self.config["fit"]
        self.resolved = resolved_config(self._parser("fit"), config)
        self.method = _method(self.resolved)
        self.run_id = run_identity(self.resolved, self.method)
        self.run = Run(**config["run"].as_dict())
        Evaluation(**config["evaluation"].as_dict())
        if self.plan_only:
            return
        self.run_dir = self.run.run_dir(self.run_id)
        for folder in (self.run.result_path(self.run_id).parent, self.run_dir):
            require_writable(folder)
        if not config["ckpt_path"]:
            last = resume_checkpoint(self.run_dir)
            config["ckpt_path"] = str(last) if last else None

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, unless only the plan was asked for."""
        if not self.plan_only:
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Trainer with our loggers and callbacks beside the user's."""
        config = self.config_init[self.subcommand]["trainer"]
        if self.subcommand == "fit":
            self.checkpoint = ModelCheckpoint(
                self.run_dir / "checkpoints", "best-{epoch}", monitor="val/acc", mode="max", save_last=True
            )
            self.timer = Timer()
            ours: list[Callback] = [EstimatorSchedule(), self.checkpoint, self.timer]
            ours.append(RichProgressBar() if sys.stderr.isatty() and sys.stdout.isatty() else EpochLines())
            kwargs["callbacks"] = [*(config["callbacks"] or []), *ours]
            kwargs["default_root_dir"] = str(self.run_dir)
            kwargs["enable_progress_bar"] = isinstance(ours[-1], RichProgressBar)
            if config["logger"] is not False:
                arguments = self.resolved["model"]["init_args"]
                name = f"{arguments.get('network')}-{arguments.get('method')}-s{self.resolved['seed_everything']}"
                kwargs["logger"] = build_loggers(
                    self.run_dir, self.run.tracking, self.run.project, self.run.study, name,
                    [self.run.profile, self.run.study, self.run_id],
                )  # fmt: skip
        elif config["logger"] in (None, True):
            kwargs["logger"] = False
        return super().instantiate_trainer(**kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        if self.plan_only:
            return
        if subcommand == "fit":
            # now, not at the end: the tree may be edited while the run trains
            self.started, self.commit = datetime.now(UTC), provenance.commit()
            for logger in self.trainer.loggers:
                logger.log_hyperparams({"id": self.run_id, **self.resolved})
        super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        """Evaluate the chosen checkpoint on one device and write the result."""
        device = self.trainer.strategy.root_device
        rank, world = self.trainer.global_rank, self.trainer.world_size
        if world > 1:
            # the other ranks leave; a collective of rank 0 alone would hang
            torch.distributed.destroy_process_group()
        if rank:
            return
        evaluation = Evaluation(**self.config["fit"]["evaluation"].as_dict())
        path = self.checkpoint.best_model_path if evaluation.checkpoint == "best" else self.checkpoint.last_model_path
        if not path:
            raise CheckpointError("training left no checkpoint: trainer.max_epochs and val_fraction must be above 0")
        model = load_classifier(path, compile_network=self.model.hparams["compile_network"])
        metrics, how = evaluate_network(
            model.network, normalized_test_set(self.datamodule), evaluation, self.datamodule.num_classes, device
        )
        result = self._result(metrics, how, torch.load(path, map_location="cpu", weights_only=True)["epoch"])
        written = write_result(result, self.run.results)
        for logger in self.trainer.loggers:
            logger.log_metrics({f"test/{name}": value for name, value in metrics.items()})
            logger.finalize("success")
        print(f"accuracy {100 * metrics['cls/acc']:.2f} %, NLL {metrics['cls/nll']:.3f}: {written}", flush=True)

    def _result(self, metrics: dict[str, float], how: dict[str, Any], best_epoch: int) -> Result:
        data, arguments = self.datamodule, self.resolved["model"]["init_args"]
        commit, dirty = self.commit
        return Result(
            id=self.run_id,
            study=self.run.study,
            profile=self.run.profile,
            network=arguments["network"],
            method=arguments["method"],
            label=self.model.method.label,
            bits_w=self.model.method.bits_w,
            bits_a=self.model.method.bits_a,
            bayesian=self.model.method.bayesian,
            seed=self.resolved["seed_everything"],
            data={
                "name": data.name,
                "fingerprint": data.fingerprint(),
                "stand_in": data.stand_in,
                "source": data.source,
                **data.sizes(),
            },
            training={
                "epochs": self.trainer.current_epoch,
                "seconds": round(self.timer.time_elapsed("train"), 1),
                "device": provenance.device_name(self.trainer.strategy.root_device),
                "world_size": self.trainer.world_size,
                "precision": str(self.trainer.precision),
                "compiled": bool(arguments.get("compile_network")),
                "best_epoch": best_epoch,
                "val_acc": float(self.checkpoint.best_model_score or 0),
                # last epoch's means: loss terms, validation, and what callbacks log
                "logged": {name: float(value) for name, value in self.trainer.callback_metrics.items()},
            },
            evaluation=how,
            metrics=metrics,
            config=self.resolved,
            provenance={
                "commit": commit,
                "dirty": dirty,
                # the same for all seeds: a mean over seeds never mixes two settings
                "setting": run_identity({**self.resolved, "seed_everything": None}, self.method),
                "command": provenance.command(),
                "started": self.started.isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": provenance.versions(),
            },
        )


def resolved_config(parser: LightningArgumentParser, config: Any) -> dict[str, Any]:
    """Configuration as plain data, every default filled in."""
    text = parser.dump(config, skip_none=False, skip_link_targets=False)
    plain = yaml.safe_load(text)
    for name in ("config", "ckpt_path", "weights_only", "optimizer", "lr_scheduler"):
        plain.pop(name, None)
    # folders of this machine say nothing about the run
    for name in ("results", "runs"):
        plain["run"].pop(name)
    (plain["data"].get("init_args") or {}).pop("root", None)
    return plain


def _method(config: dict[str, Any]) -> Method | None:
    arguments = config["model"].get("init_args") or {}
    if "method" not in arguments:
        return None
    options = {name: arguments.get(name) for name in ("p", "drop_value", "mask", "mask_per")}
    return get_method(arguments["method"]).with_scale(**options, placement=arguments.get("scale_placement"))


def expand_configs(argv: list[str]) -> list[str]:
    """Let ``--profile NAME`` stand for its YAML file, and find the package's own files by their short name.

    Without any ``--config``, a command begins with ``classify.yaml``.
    """
    packaged = Path(str(resources.files("lit_scaledrop.configs")))
    known = sorted(path.stem for path in (packaged / "profile").glob("*.yaml"))
    words: list[str] = []
    for word in argv:
        words += word.split("=", 1) if word.startswith(("--config=", "--profile=")) else [word]
    expanded: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word in ("--config", "--profile") and position + 1 < len(words):
            value = words[position + 1]
            if word == "--profile":
                if value not in known:
                    raise ValueError(f"unknown profile {value!r}; known: {', '.join(known)}; or --config YOUR.yaml")
                value = f"profile/{value}.yaml"
            found = value if os.path.exists(value) or not (packaged / value).is_file() else str(packaged / value)
            expanded += ["--config", found]
            position += 2
        else:
            expanded.append(word)
            position += 1
    has_base = any(Path(word).name in ("classify.yaml", "config.yaml") for word in expanded)
    if expanded and not has_base and not {"-h", "--help"} & set(expanded):
        expanded[1:1] = ["--config", str(packaged / "classify.yaml")]
    return expanded


def planned_result(argv: list[str]) -> Path:
    """Path of the result that ``scaledrop fit`` with ``argv`` behind it will write; nothing is built or run."""
    quiet()
    cli = ScaleDropCLI(expand_configs(["fit", *argv]), plan_only=True)
    return cli.run.result_path(cli.run_id)


def main(argv: list[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict``."""
    quiet()
    argv = expand_configs(argv)
    if argv[0] != "fit" or {"-h", "--help"} & set(argv) or any(word.startswith("--print_config") for word in argv):
        ScaleDropCLI(argv)
        return 0
    plan = ScaleDropCLI(argv, plan_only=True)
    with exclusive(plan.run.run_dir(plan.run_id)):
        path = plan.run.result_path(plan.run_id)
        if is_finished(path):
            print(f"finished already: {path}")
            return 0
        ScaleDropCLI(argv)
    return 0


def quiet() -> None:
    """Keep Lightning's adverts and hints that do not apply to in-memory data out of the console."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated.*")  # Lightning's own, with torch 2.14
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
