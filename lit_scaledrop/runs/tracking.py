"""Loggers of a run: CSV always, Weights & Biases as a mirror. The record is our JSON."""

import logging
import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from lit_scaledrop.extras import needed
from lit_scaledrop.naming import lookup
from lit_scaledrop.results.glossary import TRAINING

Tracking = Literal["auto", "online", "offline", "disabled"]
STEP = "trainer/global_step"
"""What Lightning draws all metrics over."""
WANDB_URL = "https://api.wandb.ai"
_MODES = {
    "online": "online", "offline": "offline", "disabled": "disabled", "dryrun": "offline", "run": "online",
    "shared": "online",
}  # fmt: skip
"""Values of WANDB_MODE, W&B's older ones among them."""
_SUMMARY = {True: "max,last", False: "min,last", None: "last"}


def wandb_mode(tracking: Tracking) -> str:
    """Mode for ``wandb``: as asked; ``"auto"`` obeys WANDB_MODE and WANDB_DISABLED, is online with a key, else offline.

    Raises:
        ValueError: online without a key, where wandb would ask for one, or a WANDB_MODE that there is not.
    """
    mode: str = tracking
    if tracking == "auto" and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        return "disabled"
    if tracking == "auto" and (asked := os.environ.get("WANDB_MODE", "").lower()):
        mode = _MODES[lookup("WANDB_MODE", asked, _MODES)]
    if mode == "auto":
        return "online" if _has_key() else "offline"
    if mode == "online" and not _has_key():
        raise ValueError("online tracking needs a W&B API key: set WANDB_API_KEY, or use --run.tracking=offline")
    return mode


def build_loggers(run_dir: Path, *wandb: Any, own: Sequence[Logger] = (), **options: Any) -> list[Logger]:
    """CSV logger, that of :func:`wandb_logger` with the same arguments if there is one, and the user's.

    ``logs/version_N`` of the run's folder takes the CSV of attempt N, so a resumed run loses none.

    Args:
        run_dir: folder of the run.
        wandb: arguments of :func:`wandb_logger` behind the folder.
        own: the user's loggers; a W&B logger among them takes the place of ours.
        options: further arguments of :func:`wandb_logger`.
    """
    has_own = any(isinstance(logger, WandbLogger) for logger in own)
    mirror = None if has_own else wandb_logger(run_dir, *wandb, **options)
    return [CSVLogger(run_dir, name="logs"), *([] if mirror is None else [mirror]), *own]


def wandb_logger(
    folder: Path,
    tracking: Tracking,
    project: str,
    group: str,
    name: str,
    tags: list[str],
    job_type: str = "fit",
    entity: str | None = None,
    notes: str | None = None,
) -> Logger | None:
    """W&B logger; ``None`` if tracking is disabled or wandb is not installed. Its run begins with the first log.

    Where W&B does not answer, the run is an offline one, and a line says so.

    Args:
        folder: where offline runs go.
        tracking: see :func:`wandb_mode`.
        project: W&B project.
        group: W&B group, e.g. the sweep; WANDB_RUN_GROUP goes before it.
        name: W&B display name; WANDB_NAME goes before it.
        tags: W&B tags.
        job_type: ``"fit"`` or ``"assess"``.
        entity: W&B user or team; by default WANDB_ENTITY or the key's own.
        notes: about the run; by default WANDB_NOTES.
    """
    mode = wandb_mode(tracking)
    if mode == "disabled":
        return None
    try:
        import wandb  # noqa: F401  a bare cluster node may lack it
    except ImportError:
        lacks = "wandb is not installed: tracking goes to CSV and JSON only (%s)"
        logging.getLogger(__name__).warning(lacks, needed("wandb"))
        return None
    if mode == "online" and not reachable(os.environ.get("WANDB_BASE_URL") or WANDB_URL):
        _say_offline("it does not answer")
        mode = "offline"
    try:
        Path.home()
    except RuntimeError:  # neither HOME nor a name, as in some containers: W&B wants a place for its settings
        os.environ["HOME"] = str(folder.absolute())
    # offline=True alone went online on resume (Lightning#12502)
    os.environ["WANDB_MODE"] = mode
    os.environ.setdefault("WANDB_SILENT", "true")
    # a new id per attempt: offline runs that share one do not merge when they are synced (wandb#3841)
    options: dict[str, Any] = {"group": os.environ.get("WANDB_RUN_GROUP", group), "tags": tags, "job_type": job_type}
    options |= {key: value for key, value in (("entity", entity), ("notes", notes)) if value}
    name = os.environ.get("WANDB_NAME") or name
    return WandbLogger(name, str(folder.absolute()), offline=mode == "offline", project=project, **options)


def reachable(url: str, seconds: float = 5.0) -> bool:
    """Whether a server answers in time, whatever it says, through the proxies of the environment."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
            answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)
        except (OSError, ValueError) as error:  # a certificate that only W&B's own client knows is an answer
            answers.append(isinstance(getattr(error, "reason", None), ssl.SSLError))

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name has no time limit of its own
    thread.start()
    thread.join(seconds)
    return answers == [True]


def start_loggers(loggers: Sequence[Logger], config: dict[str, Any]) -> None:
    """Begin a run with its configuration, and tell W&B how to sum up what the training logs: best and last value.

    Which value is the best one is in the glossary. What is logged once needs no more than Lightning's default: its only
    value, over the step. A W&B run that cannot begin online begins offline.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _begin(logger)
        logger.log_hyperparams(config)
        define = getattr(_wandb_run(logger), "define_metric", None)
        if define is None:
            continue
        for name, entry in TRAINING.items():
            define(name, step_metric=STEP, summary=_SUMMARY[entry.higher_is_better])


def _begin(logger: Any) -> None:
    """Begin a W&B run, offline if it cannot be otherwise."""
    settings = getattr(logger, "_wandb_init", {})
    settings.pop("anonymous", None)  # Lightning gives it, and W&B warns of it
    try:
        logger.experiment  # noqa: B018  begins it
    except Exception as error:  # whatever its service, its network or its key lead to
        if getattr(logger, "_offline", True):
            raise
        _say_offline(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        os.environ["WANDB_MODE"] = settings["mode"] = "offline"
        logger._offline = True
        logger.experiment  # noqa: B018


def _say_offline(why: str) -> None:
    print(
        f"scaledrop: W&B cannot be reached ({why}): the run is logged offline, `wandb sync` uploads it later; "
        f"--run.tracking=offline or disabled skips this check",
        file=sys.stderr,
        flush=True,
    )


def finish_loggers(loggers: Sequence[Logger], metrics: dict[str, float], step: int) -> None:
    """Log a run's last metrics at ``step`` and close what is open."""
    for logger in loggers:
        logger.log_metrics(metrics, step)
        logger.finalize("success")
        # W&B's run, which the next one in this process would join otherwise
        finish = getattr(_wandb_run(logger), "finish", None)
        if finish is not None:
            finish()


def _wandb_run(logger: Logger) -> Any:
    """W&B's run, in other processes than the first a stand-in; ``None`` of another tracker."""
    return logger.experiment if isinstance(logger, WandbLogger) else None


def log_artifacts(loggers: Sequence[Logger], result: Path, checkpoint: Path | None = None) -> None:
    """Give W&B the result of a run, and the checkpoint that it is of, as artifacts of online runs.

    An offline run has none: its result lies in our results folder, and a copy in W&B's would be a second record.
    """
    for logger in loggers:
        run = _wandb_run(logger)
        if hasattr(run, "log_artifact") and not run.offline:
            add_artifacts(run, result, checkpoint)


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
