"""Loggers of a run: CSV always, Weights & Biases as a mirror. The record is our JSON."""

import logging
import os
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger

Tracking = Literal["auto", "online", "offline", "disabled"]


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


def build_loggers(
    run_dir: Path, tracking: Tracking, project: str, group: str, name: str, tags: list[str]
) -> list[Logger]:
    """CSV logger, and the W&B logger unless tracking is disabled or wandb is not installed.

    Args:
        run_dir: folder of the run; ``logs/version_N`` takes the CSV of attempt N, so a resumed run loses none.
        tracking: see :func:`wandb_mode`.
        project: W&B project.
        group: W&B group, e.g. the sweep; WANDB_RUN_GROUP goes before it.
        name: W&B display name.
        tags: W&B tags.
    """
    loggers: list[Logger] = [CSVLogger(run_dir, name="logs")]
    mode = wandb_mode(tracking)
    if mode == "disabled":
        return loggers
    try:
        import wandb  # noqa: F401  a bare cluster node may lack it
        from lightning.pytorch.loggers import WandbLogger
    except ImportError:
        logging.getLogger(__name__).warning("wandb is not installed: tracking goes to CSV and JSON only")
        return loggers
    # offline=True alone went online on resume (Lightning#12502)
    os.environ["WANDB_MODE"] = mode
    os.environ.setdefault("WANDB_SILENT", "true")
    # a new id per attempt: offline runs that share one do not merge when they are synced (wandb#3841)
    options: dict[str, Any] = {"group": os.environ.get("WANDB_RUN_GROUP", group), "tags": tags, "job_type": "fit"}
    loggers.append(WandbLogger(name, str(run_dir), offline=mode == "offline", project=project, **options))
    return loggers


def finish_loggers(loggers: list[Logger], metrics: dict[str, float], step: int) -> None:
    """Log a run's last metrics at ``step`` and close what is open."""
    for logger in loggers:
        logger.log_metrics(metrics, step)
        logger.finalize("success")
        # W&B's run, which the next one in this process would join otherwise
        finish = getattr(getattr(logger, "experiment", None), "finish", None)
        if finish is not None:
            finish()


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    return netrc.is_file() and "wandb" in netrc.read_text(errors="ignore")
