"""The training of a planned ``fit``, from its start or from where it stopped to its record."""

import os
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import SaveConfigCallback

import datamodules.base  # all of it, so that --data finds its classes by name
from lit_scaledrop.callbacks import (
    AttemptTimer,
    CrossbarEnergy,
    EpochLines,
    EstimatorSchedule,
    LearningCurve,
    RunCheckpoint,
    TimeUpError,
    ValidationComes,
)
from lit_scaledrop.cli.lightning import BaseCLI, interactive, process_rank
from lit_scaledrop.cli.planning import require_variation
from lit_scaledrop.evaluation.checkpoint import CheckpointError, fit_weights, load_trained, read_checkpoint
from lit_scaledrop.evaluation.evaluate import diagnosed, evaluate_network, normalized_test_set
from lit_scaledrop.evaluation.on_chip import on_chip
from lit_scaledrop.modules.anybody import baseline_of, method_of, metrics_of, monitor_of, network_of, require_fit
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.posterior.diagnosis import Diagnosis
from lit_scaledrop.results import provenance
from lit_scaledrop.results.measurement import Measurement, flat_names
from lit_scaledrop.runs import forecast
from lit_scaledrop.runs.media import log_media
from lit_scaledrop.runs.plan import RunPlan
from lit_scaledrop.runs.record import RunRecord, keep_or_write, training_record
from lit_scaledrop.runs.run import resume_checkpoint
from lit_scaledrop.runs.tracking import build_loggers, finish_loggers, log_artifacts, start_loggers


