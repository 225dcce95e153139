"""Loggers of a run: CSV always, Weights & Biases as a mirror. The record is our JSON."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger

from lit_scaledrop.results.glossary import TRAINING

Tracking = Literal["auto", "online", "offline", "disabled"]
STEP = "trainer/global_step"
"""What Lightning draws all metrics over."""
_SUMMARY = {True: "max,last", False: "min,last", None: "last"}


def wandb_mode(tracking: Tracking) -> str:
    """Mode for ``wandb``: as asked; ``"auto"`` obeys WANDB_MODE, is online with a key and offline without one.

    Raises:
        ValueError: online without a key, where wandb would ask for one.
    """
    mode = os.environ.get("WANDB_MODE") or "auto" if tracking == "auto" else tracking
    if mode == "auto":
        return "online" if _has_key() else "offline"
    if mode == "online" and not _has_key():
        raise ValueError("online tracking needs a W&B key: set WANDB_API_KEY, or take --run.tracking=offline")
    return mode


def build_loggers(run_dir: Path, *wandb: Any) -> list[Logger]:
    """CSV logger, and that of :func:`wandb_logger` with the same arguments if there is one.

    ``logs/version_N`` of the run's folder takes the CSV of attempt N, so a resumed run loses none.
    """
    mirror = wandb_logger(run_dir, *wandb)
    return [CSVLogger(run_dir, name="logs"), *([] if mirror is None else [mirror])]


def wandb_logger(
    folder: Path, tracking: Tracking, project: str, group: str, name: str, tags: list[str], job_type: str = "fit"
) -> Logger | None:
    """W&B logger; ``None`` if tracking is disabled or wandb is not installed. Its run begins with the first log.

    Args:
        folder: where offline runs go.
        tracking: see :func:`wandb_mode`.
        project: W&B project.
        group: W&B group, e.g. the sweep; WANDB_RUN_GROUP goes before it.
        name: W&B display name.
        tags: W&B tags.
        job_type: ``"fit"`` or ``"assess"``.
    """
    mode = wandb_mode(tracking)
    if mode == "disabled":
        return None
    try:
        import wandb  # noqa: F401  a bare cluster node may lack it
        from lightning.pytorch.loggers import WandbLogger
    except ImportError:
        logging.getLogger(__name__).warning("wandb is not installed: tracking goes to CSV and JSON only")
        return None
    # offline=True alone went online on resume (Lightning#12502)
    os.environ["WANDB_MODE"] = mode
    os.environ.setdefault("WANDB_SILENT", "true")
    # a new id per attempt: offline runs that share one do not merge when they are synced (wandb#3841)
    options: dict[str, Any] = {"group": os.environ.get("WANDB_RUN_GROUP", group), "tags": tags, "job_type": job_type}
    # W&B's own process, which outlives a run, may have another current folder
    return WandbLogger(name, str(folder.absolute()), offline=mode == "offline", project=project, **options)


def start_loggers(loggers: Sequence[Logger], config: dict[str, Any]) -> None:
    """Begin a run with its configuration, and tell W&B how to sum up what the training logs: best and last value.

    Which value is the best one is in the glossary. What is logged once needs no more than Lightning's default: its only
    value, over the step.
    """
    for logger in loggers:
        logger.log_hyperparams(config)
        define = getattr(getattr(logger, "experiment", None), "define_metric", None)
        if define is None:
            continue
        for name, entry in TRAINING.items():
            define(name, step_metric=STEP, summary=_SUMMARY[entry.higher_is_better])


def finish_loggers(loggers: Sequence[Logger], metrics: dict[str, float], step: int) -> None:
    """Log a run's last metrics at ``step`` and close what is open."""
    for logger in loggers:
        logger.log_metrics(metrics, step)
        logger.finalize("success")
        # W&B's run, which the next one in this process would join otherwise
        finish = getattr(getattr(logger, "experiment", None), "finish", None)
        if finish is not None:
            finish()


def log_artifacts(loggers: Sequence[Logger], result: Path, checkpoint: Path | None = None) -> None:
    """Give W&B the result of a run, and the checkpoint that it is of, as artifacts of online runs.

    An offline run has none: its result lies in our results folder, and a copy in W&B's would be a second record.
    """
    for logger in loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(experiment, "log_artifact") and not experiment.offline:
            add_artifacts(experiment, result, checkpoint)


def add_artifacts(experiment: Any, result: Path, checkpoint: Path | None = None) -> None:
    """Add the files to a W&B run, as ``result-ID`` and ``model-ID``; ID is the result's, so that runs can be found."""
    import wandb

    for kind, path in (("result", result), ("model", checkpoint)):
        if path is not None:
            artifact = wandb.Artifact(f"{kind}-{result.stem}", kind)
            artifact.add_file(str(path), policy="immutable")  # uploaded from where it lies, without a copy
            experiment.log_artifact(artifact)


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        netrc = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    except RuntimeError:  # neither HOME nor a name, as in some containers
        return False
    return netrc.is_file() and "wandb" in netrc.read_text(errors="ignore")
