"""Loggers of a run: CSV always, Weights & Biases as a mirror. The record is our JSON."""

import logging
import os
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger

Tracking = Literal["auto", "online", "offline", "disabled"]


def wandb_mode(tracking: Tracking) -> str:
    """Mode for ``wandb``: as asked; ``"auto"`` obeys WANDB_MODE, is online with a key and offline without one.

    Never asks: without a key, ``"auto"`` is offline.
    """
    if tracking != "auto":
        return tracking
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if _has_key() else "offline"


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


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path.home() / ".netrc"
    return netrc.is_file() and "wandb" in netrc.read_text(errors="ignore")
