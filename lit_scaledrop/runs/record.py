"""From a trained and evaluated run to its result: what was run, on what, for how long, by which code."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint, Timer

from lit_scaledrop.callbacks.learning_curve import LOSS, LearningCurve
from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks.own import OWN
from lit_scaledrop.results import provenance
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.run_logs import curve, logged_points
from lit_scaledrop.results.schema import Data, EvaluationRecord, Training
from lit_scaledrop.results.store import is_finished, read_result, write_result
from lit_scaledrop.runs.identity import run_identity
from lit_scaledrop.runs.plan import RunPlan
from lit_scaledrop.runs.run import UNFINISHED, Run


def training_record(
    trainer: L.Trainer, timer: Timer, checkpoint: ModelCheckpoint, best_epoch: int, compiled: bool
) -> dict[str, Any]:
    """What a result says of the training.

    Args:
        trainer: after ``fit``.
        timer: its training time, over all the attempts of a run that was killed and resumed.
        checkpoint: the callback that chose by a metric of the validation split.
        best_epoch: epoch of the evaluated checkpoint, counted from 0.
        compiled: whether the network ran through ``torch.compile``.
    """
    score = checkpoint.best_model_score
    if score is None:
        raise ValueError(f"no {checkpoint.monitor} was recorded; data.val_fraction must be above 0")
    # attempts before the callback was there left their logs only
    points = logged_points(Path(trainer.default_root_dir), (str(checkpoint.monitor), LOSS))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LearningCurve):
            points |= callback.points
    return {
        "epochs": trainer.current_epoch,
        "seconds": round(timer.time_elapsed("train"), 1),
        "device": provenance.device_name(trainer.strategy.root_device),
        "world_size": trainer.world_size,
        "precision": str(trainer.precision),
        "compiled": compiled,
        "best_epoch": best_epoch,
        **_chosen_by(str(checkpoint.monitor), float(score)),
        # last epoch's means: loss terms, validation, and what callbacks log
        "logged": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "curve": curve({epoch: values for epoch, values in points.items() if epoch <= trainer.current_epoch}),
    }


def _chosen_by(monitor: str, score: float) -> dict[str, Any]:
    """The score of the chosen checkpoint as a record has it."""
    if monitor in ("val/acc", "val/iou"):
        return {monitor.replace("/", "_"): score}
    return {"monitored": {monitor: score}}


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run before its numbers are."""

    id: str
    run: Run
    config: dict[str, Any]
    """resolved configuration"""
    method: Method
    words: Sequence[str]
    """command line behind ``scaledrop``"""
    started: datetime
    commit: tuple[str, bool]
    """commit at the start, and whether the tree had changes"""

    @classmethod
    def of(cls, plan: RunPlan, data: Any, started: datetime, commit: tuple[str, bool], method: Method) -> "RunRecord":
        """Record of a planned training; ``data`` says what the model was told of it."""
        return cls(plan.id, plan.run, plan.recorded(data), method, plan.words, started, commit)

    def result(
        self, data: Any, training: dict[str, Any], evaluation: dict[str, Any], measurements: list[Measurement]
    ) -> Result:
        """The result of the run, of which ``evaluation`` says how the numbers were obtained."""
        model = self.config["model"]
        arguments = {"network": model["class_path"], "method": "own", **(model.get("init_args") or {})}
        sizes = data.sizes()
        # the same for all seeds: a mean over seeds never mixes two settings
        setting = run_identity({**self.config, "seed_everything": None}, self.method)
        return Result(
            id=self.id,
            study=self.run.study,
            profile=self.run.profile,
            network=arguments["network"],
            method=arguments["method"],
            label=self.method.label,
            bits_w=self.method.bits_w,
            bits_a=self.method.bits_a,
            bayesian=self.method.bayesian or (self.method is OWN and evaluation["samples"] > 1),
            seed=self.config["seed_everything"],
            data=Data(
                name=data.name,
                fingerprint=data.fingerprint(),
                stand_in=data.stand_in,
                source=data.source,
                train=sizes["train"],
                val=sizes["val"],
                test=sizes["test"],
            ),
            training=cast(Training, training),
            evaluation=cast(EvaluationRecord, evaluation),
            measurements=measurements,
            config=self.config,
            provenance=provenance.of_run(self.commit, setting, self.words, self.started),
        )


def keep_or_write(result: Result, run: Run) -> Path:
    """Write the result of a run, unless one is there; then keep that and lay this one beside the checkpoints.

    A repository has results without checkpoints. Who needs the network trains it anew, maybe on another machine with
    other rounding; the record of the first training stays what it is, and the second says how it differs.

    Returns:
        The file that was written.
    """
    path = run.result_path(result.id)
    if not is_finished(path):
        written = write_result(result, run.results)
        print(f"{headline(result.metrics)}: {written}", flush=True)
        return written
    recorded = read_result(path).metrics
    write_atomic(beside := run.retrained_path(result.id), result.to_json())
    (run.run_dir(result.id) / UNFINISHED).unlink(missing_ok=True)
    print(
        f"retrained: {headline(result.metrics)}: {beside}; {path} is kept, it has {headline(recorded)}",
        flush=True,
    )
    return beside


def headline(metrics: dict[str, float]) -> str:
    """The two numbers that a run ends with.

    >>> headline({"cls/acc": 0.5, "cls/nll": 1.0, "cal/ece": 0.0}), headline({"seg/iou": 0.5, "seg/nll": 1.0})
    ('accuracy 50.00 %, NLL 1.000', 'IoU 50.00 %, NLL 1.000')
    """
    name, task = ("accuracy", "cls/acc") if "cls/acc" in metrics else ("IoU", "seg/iou")
    return f"{name} {100 * metrics[task]:.2f} %, NLL {metrics[task.partition('/')[0] + '/nll']:.3f}"