class Training(BaseCLI):
    """A planned ``fit``: resumes, trains, evaluates the checkpoint that it chose, and records."""

    save_config = SaveConfigCallback

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        super().__init__(plan.words, {"subcommand": "fit", "fit": plan.settings.clone()})

    def before_instantiate_classes(self) -> None:
        """Find where the run resumes."""
        config = self.config["fit"]
        self.timer = AttemptTimer(config["trainer"]["max_time"])
        own = resume_checkpoint(self.plan.folder, process_rank() == 0, self._shapes)
        config["ckpt_path"] = str(own) if own else config["ckpt_path"]

    def _shapes(self) -> dict[str, torch.Size]:
        """Of the tensors of the network that is to be trained."""
        with torch.random.fork_rng(devices=[]):
            model = self.plan.build()["model"]
        return {name: tensor.shape for name, tensor in model.state_dict().items()}

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        super().instantiate_classes()
        require_variation(self.plan, self.plan.evaluation, self.model)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Trainer with our loggers and callbacks beside the user's."""
        config, plan = self.config_init["fit"]["trainer"], self.plan
        self.checkpoint = RunCheckpoint(
            plan.folder / "checkpoints", "best-{epoch}", monitor=monitor_of(self.model), mode="max", save_last=True
        )
        bar = interactive() and find_spec("rich") is not None
        kwargs |= {
            "max_time": None,  # or Lightning would make a second timer
            "callbacks": [
                *(config["callbacks"] or []),
                EstimatorSchedule(),
                LearningCurve(),
                ValidationComes(),
                self.checkpoint,
                self.timer,
                RichProgressBar() if bar else EpochLines(),
            ],
            "default_root_dir": str(plan.folder),
            "enable_progress_bar": bar,
        }
        if config["logger"] is not False:
            model = plan.config["model"]
            arguments = model.get("init_args") or {}
            what = arguments.get("network", model["class_path"]), arguments.get("method", "own")
            name = f"{what[0]}-{what[1]}-s{plan.config['seed_everything']}"
            tags = [plan.run.profile, plan.run.study, plan.id]
            run, given = plan.run, config["logger"]
            own = [] if given in (None, True) else given if isinstance(given, list) else [given]
            asked = {"entity": run.entity, "notes": run.notes}
            shown = (run.tracking, run.project, run.study, run.name or name, tags)
            kwargs["logger"] = build_loggers(plan.folder, *shown, own=own, **asked)
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Note when and from which code the training begins, and start the loggers."""
        if isinstance(self.datamodule, datamodules.base.DataModule):
            self.datamodule.setup("fit")  # what is not there is said before a tracker has begun
            require_fit(self.model, self.datamodule)
        # now, not at the end: the tree may be edited while the run trains
        self.started, self.commit = datetime.now(UTC), provenance.commit()
        start_loggers(self.trainer.loggers, {"id": self.plan.id, **self.plan.recorded(self.datamodule)})
        forecast.announce(self.trainer, self.model, self.datamodule, self.plan.run.profile)

    def after_fit(self) -> None:
        """Evaluate the chosen checkpoint on one device and write the result."""
        plan, device = self.plan, self.trainer.strategy.root_device
        rank, world = self.trainer.global_rank, self.trainer.world_size
        if world > 1:
            # the other ranks leave; a collective of rank 0 alone would hang
            torch.distributed.destroy_process_group()
        if rank:
            return
        if self.timer.time_up:
            epochs, of = self.trainer.current_epoch, self.trainer.max_epochs
            raise TimeUpError(
                f"trainer.max_time reached after epoch {epochs}{f' of {of}' if of and of > 0 else ''}: no result "
                f"yet, the same command resumes"
            )
        if self.config_init["fit"]["trainer"]["fast_dev_run"]:
            print("fast_dev_run: a trial run, no result is written", flush=True)
            return
        which = plan.evaluation.checkpoint
        path = self.checkpoint.best_model_path if which == "best" else self.checkpoint.last_model_path
        if not path:
            raise CheckpointError("training wrote no checkpoint: there was no validation")
        self._record(Path(path), device)

    def _record(self, path: Path, device: torch.device) -> None:
        """Evaluate a checkpoint, and write and log what was found."""
        plan, data, compiled = self.plan, self.datamodule, bool(self.model.hparams.get("compile_network"))
        model = self._trained(path, compiled)
        network = network_of(model)
        measured = metrics_of(model, plan.evaluation, data)
        asked = on_chip([network.to(device)], plan.evaluation, data, device)
        metrics, how = evaluate_network(asked, normalized_test_set(data), plan.evaluation, measured, device)
        epoch = read_checkpoint(path)["epoch"]
        training = training_record(self.trainer, self.timer, self.checkpoint, epoch, compiled)
        record = RunRecord.of(plan, data, self.started, self.commit, method_of(self.model))
        energy = self._energy(network)
        # in front of the result, which is written once: what is killed between them is evaluated again
        diagnosis = self._diagnose(path, device)
        found = diagnosis.records() if diagnosis else []
        of_test = Measurement(metrics | energy | baseline_of(model, data))
        written = keep_or_write(record.result(data, training, how, [of_test, *found]), plan.run)
        place = os.path.relpath(path)
        print(f"checkpoint: {place}", flush=True)
        loggers, step = self.trainer.loggers, self.trainer.global_step
        log_media(loggers, model, measured, data, plan.evaluation, step)
        log_artifacts(loggers, written, path)
        logged = {f"test/{name}": value for name, value in metrics.items()} | energy
        finish_loggers(loggers, logged | flat_names(found), step)
        if diagnosis and diagnosis.agrees:
            print(
                f"{diagnosis.sentence()}; `scaledrop summary --checkpoint {place}` shows details by layer", flush=True
            )

    def _trained(self, path: Path, compiled: bool = False) -> L.LightningModule:
        """The module with the weights of a checkpoint: ours built anew, the user's own the one that was trained."""
        if isinstance(self.model, LitNetwork):
            return load_trained(path, compile_network=compiled)
        fit_weights(self.model, read_checkpoint(path)["state_dict"], path)
        return self.model.float().eval()

    def _diagnose(self, path: Path, device: torch.device) -> Diagnosis | None:
        """Diagnosis of the random bits; the result is kept if it fails."""
        try:
            network = network_of(self._trained(path))  # not compiled: outputs of single layers are read
            return diagnosed(network, self.datamodule, self.plan.evaluation.samples, device)
        except Exception as error:
            print(f"no diagnosis ({type(error).__name__}: {error})", flush=True)
            return None

    def _energy(self, network: torch.nn.Module) -> dict[str, float]:
        """Energy on the chip, where the callback that counts it is there."""
        metrics: dict[str, float] = {}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, CrossbarEnergy):
                image, _ = self.datamodule.test_set[0]
                metrics |= callback.finish(self.trainer, network, tuple(image.shape))
        return metrics
